//! The results as a chart: for each case a bar for each program, as long as its median wall time.

use std::fmt::Write as _;

use super::report::time;
use super::sample::{Measured, Row};

const WIDTH: f64 = 860.0;
const LABELS: f64 = 250.0;
const LONGEST: f64 = 500.0;
const BAR: f64 = 16.0;
const STEP: f64 = 22.0;
const TITLE: f64 = 34.0;

/// Ours, and the others.
const COLOURS: [&str; 2] = ["#2f6f9f", "#b9bec4"];

/// An SVG image (<https://www.w3.org/TR/SVG11/>).
pub(crate) fn svg(all: &[Measured]) -> String {
    let mut body = String::new();
    let mut y = 10.0;
    for measured in all {
        y = case(&mut body, measured, y);
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{y}\" \
         viewBox=\"0 0 {WIDTH} {y}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n{body}</svg>\n"
    )
}

/// Draws one case from `y` on, and says where the next one begins.
fn case(body: &mut String, measured: &Measured, y: f64) -> f64 {
    let wall = |row: &Row| row.median(|sample| sample.wall_seconds);
    let rows: Vec<&Row> = measured.rows.iter().filter(|row| row.has_run()).collect();
    let longest = rows.iter().map(|row| wall(row)).fold(f64::MIN_POSITIVE, f64::max);
    let title = escaped(&measured.title);
    // Writing to a String does not fail.
    let _ = writeln!(
        body,
        "<text x=\"10\" y=\"{}\" font-weight=\"bold\">{title}</text>",
        y + TITLE - 14.0
    );
    for (number, row) in rows.iter().enumerate() {
        let (top, middle) = (y + TITLE + STEP * number as f64, BAR - 4.0);
        let length = (wall(row) / longest * LONGEST).max(1.0);
        let colour = COLOURS[usize::from(row.name != measured.rows[0].name)];
        let _ = writeln!(
            body,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>\
             <rect x=\"{LABELS}\" y=\"{top}\" width=\"{length:.1}\" height=\"{BAR}\" fill=\"{colour}\"/>\
             <text x=\"{:.1}\" y=\"{}\">{}</text>",
            LABELS - 8.0,
            top + middle,
            escaped(&row.name.replace('\\', "")),
            LABELS + length + 6.0,
            top + middle,
            time(wall(row))
        );
    }
    y + TITLE + STEP * rows.len() as f64 + 8.0
}

/// Text as it stands in an SVG image.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_long_as_their_times() {
        let row = |wall| Row::made_up("a & b", &[wall]);
        let failed = Row::new("failed");
        let measured = Measured::made_up("cold", vec![row(1.0), failed, row(2.0)]);
        let svg = svg(&[measured]);
        assert!(svg.contains("width=\"250.0\"") && svg.contains("width=\"500.0\""), "{svg}");
        assert!(svg.contains("a &amp; b") && !svg.contains("a & b"), "{svg}");
        assert!(!svg.contains("NaN") && !svg.contains("failed"), "{svg}");
    }
}
