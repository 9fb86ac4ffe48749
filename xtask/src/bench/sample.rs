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
    /// Why there are no more of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) failure: Option<String>,
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
    /// Programs by their names, of which the first is held against the second, too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) pairs: Vec<[String; 2]>,
}

impl Measured {
    /// The program of that name, if it ran.
    pub(crate) fn row(&self, name: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.name == name).filter(|row| row.has_run())
    }

    /// Ours, if it ran.
    pub(crate) fn ours(&self) -> Option<&Row> {
        self.rows.first().filter(|row| row.has_run())
    }
}

impl Row {
    /// Of a program that has not run yet.
    pub(crate) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), samples: Vec::new(), failure: None }
    }

    /// Whether there is anything to tell of it.
    pub(crate) fn has_run(&self) -> bool {
        !self.samples.is_empty()
    }

    /// The median over all runs of one of the figures.
    pub(crate) fn median(&self, figure: impl Fn(&Sample) -> f64) -> f64 {
        median(self.samples.iter().map(figure).collect())
    }

    /// How much more than the other's figure this one's is, in pairs as [`Self::ratio_to`].
    pub(crate) fn more_than(&self, other: &Self, figure: impl Fn(&Sample) -> f64) -> f64 {
        let pairs = self.samples.iter().zip(&other.samples);
        median(pairs.map(|(own, other)| figure(own) - figure(other)).collect())
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

/// Results for the tests of what is made of them.
#[cfg(test)]
impl Measured {
    pub(crate) fn made_up(case: &str, rows: Vec<Row>) -> Self {
        let [title, date, revision] = ["a title", "2026-11-26", "abc"].map(str::to_owned);
        Self { case: case.to_owned(), title, date, revision, rows, pairs: Vec::new() }
    }
}

#[cfg(test)]
impl Row {
    /// A run for each wall time, of 4 ms of CPU and 2 MiB of memory.
    pub(crate) fn made_up(name: &str, walls: &[f64]) -> Self {
        let sample = |&wall_seconds: &f64| Sample {
            wall_seconds,
            cpu_seconds: 0.004,
            peak_kib: 2048,
            disk_bytes: None,
            wire_bytes: None,
        };
        Self { samples: walls.iter().map(sample).collect(), ..Self::new(name) }
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
        Row::made_up("", walls)
    }

    #[test]
    fn one_slow_run_moves_neither_the_median_nor_the_ratio() {
        let (own, other) = (row(&[1.0, 9.0, 2.0]), row(&[2.0, 18.0, 4.0]));
        let wall = |sample: &Sample| sample.wall_seconds;
        let is = |value: f64, expected: f64| (value - expected).abs() < 1e-9;
        assert!(is(own.median(wall), 2.0));
        assert!(is(own.ratio_to(&other, wall), 0.5));
        assert!(is(own.more_than(&other, wall), -2.0));
        assert!(is(row(&[1.0, 2.0]).median(wall), 1.5));
        assert_eq!(own.bytes(|sample| sample.disk_bytes), None);
    }
}
