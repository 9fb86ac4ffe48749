//! The results as a Markdown table, and the document that holds it.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::sample::{Measured, Row, Sample};

/// What stands around the results in a document that is not all results.
const BEGIN: &str = "<!-- results: begin -->";
const END: &str = "<!-- results: end -->";

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
    let runs = measured.rows.first().map_or(0, |row| row.samples.len());
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
    for row in &measured.rows {
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
        cells.extend(ratios(measured.rows.first(), row));
        let _ = writeln!(text, "| {} |", cells.join(" | "));
    }
    text
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

/// Puts the results between the two marks of a document; the rest of it is somebody's words.
pub(crate) fn update(document: &Path, results: &str) -> Result<()> {
    let text = fs_err::read_to_string(document)?;
    let missing = || format!("{} lacks the line {BEGIN} or {END}", document.display());
    let (before, rest) = text.split_once(BEGIN).with_context(missing)?;
    let (_, after) = rest.split_once(END).with_context(missing)?;
    let updated = format!("{before}{BEGIN}\n\n{}\n\n{END}{after}", results.trim());
    Ok(fs_err::write(document, updated)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured() -> Measured {
        let row = |name: &str, wall_seconds| Row {
            name: name.to_owned(),
            samples: vec![Sample {
                wall_seconds,
                cpu_seconds: 0.004,
                peak_kib: 2048,
                disk_bytes: None,
                wire_bytes: None,
            }],
        };
        Measured {
            case: "cold".to_owned(),
            title: "a title".to_owned(),
            date: "2026-11-26".to_owned(),
            revision: "abc".to_owned(),
            rows: vec![row("ours", 0.5), row("curl", 1.0)],
        }
    }

    #[test]
    fn a_table_has_medians_and_ratios() {
        let table = table(&measured());
        assert!(table.contains("| ours | 0.50 s | 4.00 ms | 2.0 MiB |  |  |"), "{table}");
        assert!(table.contains("| curl | 1.00 s | 4.00 ms | 2.0 MiB | 0.50 | 1.00 |"), "{table}");
    }

    #[test]
    fn a_document_keeps_what_stands_around_the_results() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("document.md");
        fs_err::write(&path, format!("before\n{BEGIN}\nold\n{END}\nafter\n")).unwrap();
        update(&path, "new\n").unwrap();
        let text = fs_err::read_to_string(&path).unwrap();
        assert_eq!(text, format!("before\n{BEGIN}\n\nnew\n\n{END}\nafter\n"));
        fs_err::write(&path, "no marks").unwrap();
        assert!(update(&path, "new").is_err());
    }
}
