//! What was to be reached, and whether it was: a line for each aim, from the results of its case.

use std::fmt::Write as _;

use super::cases::Case;
use super::files::MIB;
use super::peers::{
    ARIA2C, ARIA2C_CHECKED, CURL, CURL_PARALLEL, CURL_THEN_OPENSSL, NOTHING, OPENSSL, PYTHON_SMOLVM,
};
use super::report::time;
use super::sample::{Measured, Row, Sample};

/// A figure of a case that is to be at most so much.
struct Aim {
    case: Case,
    figure: Figure,
    at_most: f64,
}

enum Figure {
    /// Our wall time as a share of that program's, in pairs.
    Ratio(&'static str),
    /// Our wall time less that program's, in pairs and seconds.
    Beyond(&'static str),
    /// Our wall time in seconds.
    Wall,
    /// What our program has from the server, in bytes.
    Wire,
}

const AIMS: &[Aim] = &[
    Aim { case: Case::Cold, figure: Figure::Ratio(CURL), at_most: 0.80 },
    Aim { case: Case::Cold, figure: Figure::Ratio(CURL_PARALLEL), at_most: 1.0 },
    Aim { case: Case::Cold, figure: Figure::Ratio(CURL_THEN_OPENSSL), at_most: 0.45 },
    Aim { case: Case::Cold, figure: Figure::Ratio(PYTHON_SMOLVM), at_most: 0.20 },
    Aim { case: Case::ColdLarge, figure: Figure::Ratio(OPENSSL), at_most: 1.15 },
    Aim { case: Case::Limited, figure: Figure::Ratio(ARIA2C), at_most: 0.85 },
    Aim { case: Case::Limited, figure: Figure::Ratio(ARIA2C_CHECKED), at_most: 0.45 },
    Aim { case: Case::WarmAlways, figure: Figure::Ratio(OPENSSL), at_most: 1.0 },
    Aim { case: Case::WarmChanged, figure: Figure::Beyond(NOTHING), at_most: 0.003 },
    Aim { case: Case::Path, figure: Figure::Wall, at_most: 0.003 },
    // A tenth of the file, and a MiB.
    Aim { case: Case::Resume, figure: Figure::Wire, at_most: 31.0 * MIB as f64 },
];

/// What our program may take of memory in any of the cases that have an aim.
const MEMORY_MIB: f64 = 32.0;

/// All aims as a Markdown table; what was not measured is not said to be met.
pub(crate) fn markdown(all: &[Measured]) -> String {
    let mut text =
        "| case | figure | at most | measured | met |\n|---|---|---|---|---|\n".to_owned();
    for aim in AIMS {
        let measured = all.iter().find(|measured| measured.case == aim.case.name());
        let value = measured.and_then(|measured| aim.figure.of(measured));
        let shown = |value| aim.figure.shown(value);
        line(&mut text, &aim.case.name(), &aim.figure.name(), aim.at_most, value, shown);
    }
    let has_aim = |measured: &&Measured| AIMS.iter().any(|aim| aim.case.name() == measured.case);
    let ours = all.iter().filter(has_aim).filter_map(Measured::ours);
    let most = ours.map(|row| row.peak_kib() as f64 / 1024.0).reduce(f64::max);
    let mebibytes = |value: f64| format!("{value:.1} MiB");
    line(&mut text, "all of these", "peak memory of ours", MEMORY_MIB, most, mebibytes);
    text
}

fn line(
    text: &mut String,
    case: &str,
    figure: &str,
    at_most: f64,
    value: Option<f64>,
    shown: impl Fn(f64) -> String,
) {
    let (measured, met) = match value {
        None => ("not measured".to_owned(), ""),
        Some(value) if value <= at_most => (shown(value), "yes"),
        Some(value) => (shown(value), "**no**"),
    };
    // Writing to a String does not fail.
    let _ = writeln!(text, "| `{case}` | {figure} | {} | {measured} | {met} |", shown(at_most));
}

impl Figure {
    fn name(&self) -> String {
        match self {
            Self::Ratio(other) => format!("wall time / {other}"),
            Self::Beyond(other) => format!("wall time beyond `{other}`"),
            Self::Wall => "wall time".to_owned(),
            Self::Wire => "bytes on the wire".to_owned(),
        }
    }

    /// None where ours or the other program has not run.
    fn of(&self, measured: &Measured) -> Option<f64> {
        let ours = measured.ours()?;
        let wall = |sample: &Sample| sample.wall_seconds;
        let other = |name| -> Option<&Row> { measured.row(name) };
        match *self {
            Self::Ratio(name) => Some(ours.ratio_to(other(name)?, wall)),
            Self::Beyond(name) => Some(ours.more_than(other(name)?, wall)),
            Self::Wall => Some(ours.median(wall)),
            Self::Wire => ours.bytes(|sample| sample.wire_bytes),
        }
    }

    fn shown(&self, value: f64) -> String {
        match self {
            Self::Ratio(_) => format!("{value:.2}"),
            Self::Beyond(_) | Self::Wall => time(value),
            Self::Wire => format!("{:.1} MiB", value / MIB as f64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_aim_is_met_or_not_or_was_not_measured() {
        let cold = Measured::made_up(
            "cold",
            vec![Row::made_up("ours", &[0.8, 0.9, 8.0]), Row::made_up(CURL, &[1.0, 1.0, 10.0])],
        );
        let mut limited = Measured::made_up(
            "limited",
            vec![Row::made_up("ours", &[0.9]), Row::made_up(ARIA2C, &[1.0])],
        );
        limited.rows[0].samples[0].peak_kib = 33 << 10;
        let table = markdown(&[cold, limited]);
        assert!(table.contains("| `cold` | wall time / curl | 0.80 | 0.80 | yes |"), "{table}");
        assert!(table.contains("curl -Z | 1.00 | not measured |  |"), "{table}");
        assert!(
            table.contains("| `limited` | wall time / aria2c -x8 | 0.85 | 0.90 | **no** |"),
            "{table}"
        );
        assert!(table.contains("32.0 MiB | 33.0 MiB | **no** |"), "{table}");
        assert_eq!(table.lines().count(), 2 + AIMS.len() + 1);
    }

    #[test]
    fn seconds_beyond_and_bytes_on_the_wire_have_their_units() {
        let rows = vec![Row::made_up("ours", &[0.004]), Row::made_up(NOTHING, &[0.0015])];
        let changed = Measured::made_up("warm-changed", rows);
        let mut resume = Measured::made_up("resume", vec![Row::made_up("ours", &[0.1])]);
        resume.rows[0].samples[0].wire_bytes = Some(30 * MIB);
        let table = markdown(&[changed, resume]);
        assert!(table.contains("beyond `true` | 3.00 ms | 2.50 ms | yes |"), "{table}");
        assert!(table.contains("bytes on the wire | 31.0 MiB | 30.0 MiB | yes |"), "{table}");
    }
}
