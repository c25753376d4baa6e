use std::collections::BTreeMap;

use bytes::Bytes;
use quorate_store::{Key, Overlay};
use quorate_types::limits::GROUP_HOLDS_MAX;
use quorate_types::{
    AccountAddress, AccountSettings, Ballot, EntryId, GroupId, ReplyBody, Request, RequestBody,
    SliceId, Slot, Transfer, TransferBatch, TransferId, Uid, Verdict,
};

use super::*;
use crate::cross::{Cross, CrossTable};
use crate::{Context, Deletes, Evaluation, Pending, SessionTable, State, apply, evaluate};

const SPACE: Keyspace = Keyspace { group: GroupId(7), incarnation: 0 };

#[derive(Default)]
struct Records(BTreeMap<Key, Bytes>);

impl View for Records {
    fn get(&self, key: &Key) -> Result<Option<Bytes>, StoreError> {
        Ok(self.0.get(key).cloned())
    }

    fn scan(&self, from: &Key, end: &Key, limit: usize) -> Result<Vec<(Key, Bytes)>, StoreError> {
        let pair = |(key, value): (&Key, &Bytes)| (key.clone(), value.clone());
        Ok(self.0.range(from..end).take(limit).map(pair).collect())
    }
}

/// A leader; accounts 1 and 2 have no floor.
struct Leader {
    records: Records,
    overlay: Overlay,
    sessions: SessionTable,
    pending: Pending,
    in_flight: Vec<Bytes>,
    applied: u64,
}

fn at(uid: u64) -> AccountAddress {
    AccountAddress::new(Uid(uid), 840)
}

fn pending(id: u128) -> Transfer {
    Transfer::pending(TransferId(id), at(1), at(2), 5, 0)
}

fn void(id: u128, of: u128) -> Transfer {
    Transfer::void_pending(TransferId(id), TransferId(of), at(1), at(2))
}

impl Leader {
    /// As if so many reservations were open.
    fn with_open(open: usize) -> Leader {
        let mut leader = Leader {
            records: Records::default(),
            overlay: Overlay::new(),
            sessions: SessionTable::new(SPACE),
            pending: Pending::new(),
            in_flight: Vec::new(),
            applied: 0,
        };
        for uid in [1, 2] {
            let settings = AccountSettings { floor: None, ..AccountSettings::default() };
            leader.ask(RequestBody::CreateAccount(at(uid), settings));
        }
        leader.apply_all();
        leader.sessions.holds_mut().open = open;
        leader
    }

    fn ask(&mut self, body: RequestBody) -> Option<ReplyBody> {
        let context = Context { keyspace: SPACE, slice_of: &|_, _| SliceId(0) };
        let state = State {
            applied: &self.records,
            overlay: &self.overlay.over(&self.records),
            sessions: &self.sessions,
            pending: &self.pending,
            cross: &Cross::load(&Records::default(), SPACE).expect("memory"),
            deletes: &Deletes::after(Slot::ZERO),
        };
        match evaluate(&Request { id: None, body }, &context, &state).expect("memory") {
            Evaluation::Propose(proposal) => {
                let slot = Slot(self.applied + self.in_flight.len() as u64 + 1);
                self.overlay.push(slot, proposal.changes(slot));
                self.pending.propose(slot, &proposal);
                self.in_flight.push(proposal.payload().clone());
                None
            }
            Evaluation::Answer { body, .. } => Some(body),
            other => panic!("{other:?}"),
        }
    }

    fn apply_all(&mut self) -> Vec<ReplyBody> {
        let mut told = Vec::new();
        for payload in std::mem::take(&mut self.in_flight) {
            self.applied += 1;
            let at = EntryId { ballot: Ballot::ZERO, slot: Slot(self.applied) };
            let mut attempts = CrossTable::new(SPACE);
            let (sessions, records) = (&mut self.sessions, &self.records);
            let applied = apply(&payload, at, LogTime(9), sessions, &mut attempts, records);
            let applied = applied.expect("an entry of our own");
            for change in applied.changes {
                match change.value {
                    Some(value) => self.records.0.insert(change.key, value),
                    None => self.records.0.remove(&change.key),
                };
            }
            self.overlay.settle(at.slot);
            self.pending.settle(at.slot);
            told.push(applied.reply.expect("it takes effect").body);
        }
        told
    }

    /// Asks for a batch; its verdicts, if they are known before the entries in flight are applied.
    fn transfers(&mut self, transfers: &[Transfer]) -> Option<Vec<Verdict>> {
        self.ask(RequestBody::Transfers(TransferBatch::new(transfers))).map(verdicts)
    }

    fn run(&mut self, transfers: &[Transfer]) -> Vec<Verdict> {
        let told = self.transfers(transfers);
        told.unwrap_or_else(|| verdicts(self.apply_all().pop().expect("it is in flight")))
    }
}

fn verdicts(body: ReplyBody) -> Vec<Verdict> {
    let ReplyBody::Transfers(results) = body else { panic!("{body:?}") };
    results.verdicts
}

#[test]
fn a_group_has_no_more_reservations_than_it_may() {
    // Goal: the last reservation that fits is made, the next one is refused, and whoever asks for one that
    // was made is still told so; an end makes room again.
    let mut leader = Leader::with_open(GROUP_HOLDS_MAX - 2);
    let batch =
        [pending(1), pending(2), pending(3), Transfer::post(TransferId(4), at(1), at(2), 1)];
    let full = [Verdict::Created, Verdict::Created, Verdict::HoldLimit, Verdict::Created];
    assert_eq!(leader.run(&batch), full);
    assert_eq!(leader.sessions.open_holds(), GROUP_HOLDS_MAX);
    assert_eq!(
        leader.run(&[pending(2), pending(3)]),
        [Verdict::AlreadyApplied, Verdict::HoldLimit]
    );
    // What a batch ends makes room for the next one.
    assert_eq!(leader.run(&[void(5, 1), pending(3)]), [Verdict::Created, Verdict::HoldLimit]);
    assert_eq!(leader.run(&[pending(3), pending(6)]), [Verdict::Created, Verdict::HoldLimit]);
}

#[test]
fn reservations_in_flight_take_room() {
    // Goal: what is proposed and not applied counts, for as long as it may be chosen; a chain that falls
    // takes none.
    let mut leader = Leader::with_open(GROUP_HOLDS_MAX - 2);
    let linked = Transfer { linked: true, ..pending(1) };
    let chain = [linked, Transfer::post(TransferId(2), at(1), at(9), 1), pending(3)];
    assert_eq!(leader.transfers(&chain), None, "an entry is proposed");
    assert_eq!(leader.transfers(&[pending(4)]), None, "there is room for one more");
    assert_eq!(leader.transfers(&[pending(5)]), Some(vec![Verdict::HoldLimit]));
    // Another leader wins, and nothing of it is chosen.
    leader.in_flight.clear();
    leader.overlay.clear();
    leader.pending.clear();
    assert_eq!(leader.transfers(&[pending(5), pending(6)]), None);
    let told = leader.apply_all().pop().map(verdicts);
    assert_eq!(told, Some(vec![Verdict::Created; 2]));
}

#[test]
fn every_open_reservation_is_counted_and_found_again() {
    // Goal: those without a time-out count as well, and a replica that starts counts the same.
    let mut leader = Leader::with_open(0);
    let timed = Transfer::pending(TransferId(1), at(1), at(2), 5, 1000);
    leader.run(&[timed, pending(2), pending(3), pending(4), void(5, 4)]);
    leader.run(&[void(6, 3)]);
    assert_eq!(leader.sessions.open_holds(), 2);
    let loaded = HoldTable::load(&leader.records, SPACE).expect("our own records");
    assert_eq!(loaded, *leader.sessions.holds());
}
