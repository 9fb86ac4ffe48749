//! [`Table`]: columns of text, aligned by what is seen of them.

use anstyle::Style;

use crate::style;

/// Rows of cells under a header.
#[derive(Debug)]
pub(crate) struct Table<const N: usize> {
    header: [&'static str; N],
    rows: Vec<[Cell; N]>,
}

/// A text and its style.
#[derive(Debug, Default)]
pub(crate) struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    pub(crate) fn new(style: Style, text: impl Into<String>) -> Self {
        Self { text: text.into(), style }
    }

    fn width(&self) -> usize {
        self.text.chars().count()
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::new(Style::new(), text)
    }
}

impl<const N: usize> Table<N> {
    pub(crate) fn new(header: [&'static str; N]) -> Self {
        Self { header, rows: Vec::new() }
    }

    pub(crate) fn push(&mut self, row: [Cell; N]) {
        self.rows.push(row);
    }

    /// The table as lines, two spaces between the columns and none at the end of a line.
    pub(crate) fn render(self) -> String {
        let header = self.header.map(|title| Cell::new(style::HEADER, title));
        let mut rows = vec![header];
        rows.extend(self.rows);
        let widths: [usize; N] = std::array::from_fn(|column| {
            rows.iter().map(|row| row[column].width()).max().unwrap_or_default()
        });
        let mut text = String::new();
        for row in &rows {
            let last = row.iter().rposition(|cell| !cell.text.is_empty()).unwrap_or_default();
            for (column, cell) in row.iter().enumerate().take(last + 1) {
                text.push_str(&style::paint(cell.style, &cell.text));
                if column < last {
                    text.push_str(&" ".repeat(widths[column] - cell.width() + 2));
                }
            }
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_lines_end_with_text() {
        let mut table = Table::new(["A", "B", "C"]);
        table.push(["long".into(), "x".into(), Cell::default()]);
        table.push(["s".into(), Cell::default(), "end".into()]);
        let plain = anstream::adapter::strip_str(&table.render()).to_string();
        assert_eq!(plain, "A     B  C\nlong  x\ns        end\n");
    }
}
