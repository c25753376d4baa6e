//! Tables: data once, rendered fitted to a terminal or as tab-separated lines.

use comfy_table::{ContentArrangement, presets};

/// What a cell means; red and amber always come with a word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Tone {
    /// Nothing special.
    #[default]
    Plain,
    /// As it should be.
    Good,
    /// Worth a look.
    Warn,
    /// Not as it should be.
    Bad,
    /// Of little interest.
    Faint,
}

impl Tone {
    /// The terminal's number for the colour.
    pub(super) fn ansi(self) -> Option<&'static str> {
        match self {
            Tone::Plain => None,
            Tone::Good => Some("32"),
            Tone::Warn => Some("33"),
            Tone::Bad => Some("31"),
            Tone::Faint => Some("90"),
        }
    }

    fn color(self) -> Option<comfy_table::Color> {
        match self {
            Tone::Plain => None,
            Tone::Good => Some(comfy_table::Color::DarkGreen),
            Tone::Warn => Some(comfy_table::Color::DarkYellow),
            Tone::Bad => Some(comfy_table::Color::DarkRed),
            Tone::Faint => Some(comfy_table::Color::DarkGrey),
        }
    }
}

/// One cell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// A cell in a colour.
    #[must_use]
    pub(crate) fn toned(tone: Tone, text: impl Into<String>) -> Cell {
        Cell { text: text.into(), tone }
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Cell {
        Cell { text, tone: Tone::Plain }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Cell {
        Cell { text: text.to_owned(), tone: Tone::Plain }
    }
}

/// A table with a header.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Table {
    header: Vec<String>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// An empty table; headers are written in capitals.
    #[must_use]
    pub(crate) fn new(header: &[&str]) -> Table {
        Table { header: header.iter().map(|title| (*title).to_owned()).collect(), rows: Vec::new() }
    }

    /// Adds a row; it has as many cells as the header.
    pub(crate) fn row<C: Into<Cell>>(&mut self, cells: impl IntoIterator<Item = C>) {
        let row: Vec<Cell> = cells.into_iter().map(Into::into).collect();
        assert_eq!(row.len(), self.header.len(), "a row has as many cells as the header");
        self.rows.push(row);
    }

    /// For a terminal: columns aligned, long cells wrapped to its width.
    #[must_use]
    pub(crate) fn fitted(&self, has_color: bool) -> String {
        let mut table = comfy_table::Table::new();
        table.load_style(presets::NOTHING);
        table.set_content_arrangement(ContentArrangement::Dynamic);
        table.set_header(&self.header);
        for row in &self.rows {
            table.add_row(row.iter().map(|cell| {
                let shown = comfy_table::Cell::new(printable(&cell.text));
                match cell.tone.color().filter(|_| has_color) {
                    Some(color) => shown.fg(color),
                    None => shown,
                }
            }));
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
        lines.join("\n") + "\n"
    }

    /// For pipes and files: one line per row, cells parted by tabs, nothing else a tab or line end.
    #[must_use]
    pub(crate) fn tabbed(&self) -> String {
        let mut text = self.header.join("\t");
        text.push('\n');
        for row in &self.rows {
            let cells: Vec<String> = row.iter().map(|cell| printable(&cell.text)).collect();
            text.push_str(&cells.join("\t"));
            text.push('\n');
        }
        text
    }
}

/// Text without anything that would move the cursor or break a line.
fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            let escaped: Box<dyn Iterator<Item = char>> = if c.is_control() {
                Box::new(c.escape_default())
            } else {
                Box::new([c].into_iter())
            };
            escaped
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Table {
        let mut table = Table::new(&["NODE", "STATE", "NOTE"]);
        table.row([Cell::from("n1"), Cell::toned(Tone::Good, "up"), Cell::from("")]);
        table.row([Cell::from("n2"), Cell::toned(Tone::Bad, "down"), Cell::from("a\tb\nc\u{1b}")]);
        table
    }

    #[test]
    fn a_pipe_gets_tab_separated_lines() {
        assert_eq!(sample().tabbed(), "NODE\tSTATE\tNOTE\nn1\tup\t\nn2\tdown\ta\\tb\\nc\\u{1b}\n");
    }

    #[test]
    fn a_terminal_gets_aligned_columns() {
        assert_eq!(
            sample().fitted(false),
            "NODE  STATE  NOTE\nn1    up\nn2    down   a\\tb\\nc\\u{1b}\n"
        );
    }
}
