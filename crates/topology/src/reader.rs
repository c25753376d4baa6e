//! Typed reading of TOML tables that keeps the line of every value and goes on after a mistake.
//!
//! Called by `file.rs`; knows TOML types, not what the keys mean.

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::problem::Problems;
use crate::suggest;

/// A value with the line it stands on.
#[derive(Clone, Debug)]
pub(crate) struct At<T> {
    pub(crate) value: T,
    pub(crate) line: usize,
}

/// A value that may be left out. `Wrong` is already reported, so nobody complains twice.
#[derive(Clone, Debug)]
pub(crate) enum Given<T> {
    Absent,
    Wrong,
    Is(At<T>),
}

/// Line numbers by byte offset.
pub(crate) struct Lines {
    newline_offsets: Vec<usize>,
}

impl Lines {
    pub(crate) fn of(text: &str) -> Lines {
        let newlines = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Lines { newline_offsets: newlines.map(|(offset, _)| offset).collect() }
    }

    /// The line, from 1, that the byte at `offset` is on.
    pub(crate) fn line_at(&self, offset: usize) -> usize {
        self.newline_offsets.partition_point(|newline| *newline < offset) + 1
    }
}

/// One table of the document, such as the second `[[group]]`.
pub(crate) struct TableReader<'t> {
    /// How the user wrote it: `[[group]]`.
    pub(crate) header: String,
    /// Where it is: `group[2]`.
    pub(crate) path: String,
    /// The line of its header.
    pub(crate) line: usize,
    values: BTreeMap<&'t str, &'t Spanned<DeValue<'t>>>,
    lines: &'t Lines,
}

impl<'t> TableReader<'t> {
    /// Opens a table; keys other than `known` are mistakes.
    pub(crate) fn open(
        table: &'t DeTable<'t>,
        place: (String, String, usize),
        known: &[&str],
        lines: &'t Lines,
        problems: &mut Problems,
    ) -> TableReader<'t> {
        let (header, path, line) = place;
        let mut values = BTreeMap::new();
        for (key, value) in table {
            let name: &str = key.get_ref();
            if known.contains(&name) {
                values.insert(name, value);
                continue;
            }
            problems.error(
                Some(lines.line_at(key.span().start)),
                format!("{path}.{name}"),
                format!("unknown key {name:?} in {header}"),
                suggest::hint(name, "keys", known.iter().copied()),
            );
        }
        TableReader { header, path, line, values, lines }
    }

    /// The path of a key in this table.
    pub(crate) fn path_of(&self, key: &str) -> String {
        format!("{}.{key}", self.path)
    }

    /// Whether the key is there, of whatever type.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }

    /// A text, if the key is there.
    pub(crate) fn text(&self, key: &str, problems: &mut Problems) -> Option<At<String>> {
        let value = self.values.get(key)?;
        match value.get_ref() {
            DeValue::String(text) => Some(self.at(value, text.as_ref().to_owned())),
            other => self.wrong_type(key, value, "a text in quotes", other, problems),
        }
    }

    /// A text whose absence means something.
    pub(crate) fn given_text(&self, key: &str, problems: &mut Problems) -> Given<String> {
        if !self.has(key) {
            return Given::Absent;
        }
        self.text(key, problems).map_or(Given::Wrong, Given::Is)
    }

    /// A text that must be there.
    pub(crate) fn required_text(&self, key: &str, problems: &mut Problems) -> Option<At<String>> {
        self.require(key, problems).then(|| self.text(key, problems)).flatten()
    }

    /// An integer between `min` and `max`, if the key is there.
    pub(crate) fn integer<N: TryFrom<i64>>(
        &self,
        key: &str,
        (min, max): (i64, i64),
        problems: &mut Problems,
    ) -> Option<At<N>> {
        let value = self.values.get(key)?;
        let DeValue::Integer(digits) = value.get_ref() else {
            return self.wrong_type(key, value, "an integer", value.get_ref(), problems);
        };
        let number = i64::from_str_radix(digits.as_str(), digits.radix()).ok();
        let in_range = number.filter(|number| (min..=max).contains(number));
        let Some(number) = in_range.and_then(|number| N::try_from(number).ok()) else {
            problems.error(
                Some(self.lines.line_at(value.span().start)),
                self.path_of(key),
                format!("{key} in {} is {digits}, outside {min} to {max}", self.header),
                None,
            );
            return None;
        };
        Some(self.at(value, number))
    }

    /// An integer that must be there.
    pub(crate) fn required_integer<N: TryFrom<i64>>(
        &self,
        key: &str,
        range: (i64, i64),
        problems: &mut Problems,
    ) -> Option<At<N>> {
        self.require(key, problems).then(|| self.integer(key, range, problems)).flatten()
    }

    /// A list of texts, if the key is there.
    pub(crate) fn texts(&self, key: &str, problems: &mut Problems) -> Option<At<Vec<At<String>>>> {
        let value = self.values.get(key)?;
        let wanted = "a list of texts in quotes";
        let DeValue::Array(items) = value.get_ref() else {
            return self.wrong_type(key, value, wanted, value.get_ref(), problems);
        };
        let mut texts = Vec::with_capacity(items.len());
        for item in items {
            match item.get_ref() {
                DeValue::String(text) => texts.push(self.at(item, text.as_ref().to_owned())),
                other => return self.wrong_type(key, item, wanted, other, problems),
            }
        }
        Some(self.at(value, texts))
    }

    /// One of a few words, such as `rzone`, that must be there unless `default` is given.
    pub(crate) fn word<T: Copy>(
        &self,
        key: &str,
        words: &[(&str, T)],
        default: Option<T>,
        problems: &mut Problems,
    ) -> Option<At<T>> {
        if let Some(value) = default
            && !self.has(key)
        {
            return Some(At { value, line: self.line });
        }
        let text = self.required_text(key, problems)?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text.value) {
            return Some(At { value: *value, line: text.line });
        }
        problems.error(
            Some(text.line),
            self.path_of(key),
            format!("{key} in {} is {:?}", self.header, text.value),
            suggest::hint(&text.value, "words", words.iter().map(|(word, _)| *word)),
        );
        None
    }

    fn at<T>(&self, source: &Spanned<DeValue<'_>>, value: T) -> At<T> {
        At { value, line: self.lines.line_at(source.span().start) }
    }

    fn require(&self, key: &str, problems: &mut Problems) -> bool {
        let found = self.has(key);
        if !found {
            let message = format!("{key} is missing in {}", self.header);
            problems.error(Some(self.line), self.path_of(key), message, None);
        }
        found
    }

    fn wrong_type<T>(
        &self,
        key: &str,
        source: &Spanned<DeValue<'_>>,
        wanted: &str,
        found: &DeValue<'_>,
        problems: &mut Problems,
    ) -> Option<T> {
        problems.error(
            Some(self.lines.line_at(source.span().start)),
            self.path_of(key),
            format!("{key} in {} must be {wanted}, found {}", self.header, type_word(found)),
            None,
        );
        None
    }
}

/// The name of a TOML type with its article.
pub(crate) fn type_word(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a decimal number",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_become_lines() {
        let lines = Lines::of("a\nbc\n\nd");
        let found: Vec<usize> = (0..8).map(|offset| lines.line_at(offset)).collect();
        assert_eq!(found, [1, 1, 2, 2, 2, 3, 4, 4]);
    }
}
