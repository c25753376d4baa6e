//! What clients were told: the other side of what the database says afterwards.
//!
//! Written by `workload.rs` while it runs, settled by `verify.rs` after each restart. Acknowledged
//! writes also go to a file that is synced as it grows, so that they outlive this process.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A row with a key of its own: user and key.
pub(crate) type RowName = (u64, String);

/// What was said of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// It is done.
    Done,
    /// It is not and never will be.
    NotDone,
    /// Nobody knows.
    Unknown {
        /// How often all nodes had died when the call ended. The next time ends all its attempts.
        kills: u64,
    },
}

/// How a call ended, for the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It is done.
    Done,
    /// It is not and never will be.
    NotDone,
    /// Nobody knows.
    Unknown,
}

/// A counter: how often 1 was surely added, and how often perhaps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counter {
    /// Adds that were acknowledged, or found at an earlier check.
    pub(crate) certain: u64,
    /// Adds of unknown outcome, by how often all nodes had died when the call ended.
    pub(crate) possible: BTreeMap<u64, u64>,
}

/// Everything clients were told.
#[derive(Debug, Default)]
pub(crate) struct Book {
    /// Every row ever written or tried: its value and what was said.
    pub(crate) rows: BTreeMap<RowName, (String, Said)>,
    /// By user.
    pub(crate) counters: BTreeMap<u64, Counter>,
    /// Answers that contradict what was acknowledged before them.
    pub(crate) contradictions: Vec<String>,
    /// Calls that ended, by how.
    pub(crate) tally: Tally,
    /// How often all nodes died at once.
    pub(crate) kills: u64,
    /// When the first call after the last fault was acknowledged.
    pub(crate) back_at: Option<Instant>,
    /// How steadily each group answered, by its number.
    pub(crate) pulses: BTreeMap<u32, Pulse>,
}

/// How steadily a group acknowledged since it was last looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pulse {
    /// Calls acknowledged.
    pub(crate) done: u64,
    /// Calls that ended without effect or in doubt.
    pub(crate) failed: u64,
    /// When the last one was acknowledged, or when counting began.
    last: Instant,
    /// The longest time without an acknowledged call that has ended.
    longest: Duration,
}

impl Pulse {
    fn new(now: Instant) -> Pulse {
        Pulse { done: 0, failed: 0, last: now, longest: Duration::ZERO }
    }

    /// The longest time without an acknowledged call until now.
    pub(crate) fn stall(&self, now: Instant) -> Duration {
        self.longest.max(now.duration_since(self.last))
    }
}

/// How often calls ended in each way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Acknowledged.
    pub(crate) done: u64,
    /// Surely without effect.
    pub(crate) not_done: u64,
    /// Unknown.
    pub(crate) unknown: u64,
}

impl Book {
    /// Counts the end of a call.
    fn count(&mut self, group: u32, end: End) {
        let now = Instant::now();
        let pulse = self.pulses.entry(group).or_insert_with(|| Pulse::new(now));
        if end == End::Done {
            pulse.longest = pulse.stall(now);
            pulse.last = now;
            pulse.done += 1;
        } else {
            pulse.failed += 1;
        }
        match end {
            End::Done => {
                self.tally.done += 1;
                self.back_at.get_or_insert(now);
            }
            End::NotDone => self.tally.not_done += 1,
            End::Unknown => self.tally.unknown += 1,
        }
    }
}

/// The book, shared by the writers, and the file beside it.
pub(crate) struct Ledger {
    book: Mutex<Book>,
    lines: Option<Sender<String>>,
    writer: Option<JoinHandle<io::Result<()>>>,
}

impl Ledger {
    /// An empty book, and a new file at `path`.
    pub(crate) fn create(path: &Path) -> io::Result<Ledger> {
        let file = File::create(path)?;
        let (send, receive) = channel();
        let writer = std::thread::spawn(move || write_lines(file, &receive));
        Ok(Ledger { book: Mutex::default(), lines: Some(send), writer: Some(writer) })
    }

    /// The book.
    pub(crate) fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A fault has begun. If `all_died`, no node is left that could know of a call that has ended:
    /// what is in doubt is decided by what is on the disks.
    pub(crate) fn struck(&self, all_died: bool) {
        let mut book = self.book();
        book.kills += u64::from(all_died);
        book.back_at = None;
    }

    /// Counts how steadily groups answer from now on.
    pub(crate) fn reset_pulses(&self) {
        let now = Instant::now();
        for pulse in self.book().pulses.values_mut() {
            *pulse = Pulse::new(now);
        }
    }

    /// How steadily a group answered since then.
    pub(crate) fn pulse(&self, group: u32) -> Pulse {
        let pulse = self.book().pulses.get(&group).copied();
        pulse.unwrap_or_else(|| Pulse::new(Instant::now()))
    }

    /// A write of a row of its own has ended.
    pub(crate) fn row(&self, group: u32, name: RowName, value: String, end: End) {
        if end == End::Done {
            self.line(format!("row {} {} {value}", name.0, name.1));
        }
        let mut book = self.book();
        book.count(group, end);
        let said = match end {
            End::Done => Said::Done,
            End::NotDone => Said::NotDone,
            End::Unknown => Said::Unknown { kills: book.kills },
        };
        let before = book.rows.insert(name, (value, said));
        assert!(before.is_none(), "keys are used once");
    }

    /// What is certain of a counter, to compare an answer with that comes later.
    pub(crate) fn certain(&self, uid: u64) -> u64 {
        self.book().counters.get(&uid).map_or(0, |counter| counter.certain)
    }

    /// An add of 1 has ended; `sum` is what the answer said, `floor` what was certain when it began.
    pub(crate) fn add(&self, group: u32, uid: u64, end: End, sum: Option<i64>, floor: u64) {
        if let Some(sum) = sum {
            self.line(format!("counter {uid} {sum}"));
        }
        let mut book = self.book();
        book.count(group, end);
        let kills = book.kills;
        let counter = book.counters.entry(uid).or_default();
        match end {
            End::Done => counter.certain += 1,
            End::Unknown => *counter.possible.entry(kills).or_default() += 1,
            End::NotDone => {}
        }
        if let Some(sum) = sum
            && u64::try_from(sum).is_ok_and(|sum| sum <= floor)
        {
            let text = format!("counter {uid} answered {sum} when {floor} adds were acknowledged");
            book.contradictions.push(text);
        }
    }

    /// A read of a counter has answered; `floor` is what was certain when it began.
    pub(crate) fn read(&self, uid: u64, sum: i64, floor: u64) {
        if u64::try_from(sum).is_ok_and(|sum| floor <= sum) {
            return;
        }
        let text =
            format!("a read of counter {uid} said {sum} when {floor} adds were acknowledged");
        self.book().contradictions.push(text);
    }

    fn line(&self, line: String) {
        let lines = self.lines.as_ref().expect("the file is open while there are writers");
        let _failed = lines.send(line).is_err(); // `close` reports why the writer ended.
    }

    /// Waits until the file holds everything.
    pub(crate) fn close(&mut self) -> io::Result<()> {
        self.lines = None;
        match self.writer.take().map(JoinHandle::join) {
            None => Ok(()),
            Some(Ok(written)) => written,
            Some(Err(_)) => Err(io::Error::other("the writer of the ledger panicked")),
        }
    }
}

/// Writes what has come, syncs, and does it again: a group commit of our own.
fn write_lines(file: File, lines: &Receiver<String>) -> io::Result<()> {
    let mut out = BufWriter::new(file);
    while let Ok(line) = lines.recv() {
        writeln!(out, "{line}")?;
        for line in lines.try_iter() {
            writeln!(out, "{line}")?;
        }
        out.flush()?;
        out.get_ref().sync_data()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_acknowledged_is_in_the_file() {
        // Goal: the file alone is enough to see what a run was promised.
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("acknowledged.log");
        let mut ledger = Ledger::create(&path).unwrap();
        ledger.row(1, (7, "a".into()), "x".into(), End::Done);
        ledger.row(1, (7, "b".into()), "y".into(), End::Unknown);
        ledger.add(1, 9, End::Done, Some(1), 0);
        ledger.close().unwrap();
        assert_eq!(std::fs::read_to_string(path).unwrap(), "row 7 a x\ncounter 9 1\n");
        assert_eq!(ledger.book().tally, Tally { done: 2, not_done: 0, unknown: 1 });
    }

    #[test]
    fn a_sum_below_what_was_acknowledged_is_noticed() {
        // Goal: a lost add shows in the next answer already.
        let folder = tempfile::tempdir().unwrap();
        let ledger = Ledger::create(&folder.path().join("acknowledged.log")).unwrap();
        ledger.add(1, 9, End::Done, Some(1), 0);
        ledger.add(1, 9, End::Unknown, None, 1);
        ledger.add(1, 9, End::Done, Some(3), ledger.certain(9));
        assert!(ledger.book().contradictions.is_empty());
        assert_eq!(ledger.book().counters[&9], Counter { certain: 2, possible: [(0, 1)].into() });
        ledger.add(1, 9, End::Done, Some(2), ledger.certain(9));
        assert_eq!(ledger.book().contradictions.len(), 1);
    }

    #[test]
    fn a_read_below_what_was_acknowledged_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Ledger::create(&folder.path().join("acknowledged.log")).unwrap();
        ledger.read(9, 5, 5);
        ledger.read(9, 7, 5);
        assert!(ledger.book().contradictions.is_empty());
        ledger.read(9, 4, 5);
        assert_eq!(ledger.book().contradictions.len(), 1);
    }

    #[test]
    fn a_stall_counts_although_nothing_ended_it() {
        // Goal: a group that never answers again has a stall, and one that answers late too.
        let start = Instant::now();
        let mut pulse = Pulse::new(start);
        let later = start + Duration::from_secs(3);
        assert_eq!(pulse.stall(later), Duration::from_secs(3));
        (pulse.longest, pulse.last) = (pulse.stall(later), later);
        assert_eq!(pulse.stall(later + Duration::from_secs(1)), Duration::from_secs(3));
    }
}
