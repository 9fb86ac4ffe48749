//! [`Ranges`]: which bytes of a file there are, as few stretches as possible.

use std::collections::BTreeMap;
use std::ops::Range;

/// Stretches of bytes that neither overlap nor touch, by where they begin.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ranges(BTreeMap<u64, u64>);

impl Ranges {
    /// Adds a stretch, and joins it with those that it touches.
    pub(crate) fn insert(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let (mut start, mut end) = (range.start, range.end);
        if let Some((&earlier, &its_end)) = self.0.range(..=start).next_back()
            && its_end >= start
        {
            start = earlier;
            end = end.max(its_end);
        }
        while let Some((&later, &its_end)) = self.0.range(start..=end).next() {
            end = end.max(its_end);
            self.0.remove(&later);
        }
        self.0.insert(start, end);
    }

    /// Where the stretch ends that has the byte at a position.
    pub(crate) fn end_at(&self, position: u64) -> Option<u64> {
        let (_, &end) = self.0.range(..=position).next_back()?;
        (end > position).then_some(end)
    }

    /// The stretches between those that there are, within a range.
    pub(crate) fn missing(&self, within: Range<u64>) -> Vec<Range<u64>> {
        let mut missing = Vec::new();
        let mut position = self.end_at(within.start).unwrap_or(within.start);
        while position < within.end {
            let next = self.0.range(position..within.end).next();
            let (start, end) = next.map_or((within.end, within.end), |(&start, &end)| (start, end));
            missing.push(position..start);
            position = end;
        }
        missing
    }

    /// Forgets everything from a position on.
    pub(crate) fn retain_below(&mut self, position: u64) {
        self.0.split_off(&position);
        if let Some(mut last) = self.0.last_entry()
            && *last.get() > position
        {
            last.insert(position);
        }
    }

    /// Bytes in all.
    pub(crate) fn total(&self) -> u64 {
        self.iter().map(|range| range.end - range.start).sum()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Range<u64>> {
        self.0.iter().map(|(&start, &end)| start..end)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn stretches_that_touch_become_one() {
        let mut ranges = Ranges::default();
        for range in [10..20, 30..40, 20..25, 5..5, 50..60] {
            ranges.insert(range);
        }
        assert_eq!(ranges.iter().collect::<Vec<_>>(), [10..25, 30..40, 50..60]);
        assert_eq!(ranges.missing(0..70), [0..10, 25..30, 40..50, 60..70]);
        assert_eq!(ranges.missing(12..24), []);
        assert_eq!((ranges.end_at(10), ranges.end_at(25)), (Some(25), None));
        ranges.insert(0..55);
        assert_eq!((ranges.end_at(0), ranges.total()), (Some(60), 60));
        ranges.insert(70..80);
        ranges.retain_below(70);
        ranges.retain_below(33);
        assert_eq!((ranges.end_at(0), ranges.total()), (Some(33), 33));
    }

    proptest! {
        #[test]
        fn they_know_of_every_byte_whether_it_is_there(
            pieces in prop::collection::vec((0_u64..64, 0_u64..16), 0..20),
            within in (0_u64..80, 0_u64..80),
        ) {
            let (mut ranges, mut bytes) = (Ranges::default(), [false; 80]);
            for (start, length) in pieces {
                ranges.insert(start..start + length);
                for at in start..start + length {
                    bytes[usize::try_from(at).unwrap()] = true;
                }
            }
            prop_assert_eq!(ranges.total(), bytes.iter().filter(|&&there| there).count() as u64);
            let missing = ranges.missing(within.0..within.1);
            for at in 0_u64..80 {
                let there = bytes[usize::try_from(at).unwrap()];
                prop_assert_eq!(ranges.end_at(at).is_some(), there);
                let asked = (within.0..within.1).contains(&at);
                prop_assert_eq!(missing.iter().any(|range| range.contains(&at)), asked && !there);
            }
            prop_assert!(missing.iter().all(|range| !range.is_empty()));
        }
    }
}
