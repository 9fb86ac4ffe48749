//! [`Sample`] and what is made of many: what one run cost, medians, and ratios in pairs.

use serde::{Deserialize, Serialize};

/// What one run of one program cost.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// From its start to its end.
    pub(crate) wall_seconds: f64,
    /// Of it and of every process that it waited for, in user and kernel mode.
    pub(crate) cpu_seconds: f64,
    /// The most memory that one of its processes had at a time.
    pub(crate) peak_kib: u64,
    /// What it left on the disk, as `du` counts it, where the case is about that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) disk_bytes: Option<u64>,
    /// What the server sent, where the case is about that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) wire_bytes: Option<u64>,
}

/// All runs of one program in a case.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) samples: Vec<Sample>,
}

/// All runs of a case; kept as JSON, so that cases can be measured one at a time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Measured {
    pub(crate) case: String,
    pub(crate) title: String,
    /// The day (UTC).
    pub(crate) date: String,
    /// The revision of the work tree.
    pub(crate) revision: String,
    /// The programs; the first is ours, against which the others are held.
    pub(crate) rows: Vec<Row>,
}

impl Row {
    /// The median over all runs of one of the figures.
    pub(crate) fn median(&self, figure: impl Fn(&Sample) -> f64) -> f64 {
        median(self.samples.iter().map(figure).collect())
    }

    /// The largest peak of memory, in KiB.
    pub(crate) fn peak_kib(&self) -> u64 {
        self.samples.iter().map(|sample| sample.peak_kib).max().unwrap_or(0)
    }

    /// The median of a figure that not every case has.
    pub(crate) fn bytes(&self, figure: impl Fn(&Sample) -> Option<u64>) -> Option<f64> {
        let all: Option<Vec<f64>> =
            self.samples.iter().map(|sample| figure(sample).map(|bytes| bytes as f64)).collect();
        all.filter(|all| !all.is_empty()).map(median)
    }

    /// How much of the other's figure this one's is: the median of the ratios of the runs that
    /// followed each other, so that a slow minute of the machine counts for both.
    pub(crate) fn ratio_to(&self, other: &Self, figure: impl Fn(&Sample) -> f64) -> f64 {
        let pairs = self.samples.iter().zip(&other.samples);
        median(pairs.map(|(own, other)| figure(own) / figure(other)).collect())
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => values[count / 2],
        count => f64::midpoint(values[count / 2 - 1], values[count / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(walls: &[f64]) -> Row {
        let sample = |&wall_seconds: &f64| Sample {
            wall_seconds,
            cpu_seconds: 0.0,
            peak_kib: 1,
            disk_bytes: None,
            wire_bytes: None,
        };
        Row { name: String::new(), samples: walls.iter().map(sample).collect() }
    }

    #[test]
    fn one_slow_run_moves_neither_the_median_nor_the_ratio() {
        let (own, other) = (row(&[1.0, 9.0, 2.0]), row(&[2.0, 18.0, 4.0]));
        let wall = |sample: &Sample| sample.wall_seconds;
        let is = |value: f64, expected: f64| (value - expected).abs() < 1e-9;
        assert!(is(own.median(wall), 2.0));
        assert!(is(own.ratio_to(&other, wall), 0.5));
        assert!(is(row(&[1.0, 2.0]).median(wall), 1.5));
        assert_eq!(own.bytes(|sample| sample.disk_bytes), None);
    }
}
