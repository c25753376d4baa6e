//! What applied entries say of attempts: the same on every replica of the group.
//!
//! Changed by `apply.rs` only, one entry after the other. Like sessions, it lives in memory and
//! reaches the store with checkpoints.

use std::collections::{BTreeMap, BTreeSet};

use quorate_store::{Change, Key, Keyspace, StoreError, View};
use quorate_types::money::TRANSFER_BYTES;
use quorate_types::{Attempt, Ballot, CutId, EntryId, GroupId, PartReply, Verdict, Watermark};

use super::entry::{Decide, Prepare};
use super::record::{Record, State, decode_cut, decode_watermark, encode_cut, encode_watermark};
use crate::money::Leg;
use crate::record::damaged;
use crate::session::for_each_record;

/// Memory that an attempt takes until the next checkpoint, roughly.
const RECORD_MEMORY_BYTES: usize = 512;

/// The attempts of a group and the watermarks below which none is taken up again.
#[derive(Clone, Debug)]
pub struct CrossTable {
    keyspace: Keyspace,
    /// Invariant: the watermark of its coordinating group covers none.
    records: BTreeMap<Attempt, Record>,
    /// By coordinating group. Only ever raised.
    watermarks: BTreeMap<GroupId, Watermark>,
    /// Records that differ from the store.
    unsaved: BTreeSet<Attempt>,
    /// Watermarks that differ from the store.
    unsaved_watermarks: BTreeSet<GroupId>,
    /// Transfers that came with these.
    unsaved_transfers: usize,
    /// Records that the store has.
    stored: BTreeSet<Attempt>,
    /// Records to remove from the store.
    removed: Vec<Key>,
    /// The latest cut in the log. Only ever raised.
    cut: CutId,
    /// The latest cut that the store has.
    stored_cut: CutId,
}

/// What an entry did to the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CrossEvent {
    /// PREPARE yes stands.
    Prepared(Attempt),
    /// PREPARE no stands.
    Refused(Attempt),
    /// The attempt is decided here.
    Decided {
        /// The attempt.
        attempt: Attempt,
        /// Committed or aborted.
        commit: bool,
        /// Of a committed one, the greatest cut before its PREPAREs.
        cut: CutId,
        /// What this group had voted for, but for groups and values of the reply.
        prepare: Box<Prepare>,
        /// The entry of that.
        voted: EntryId,
        /// If it is about transfers, the verdicts of the credit side.
        credits: Vec<Verdict>,
    },
    /// These records are gone. Those that were undecided here had been aborted elsewhere.
    Cleared(Vec<Attempt>),
    /// The entry changed nothing: it was proposed when it was no longer needed.
    Nothing(Attempt),
    /// The log has passed this cut. Also of an entry that names one it had passed already.
    Cut(CutId),
}

/// Two entries of one log contradict each other about an attempt. The replica must stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{attempt} is to be {wanted}, but is {found} here")]
pub struct Contradiction {
    /// The attempt.
    pub attempt: Attempt,
    /// What the entry says.
    pub wanted: &'static str,
    /// What the table says.
    pub found: &'static str,
}

impl CrossTable {
    /// Nothing known.
    #[must_use]
    pub fn new(keyspace: Keyspace) -> CrossTable {
        CrossTable {
            keyspace,
            records: BTreeMap::new(),
            watermarks: BTreeMap::new(),
            unsaved: BTreeSet::new(),
            unsaved_watermarks: BTreeSet::new(),
            unsaved_transfers: 0,
            stored: BTreeSet::new(),
            removed: Vec::new(),
            cut: CutId::NONE,
            stored_cut: CutId::NONE,
        }
    }

    /// The table as the store has it.
    ///
    /// # Errors
    /// `StoreError` if records cannot be read or make no sense.
    pub fn load(view: &dyn View, keyspace: Keyspace) -> Result<CrossTable, StoreError> {
        let mut table = CrossTable::new(keyspace);
        if let Some(bytes) = view.get(&keyspace.cut())? {
            table.cut = decode_cut(&keyspace.cut(), &bytes)?;
            table.stored_cut = table.cut;
        }
        for_each_record(view, &keyspace.watermark_prefix(), |key, bytes| {
            let watermark = decode_watermark(key, bytes)?;
            table.watermarks.insert(watermark.upto.group, watermark);
            Ok(())
        })?;
        for_each_record(view, &keyspace.attempt_prefix(), |key, bytes| {
            let attempt = quorate_store::keys::parse_attempt(key)
                .ok_or_else(|| damaged(key, &"it is no attempt key"))?;
            let record = Record::decode(key, bytes)?;
            if table.is_below_watermark(attempt) {
                return Err(damaged(key, &"it is below the watermark"));
            }
            table.records.insert(attempt, record);
            table.stored.insert(attempt);
            Ok(())
        })?;
        Ok(table)
    }

    /// The group it belongs to.
    #[must_use]
    pub fn group(&self) -> GroupId {
        self.keyspace.group
    }

    /// The latest cut in the log.
    #[must_use]
    pub fn cut(&self) -> CutId {
        self.cut
    }

    /// What is known of an attempt.
    #[must_use]
    pub fn get(&self, attempt: Attempt) -> Option<&Record> {
        self.records.get(&attempt)
    }

    /// Every record, in order.
    pub fn records(&self) -> impl Iterator<Item = (Attempt, &Record)> {
        self.records.iter().map(|(attempt, record)| (*attempt, record))
    }

    /// How many attempts are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// True if no attempt is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// True if the attempt is over everywhere, as this log knows.
    #[must_use]
    pub fn is_below_watermark(&self, attempt: Attempt) -> bool {
        self.watermarks.get(&attempt.group).is_some_and(|watermark| watermark.covers(attempt))
    }

    /// Records that a watermark covers, in order.
    pub fn covered(&self, watermark: &Watermark) -> impl Iterator<Item = Attempt> + '_ {
        let first = Attempt { ballot: Ballot::ZERO, counter: 0, ..watermark.upto };
        let watermark = watermark.clone();
        let below = self.records.range(first..watermark.upto).map(|(attempt, _)| *attempt);
        below.filter(move |attempt| watermark.covers(*attempt))
    }

    /// The group said yes.
    pub(crate) fn prepare(&mut self, prepare: Box<Prepare>, at: EntryId) -> CrossEvent {
        let attempt = prepare.attempt;
        if self.is_below_watermark(attempt) || self.records.contains_key(&attempt) {
            return CrossEvent::Nothing(attempt);
        }
        self.unsaved_transfers += prepare.leg.as_ref().map_or(0, |leg| leg.len());
        self.put(attempt, Record { state: State::Prepared(prepare), at, cut: self.cut });
        CrossEvent::Prepared(attempt)
    }

    /// The group said no.
    pub(crate) fn refuse(&mut self, attempt: Attempt, at: EntryId) -> CrossEvent {
        if self.is_below_watermark(attempt) || self.records.contains_key(&attempt) {
            return CrossEvent::Nothing(attempt);
        }
        self.put(attempt, Record { state: State::Refused, at, cut: CutId::NONE });
        CrossEvent::Refused(attempt)
    }

    /// The yes of an attempt that is undecided here.
    #[must_use]
    pub fn prepared(&self, attempt: Attempt) -> Option<&Prepare> {
        match &self.records.get(&attempt)?.state {
            State::Prepared(prepare) => Some(prepare),
            State::Refused | State::Committed { .. } | State::Aborted => None,
        }
    }

    /// The attempt is decided.
    pub(crate) fn decide(&mut self, decide: &Decide) -> Result<CrossEvent, Contradiction> {
        let attempt = decide.attempt();
        let commit = matches!(decide, Decide::Commit(..));
        let wanted = if commit { "committed" } else { "aborted" };
        let Some(record) = self.records.get_mut(&attempt) else {
            // An abort of what was never prepared is no news; a commit of it cannot be.
            let is_over = !commit || self.is_below_watermark(attempt);
            let error = Contradiction { attempt, wanted, found: "unknown" };
            return if is_over { Ok(CrossEvent::Nothing(attempt)) } else { Err(error) };
        };
        let (after, cut) = match (&mut record.state, decide) {
            (State::Prepared(prepare), Decide::Commit(_, told, cut)) => {
                let reply = kept_reply(prepare, told);
                let participants = std::mem::take(&mut prepare.participants);
                (State::Committed { participants, reply }, *cut)
            }
            (State::Prepared(_), Decide::Abort(_)) => (State::Aborted, CutId::NONE),
            (State::Committed { .. }, Decide::Commit(..))
            | (State::Aborted | State::Refused, Decide::Abort(_)) => {
                return Ok(CrossEvent::Nothing(attempt));
            }
            (found, _) => {
                return Err(Contradiction { attempt, wanted, found: found.word() });
            }
        };
        let State::Prepared(prepare) = std::mem::replace(&mut record.state, after) else {
            unreachable!("only what is prepared is decided");
        };
        record.cut = cut;
        let credits = match &record.state {
            State::Committed { reply, .. } => reply.verdicts.clone(),
            State::Prepared(_) | State::Refused | State::Aborted => Vec::new(),
        };
        let voted = record.at;
        self.unsaved.insert(attempt);
        Ok(CrossEvent::Decided { attempt, commit, cut, prepare, voted, credits })
    }

    /// The log passes a cut.
    pub(crate) fn pass(&mut self, cut: CutId) -> CrossEvent {
        self.cut = self.cut.max(cut);
        CrossEvent::Cut(cut)
    }

    /// What the watermark covers is over.
    pub(crate) fn clear(&mut self, watermark: Watermark) -> CrossEvent {
        let group = watermark.upto.group;
        let watermark = match self.watermarks.get(&group) {
            None => watermark,
            Some(before) => match before.raised_by(&watermark) {
                Some(raised) => raised,
                None => return CrossEvent::Cleared(Vec::new()),
            },
        };
        let dropped: Vec<Attempt> = self.covered(&watermark).collect();
        for attempt in &dropped {
            self.records.remove(attempt);
            self.unsaved.remove(attempt);
            if self.stored.remove(attempt) {
                self.removed.push(self.keyspace.attempt(*attempt));
            }
        }
        self.watermarks.insert(group, watermark);
        self.unsaved_watermarks.insert(group);
        CrossEvent::Cleared(dropped)
    }

    fn put(&mut self, attempt: Attempt, record: Record) {
        self.records.insert(attempt, record);
        self.unsaved.insert(attempt);
    }

    /// Memory of what the next checkpoint takes from here.
    #[must_use]
    pub fn unsaved_bytes(&self) -> usize {
        let cut = usize::from(self.stored_cut != self.cut);
        (self.unsaved.len() + self.removed.len() + cut) * RECORD_MEMORY_BYTES
            + self.unsaved_transfers * TRANSFER_BYTES
    }

    /// Changes that bring the store up to this table. To be called between two entries, when a
    /// checkpoint begins, and to be part of it: the table counts on them from now on.
    #[must_use = "what is not written is lost"]
    pub fn take_changes(&mut self) -> Vec<Change> {
        self.unsaved_transfers = 0;
        let removed = std::mem::take(&mut self.removed);
        let mut changes: Vec<_> =
            removed.into_iter().map(|key| Change { key, value: None }).collect();
        if self.stored_cut != self.cut {
            self.stored_cut = self.cut;
            changes.push(Change { key: self.keyspace.cut(), value: Some(encode_cut(self.cut)) });
        }
        for group in std::mem::take(&mut self.unsaved_watermarks) {
            let value = Some(encode_watermark(&self.watermarks[&group]));
            changes.push(Change { key: self.keyspace.watermark(group), value });
        }
        for attempt in std::mem::take(&mut self.unsaved) {
            let value = Some(self.records[&attempt].encode());
            changes.push(Change { key: self.keyspace.attempt(attempt), value });
            self.stored.insert(attempt);
        }
        changes
    }
}

/// What a group must be able to tell of its part once it is committed; the verdicts are those of the
/// credit side in both groups.
fn kept_reply(prepare: &Prepare, told: &PartReply) -> PartReply {
    let reply = prepare.reply();
    match prepare.leg.as_deref() {
        Some(Leg::Debit(_)) => PartReply { verdicts: told.verdicts.clone(), ..reply },
        Some(Leg::Credit(_)) | None => reply,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use quorate_types::{
        Age, Ballot, GroupId, ReplicaId, SessionId, SliceId, Slot, TableId, Uid, Value,
    };

    use super::*;
    use crate::cross::part::ReplyOrder;
    use crate::entry::{Effect, RowKey, Write};

    const SPACE: Keyspace = Keyspace { group: GroupId(2), incarnation: 0 };

    /// Records of a store.
    #[derive(Default)]
    struct Records(BTreeMap<Key, Bytes>);

    impl Records {
        fn change(&mut self, changes: Vec<Change>) {
            for Change { key, value } in changes {
                match value {
                    Some(value) => self.0.insert(key, value),
                    None => self.0.remove(&key),
                };
            }
        }
    }

    impl View for Records {
        fn get(&self, key: &Key) -> Result<Option<Bytes>, StoreError> {
            Ok(self.0.get(key).cloned())
        }

        fn scan(
            &self,
            from: &Key,
            end: &Key,
            limit: usize,
        ) -> Result<Vec<(Key, Bytes)>, StoreError> {
            let pair = |(key, value): (&Key, &Bytes)| (key.clone(), value.clone());
            Ok(self.0.range(from..end).take(limit).map(pair).collect())
        }
    }

    fn attempt(counter: u64) -> Attempt {
        let ballot = Ballot { round: 3, replica: ReplicaId(1) };
        Attempt { group: GroupId(1), ballot, counter }
    }

    fn at(slot: u64) -> EntryId {
        EntryId { ballot: Ballot { round: 3, replica: ReplicaId(2) }, slot: Slot(slot) }
    }

    fn yes(counter: u64) -> Box<Prepare> {
        let session = SessionId { group: GroupId(1), slot: Slot(4) };
        let key = Bytes::from_static(b"k");
        let row = RowKey { slice: SliceId(1), table: TableId(1), uid: Uid(counter), key };
        let write = Write {
            effects: vec![Effect::Put(row.clone(), Value::Integer(1))],
            reads: vec![None],
            ..Write::default()
        };
        Box::new(Prepare {
            attempt: attempt(counter),
            age: Age { first_ms: 1, session, sequence: counter },
            lowest_unanswered: 1,
            participants: vec![GroupId(1), GroupId(2)],
            order: ReplyOrder::default(),
            write,
            shared: vec![row],
            leg: None,
        })
    }

    fn commit(counter: u64) -> Decide {
        Decide::Commit(attempt(counter), PartReply::default(), CutId(counter))
    }

    #[test]
    fn a_vote_is_given_once_and_decided_once() {
        // Goal: whatever is proposed too late or twice changes nothing, and what contradicts a vote
        // stops the replica.
        let mut table = CrossTable::new(SPACE);
        assert_eq!(table.prepare(yes(1), at(1)), CrossEvent::Prepared(attempt(1)));
        assert_eq!(table.refuse(attempt(1), at(2)), CrossEvent::Nothing(attempt(1)));
        assert_eq!(table.refuse(attempt(2), at(3)), CrossEvent::Refused(attempt(2)));
        assert_eq!(table.prepare(yes(2), at(4)), CrossEvent::Nothing(attempt(2)));
        assert!(table.prepared(attempt(1)).is_some() && table.prepared(attempt(2)).is_none());

        let decided = table.decide(&commit(1)).expect("it is prepared");
        let CrossEvent::Decided { commit: true, cut: CutId(1), prepare, .. } = decided else {
            panic!("{decided:?}")
        };
        assert_eq!(prepare.write.effects, yes(1).write.effects);
        assert_eq!(table.get(attempt(1)).map(|record| record.cut), Some(CutId(1)));
        assert_eq!(table.decide(&commit(1)), Ok(CrossEvent::Nothing(attempt(1))));
        assert!(table.decide(&Decide::Abort(attempt(1))).is_err(), "it is committed");
        assert!(table.decide(&commit(2)).is_err(), "it was refused");
        assert!(table.decide(&commit(3)).is_err(), "nobody knows it");
        let abort = Decide::Abort(attempt(2));
        assert_eq!(table.decide(&abort), Ok(CrossEvent::Nothing(attempt(2))));
    }

    #[test]
    fn what_is_over_is_never_taken_up_again() {
        // Goal: a watermark keeps late votes out, lets exceptions in, and is never lowered.
        let mut table = CrossTable::new(SPACE);
        let _ = (table.prepare(yes(1), at(1)), table.prepare(yes(2), at(2)));
        let watermark = Watermark { upto: attempt(5), except: vec![attempt(2), attempt(3)] };
        assert_eq!(table.clear(watermark), CrossEvent::Cleared(vec![attempt(1)]));
        assert_eq!(table.prepare(yes(1), at(3)), CrossEvent::Nothing(attempt(1)));
        assert_eq!(table.refuse(attempt(4), at(4)), CrossEvent::Nothing(attempt(4)));
        assert_eq!(table.prepare(yes(3), at(5)), CrossEvent::Prepared(attempt(3)));
        assert_eq!(table.clear(Watermark::below(attempt(1))), CrossEvent::Cleared(Vec::new()));
        assert!(table.is_below_watermark(attempt(4)), "it was not lowered");
        assert_eq!(table.decide(&commit(4)), Ok(CrossEvent::Nothing(attempt(4))));
        let all = CrossEvent::Cleared(vec![attempt(2), attempt(3)]);
        assert_eq!(table.clear(Watermark::below(attempt(5))), all);
    }

    #[test]
    fn checkpoints_bring_the_store_up_to_the_table() {
        // Goal: wherever checkpoints fall, a restart finds the table as it was, and nothing of what
        // was cleared.
        let (mut table, mut records) = (CrossTable::new(SPACE), Records::default());
        let mut checkpoint = |table: &mut CrossTable| {
            records.change(table.take_changes());
            assert_eq!(table.unsaved_bytes(), 0);
            let loaded = CrossTable::load(&records, SPACE).expect("our own records load");
            assert!(loaded.records().eq(table.records()));
            assert_eq!(loaded.watermarks, table.watermarks);
            assert_eq!(loaded.cut(), table.cut());
            records.0.len()
        };
        let _ = (table.prepare(yes(1), at(1)), table.prepare(yes(2), at(2)));
        let _ = table.refuse(attempt(3), at(3));
        assert_eq!(checkpoint(&mut table), 3);
        table.decide(&commit(1)).expect("it is prepared");
        table.decide(&Decide::Abort(attempt(2))).expect("it is prepared");
        assert_eq!(checkpoint(&mut table), 3);
        let _ = table.prepare(yes(4), at(6));
        let _ = table.clear(Watermark { upto: attempt(5), except: vec![attempt(4)] });
        assert_eq!(checkpoint(&mut table), 2, "the one in doubt, and the watermark");
        let _ = table.clear(Watermark::below(attempt(5)));
        assert_eq!(checkpoint(&mut table), 1, "the watermark");
        let _ = table.pass(CutId(7));
        assert_eq!(checkpoint(&mut table), 2, "the latest cut, too");
    }

    #[test]
    fn cuts_only_rise_and_votes_remember_the_latest() {
        // Goal: an older cut that arrives late changes nothing, and a yes says between which cuts it
        // stands, whatever passes before the decision.
        let mut table = CrossTable::new(SPACE);
        let _ = table.prepare(yes(1), at(1));
        let _ = (table.pass(CutId(5)), table.pass(CutId(3)));
        assert_eq!(table.cut(), CutId(5));
        let _ = table.prepare(yes(2), at(4));
        let _ = table.pass(CutId(9));
        let cut = |counter| table.get(attempt(counter)).map(|record| record.cut);
        assert_eq!((cut(1), cut(2)), (Some(CutId::NONE), Some(CutId(5))));
    }
}
