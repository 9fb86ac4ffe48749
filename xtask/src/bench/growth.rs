//! How results grow, as a chart: the cases of one kind that differ in a number alone, with a line
//! for each program.

use std::fmt::Write as _;

use super::report::time;
use super::sample::Measured;

/// Cases that belong together: how their names begin, and what the number behind that counts.
const KINDS: [(&str, &str); 3] = [
    ("size-", "cold, one image of so many MiB from nginx on loopback"),
    ("images", "cold, so many images of 1 + 4 MiB in one process"),
    (
        "disk-",
        "a VM with its own disk, of an image of so many MiB, an eighth of it data; reflinks on XFS",
    ),
];

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 80.0;
const PLOT: (f64, f64) = (540.0, 220.0);
const TOP: f64 = 40.0;

/// Ours, and the others.
const COLOURS: [&str; 6] = ["#2f6f9f", "#8a929b", "#c08a2d", "#7a5c99", "#4f8a5b", "#a8514c"];

/// One program's times by that number.
struct Line<'a> {
    name: &'a str,
    points: Vec<(f64, f64)>,
}

/// An SVG image (<https://www.w3.org/TR/SVG11/>) with a plot for each kind of which two cases or
/// more were measured.
pub(crate) fn svg(all: &[Measured]) -> String {
    let mut body = String::new();
    let mut y = 10.0;
    for (prefix, title) in KINDS {
        let lines = lines_of(all, prefix);
        if lines.iter().any(|line| line.points.len() > 1) {
            plot(&mut body, title, &lines, y);
            y += HEIGHT;
        }
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{y}\" \
         viewBox=\"0 0 {WIDTH} {y}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n{body}</svg>\n"
    )
}

/// The programs of all cases whose name is the prefix and a number.
fn lines_of<'a>(all: &'a [Measured], prefix: &str) -> Vec<Line<'a>> {
    let mut lines: Vec<Line<'a>> = Vec::new();
    for measured in all {
        let number = measured.case.strip_prefix(prefix).map(|rest| rest.trim_start_matches('-'));
        let Some(number) = number.and_then(|rest| rest.parse::<u32>().ok()) else { continue };
        for row in measured.rows.iter().filter(|row| row.has_run()) {
            let point = (f64::from(number), row.median(|sample| sample.wall_seconds));
            match lines.iter_mut().find(|line| line.name == row.name) {
                Some(line) => line.points.push(point),
                None => lines.push(Line { name: &row.name, points: vec![point] }),
            }
        }
    }
    for line in &mut lines {
        line.points.sort_by(|one, other| one.0.total_cmp(&other.0));
    }
    lines
}

/// Draws both axes from zero, so that a straight line is growth in proportion.
fn plot(body: &mut String, title: &str, lines: &[Line<'_>], y: f64) {
    let all = || lines.iter().flat_map(|line| &line.points);
    let most = |figure: fn(&(f64, f64)) -> f64| all().map(figure).fold(f64::MIN_POSITIVE, f64::max);
    let (widest, highest) = (most(|point| point.0), most(|point| point.1));
    let at = |&(number, seconds): &(f64, f64)| {
        let bottom = y + TOP + PLOT.1;
        (LEFT + number / widest * PLOT.0, bottom - seconds / highest * PLOT.1)
    };
    // Writing to a String does not fail.
    let _ = writeln!(
        body,
        "<text x=\"10\" y=\"{}\" font-weight=\"bold\">{title}</text>\
         <path d=\"M{LEFT},{} v{} h{}\" fill=\"none\" stroke=\"#444\"/>\
         <text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>",
        y + 20.0,
        y + TOP,
        PLOT.1,
        PLOT.0,
        LEFT - 6.0,
        y + TOP + 10.0,
        time(highest)
    );
    let mut numbers: Vec<f64> = all().map(|point| point.0).collect();
    numbers.sort_by(f64::total_cmp);
    numbers.dedup();
    for number in numbers {
        let (x, _) = at(&(number, 0.0));
        let below = y + TOP + PLOT.1 + 16.0;
        let _ = writeln!(
            body,
            "<text x=\"{x:.1}\" y=\"{below}\" text-anchor=\"middle\">{number}</text>"
        );
    }
    for (number, line) in lines.iter().enumerate() {
        let colour = COLOURS[number.min(COLOURS.len() - 1)];
        let points: Vec<(f64, f64)> = line.points.iter().map(at).collect();
        let path: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let legend = y + TOP + 14.0 + 18.0 * number as f64;
        let _ = writeln!(
            body,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>\
             <text x=\"{}\" y=\"{legend}\" fill=\"{colour}\">{}</text>",
            path.join(" "),
            LEFT + PLOT.0 + 16.0,
            super::chart::escaped(line.name)
        );
        for (x, y) in points {
            let _ =
                writeln!(body, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::sample::Row;

    fn measured(case: &str, times: [f64; 2]) -> Measured {
        let rows = ["ours", "theirs"].into_iter().zip(times);
        let rows = rows.map(|(name, wall)| Row::made_up(name, &[wall])).collect();
        Measured::made_up(case, rows)
    }

    #[test]
    fn a_line_for_each_program_over_the_cases_that_differ_in_a_number() {
        let cases = [
            measured("size-1024", [2.0, 4.0]),
            measured("cold", [9.0, 9.0]),
            measured("size-256", [0.5, 1.0]),
            measured("images8", [1.0, 1.0]),
        ];
        let svg = svg(&cases);
        assert_eq!(svg.matches("<polyline").count(), 2, "{svg}");
        // A quarter of the width, an eighth and a quarter of the height; the end at the top.
        assert!(svg.contains("points=\"215.0,242.5 620.0,160.0\""), "{svg}");
        assert!(svg.contains("points=\"215.0,215.0 620.0,50.0\""), "{svg}");
        assert!(!svg.contains("many images"), "one case is no growth");
    }
}
