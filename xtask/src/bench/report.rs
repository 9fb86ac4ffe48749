//! The results as a Markdown table, and the document that holds it.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::sample::{Measured, Row, Sample};

/// What a document has between two marks, around which somebody's words stand.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Part {
    /// Which aims are met.
    Aims,
    /// The tables of all cases.
    Results,
}

impl Part {
    fn marks(self) -> [String; 2] {
        let name = match self {
            Self::Aims => "aims",
            Self::Results => "results",
        };
        ["begin", "end"].map(|end| format!("<!-- {name}: {end} -->"))
    }
}

/// All results, a table for each case.
pub(crate) fn markdown(all: &[Measured]) -> String {
    let mut text = String::new();
    for measured in all {
        // Writing to a String does not fail.
        let _ = writeln!(text, "{}\n", table(measured));
    }
    text
}

/// One case: the medians of each program, and the ratio of ours to it in pairs.
fn table(measured: &Measured) -> String {
    let runs = measured.rows.iter().map(|row| row.samples.len()).max().unwrap_or(0);
    let disk = measured.rows.iter().any(|row| row.bytes(|sample| sample.disk_bytes).is_some());
    let wire = measured.rows.iter().any(|row| row.bytes(|sample| sample.wire_bytes).is_some());
    let mut columns = vec!["program", "wall", "CPU", "peak memory"];
    columns.extend(disk.then_some("on disk"));
    columns.extend(wire.then_some("on the wire"));
    columns.extend(["ours / it: wall", "CPU"]);

    let mut text = format!(
        "### {}\n\n`--case {}`, {} runs in turn, {}, revision {}\n\n| {} |\n|{}\n",
        measured.title,
        measured.case,
        runs,
        measured.date,
        measured.revision,
        columns.join(" | "),
        "---|".repeat(columns.len())
    );
    for row in measured.rows.iter().filter(|row| row.has_run()) {
        let mut cells = vec![
            row.name.clone(),
            time(row.median(|sample| sample.wall_seconds)),
            time(row.median(|sample| sample.cpu_seconds)),
            bytes(row.peak_kib() as f64 * 1024.0),
        ];
        let optional =
            |figure: fn(&Sample) -> Option<u64>| row.bytes(figure).map_or(String::new(), bytes);
        cells.extend(disk.then(|| optional(|sample| sample.disk_bytes)));
        cells.extend(wire.then(|| optional(|sample| sample.wire_bytes)));
        cells.extend(ratios(measured.ours(), row));
        let _ = writeln!(text, "| {} |", cells.join(" | "));
    }
    for line in pairs(measured).into_iter().chain(failures(measured)) {
        let _ = write!(text, "\n{line}\n");
    }
    text
}

/// What is held against what beside the first program against the others.
fn pairs(measured: &Measured) -> Vec<String> {
    let line = |[own, other]: &[String; 2]| {
        let pair = (measured.row(own)?, measured.row(other)?);
        let [wall, cpu] = ratios(Some(pair.0), pair.1);
        Some(format!("{own} / {other}: wall {wall}, CPU {cpu}"))
    };
    measured.pairs.iter().filter_map(line).collect()
}

fn failures(measured: &Measured) -> Vec<String> {
    let line = |row: &Row| {
        let reason = row.failure.as_ref()?;
        let reason = reason.lines().next().unwrap_or_default();
        Some(format!("{} failed after {} runs: {reason}", row.name, row.samples.len()))
    };
    measured.rows.iter().filter_map(line).collect()
}

fn ratios(ours: Option<&Row>, row: &Row) -> [String; 2] {
    let Some(ours) = ours.filter(|ours| ours.name != row.name) else {
        return [String::new(), String::new()];
    };
    let ratio = |figure: fn(&Sample) -> f64| format!("{:.2}", ours.ratio_to(row, figure));
    [ratio(|sample| sample.wall_seconds), ratio(|sample| sample.cpu_seconds)]
}

pub(super) fn time(seconds: f64) -> String {
    match seconds {
        s if s < 0.000_1 => format!("{:.1} µs", s * 1e6),
        s if s < 0.1 => format!("{:.2} ms", s * 1e3),
        s => format!("{s:.2} s"),
    }
}

fn bytes(bytes: f64) -> String {
    format!("{:.1} MiB", bytes / f64::from(1 << 20))
}

/// Puts a new text between two marks of a document.
pub(crate) fn update(document: &Path, part: Part, new: &str) -> Result<()> {
    let text = fs_err::read_to_string(document)?;
    let [begin, end] = part.marks();
    let missing = || format!("{} lacks the line {begin} or {end}", document.display());
    let (before, rest) = text.split_once(&begin).with_context(missing)?;
    let (_, after) = rest.split_once(&end).with_context(missing)?;
    let updated = format!("{before}{begin}\n\n{}\n\n{end}{after}", new.trim());
    Ok(fs_err::write(document, updated)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured() -> Measured {
        let rows = vec![Row::made_up("ours", &[0.5]), Row::made_up("curl", &[1.0])];
        Measured::made_up("cold", rows)
    }

    #[test]
    fn a_table_has_medians_and_ratios() {
        let table = table(&measured());
        assert!(table.contains("| ours | 0.50 s | 4.00 ms | 2.0 MiB |  |  |"), "{table}");
        assert!(table.contains("| curl | 1.00 s | 4.00 ms | 2.0 MiB | 0.50 | 1.00 |"), "{table}");
    }

    #[test]
    fn a_program_that_failed_is_named_and_the_others_stay() {
        let mut measured = measured();
        measured.rows[1].failure = Some("no such file\nand more".to_owned());
        measured.rows.push(Row { failure: Some("missing".to_owned()), ..Row::new("wget") });
        let table = table(&measured);
        assert!(table.contains("| curl | 1.00 s"), "{table}");
        assert!(table.contains("\ncurl failed after 1 runs: no such file\n"), "{table}");
        assert!(table.contains("\nwget failed after 0 runs: missing\n"), "{table}");
        assert!(!table.contains("NaN") && !table.contains("and more"), "{table}");

        // Without ours there is nothing to hold the others against.
        measured.rows[0].samples.clear();
        let table = super::table(&measured);
        assert!(table.contains("| curl | 1.00 s | 4.00 ms | 2.0 MiB |  |  |"), "{table}");
    }

    #[test]
    fn other_pairs_stand_below_a_table() {
        let mut measured = measured();
        measured.pairs = vec![
            ["curl", "ours"].map(str::to_owned),
            ["curl", "what did not run"].map(str::to_owned),
        ];
        let table = table(&measured);
        assert!(table.contains("\ncurl / ours: wall 2.00, CPU 1.00\n"), "{table}");
        assert!(!table.contains("did not run"), "{table}");
    }

    #[test]
    fn a_document_keeps_what_stands_around_the_results() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("document.md");
        let [begin, end] = Part::Results.marks();
        fs_err::write(&path, format!("before\n{begin}\nold\n{end}\nafter\n")).unwrap();
        update(&path, Part::Results, "new\n").unwrap();
        let text = fs_err::read_to_string(&path).unwrap();
        assert_eq!(text, format!("before\n{begin}\n\nnew\n\n{end}\nafter\n"));
        assert!(update(&path, Part::Aims, "new").is_err(), "it has no place for them");
    }
}
