//! What is done to which file, and the table of what the nodes did about it.

use std::collections::BTreeMap;

use super::bytes::{How, Place};
use super::files::Kind;

/// One damage to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Case {
    /// To what kind of file.
    pub(super) kind: Kind,
    /// In which way.
    pub(super) how: How,
    /// Where.
    pub(super) place: Place,
}

/// The ways, in the order of the columns.
const COLUMNS: [(&str, How, Place); 7] = [
    ("flip start", How::Flip, Place::Start),
    ("flip middle", How::Flip, Place::Middle),
    ("flip end", How::Flip, Place::End),
    ("cut start", How::Truncate, Place::Start),
    ("cut middle", How::Truncate, Place::Middle),
    ("cut end", How::Truncate, Place::End),
    ("removed", How::Remove, Place::Start),
];

impl Case {
    /// Every case, or the few of a short run: those that must be noticed, and one that must be mended.
    pub(super) fn all(is_thorough: bool) -> Vec<Case> {
        let every = Kind::ALL.into_iter().flat_map(|kind| {
            COLUMNS.into_iter().map(move |(_, how, place)| Case { kind, how, place })
        });
        every.filter(|case| is_thorough || case.is_in_short_run()).collect()
    }

    fn is_in_short_run(self) -> bool {
        let Case { kind, how, place } = self;
        let flipped = (how, place) == (How::Flip, Place::Middle);
        let cut = (how, place) == (How::Truncate, Place::Middle);
        match kind {
            Kind::OlderSegment | Kind::Table => flipped || cut,
            Kind::NewestSegment => flipped || cut || how == How::Remove,
            Kind::PromisesB | Kind::BothPromises | Kind::Manifest => flipped,
            _ => false,
        }
    }

    /// True if the end of the log is gone, which a node must notice: it may not vote without what it
    /// had acknowledged.
    pub(super) fn must_be_noticed(self) -> bool {
        self.kind == Kind::NewestSegment && (self.how != How::Flip || self.place == Place::Start)
    }

    /// True if a byte may be hit in the last frame of the log, before anything was written behind it.
    /// On the disk that looks like a write that a power cut tore.
    pub(super) fn may_look_torn(self) -> bool {
        self.kind == Kind::NewestSegment && !self.must_be_noticed()
    }

    /// The way, as the title of its column.
    pub(super) fn title(self) -> &'static str {
        let is_ours = |(_, how, place): &&(_, How, Place)| (*how, *place) == (self.how, self.place);
        COLUMNS.iter().find(is_ours).map_or("?", |(title, _, _)| title)
    }
}

/// What the nodes did, for the README of a run: kinds of files down, ways across.
pub(super) fn table(results: &[(Case, String)]) -> String {
    let mut cells: BTreeMap<Kind, BTreeMap<&str, &str>> = BTreeMap::new();
    for (case, what) in results {
        cells.entry(case.kind).or_default().insert(case.title(), what);
    }
    let used: Vec<&str> = COLUMNS
        .into_iter()
        .map(|(title, _, _)| title)
        .filter(|title| results.iter().any(|(case, _)| case.title() == *title))
        .collect();
    let width = results.iter().map(|(_, what)| what.len()).max().unwrap_or(0).max(11) + 2;
    let mut text = format!("{:<16}", "file");
    for title in &used {
        text += &format!("{title:<width$}");
    }
    for (kind, row) in &cells {
        text += &format!("\n{:<16}", kind.word());
        for title in &used {
            text += &format!("{:<width$}", row.get(title).unwrap_or(&""));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thorough_run_has_every_kind_in_every_way() {
        let all = Case::all(true);
        assert_eq!(all.len(), Kind::ALL.len() * COLUMNS.len());
        assert!(Case::all(false).iter().all(|case| all.contains(case)));
        assert!(Case::all(false).len() <= 10);
    }

    #[test]
    fn only_flipped_bytes_of_the_newest_segment_may_look_torn() {
        // Goal: a lost end of the log must be noticed, and no other file excuses a node that forgets.
        let case = |kind, how, place| Case { kind, how, place };
        let newest = |how, place| case(Kind::NewestSegment, how, place);
        assert!(newest(How::Remove, Place::Start).must_be_noticed());
        assert!(newest(How::Truncate, Place::End).must_be_noticed());
        assert!(newest(How::Flip, Place::End).may_look_torn());
        assert!(
            Case::all(true).iter().all(|case| !case.must_be_noticed() || !case.may_look_torn())
        );
        assert!(!case(Kind::OlderSegment, How::Flip, Place::End).may_look_torn());
    }

    #[test]
    fn the_table_has_a_line_for_each_kind() {
        let case = Case { kind: Kind::Table, how: How::Flip, place: Place::Middle };
        let text = table(&[(case, "refused STORE_DAMAGED".to_owned())]);
        let lines: Vec<Vec<&str>> =
            text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[0], ["file", "flip", "middle"]);
        assert_eq!(lines[1], ["rows:", "table", "refused", "STORE_DAMAGED"]);
    }
}
