//! Whose log is whole although the log of the node is damaged: decided at the start, before anything is written.
//! Called by the server once per group.
//!
//! The frame of a group that was written last ends its log, whatever came before. So what is missing is known if
//! that frame lies behind all damage: then either the frames before it continue each other, each naming the chain
//! hash of the one before, down to one in front of the damage, or down to what the rows hold. What they hold is
//! chosen, and which members it names is in the promise file before it is in the rows.

use quorate_log::LogReader;
use quorate_store::Store;
use quorate_types::{Ballot, Slot};

use crate::restore::{Restore, read_run};

/// True if nothing is missing of the log of this group that its replica may have told of. `end_lost`: frames may be
/// missing behind all that were found.
#[must_use]
pub fn is_whole(from: &Restore<'_>, end_lost: bool, reader: &LogReader, store: &Store) -> bool {
    let Restore { group, promised, kind, found, .. } = *from;
    if !kind.keeps_log() || promised == Ballot::ZERO {
        return true; // Nothing was ever accepted.
    }
    let Some(frames) = found.map(|found| &found.frames) else { return false };
    if end_lost || !frames.last().is_some_and(|tail| tail.behind_damage) {
        return false;
    }
    let Ok(run) = read_run(group, reader, |_| {}) else { return false };
    let Some((first, _)) = run.runs.first() else { return false };
    let begins_before = || frames.iter().any(|frame| frame.first == *first && !frame.after_damage);
    let in_rows = if kind.keeps_rows() { store.applied(group) } else { Slot::ZERO };
    in_rows <= run.tail.id.slot && (run.trimmed.slot <= in_rows || begins_before())
}
