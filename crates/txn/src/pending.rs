//! What the leader's entries in flight will do to the sessions, and to the number of open holds.
//!
//! Evaluation sees the applied [`SessionTable`](crate::SessionTable) and, on top of it, this: an
//! entry it proposes must still be wanted when the entries before it are applied. Were an entry then
//! skipped, what was decided on top of its effects would be wrong. Kept by the driver of the group:
//! `propose` with the slot the entry got, `settle` after applying, `clear` at every change of ballot.

use std::collections::{BTreeMap, VecDeque};

use quorate_types::{RequestId, Slot};

use crate::evaluate::Proposal;

/// Sessions, requests and new holds with an entry in flight. Empty on a replica that does not lead.
#[derive(Debug, Default)]
pub struct Pending {
    /// In order of slot. Writes without a request id are not here.
    entries: VecDeque<(Slot, InFlight)>,
    /// How many of `entries` open a session.
    opening: usize,
    /// How many holds `entries` open.
    holds: usize,
    /// By opening slot. Invariant: a session is here iff it occurs in `entries`.
    sessions: BTreeMap<Slot, PendingSession>,
}

/// What an entry means to the sessions, or to the number of holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum InFlight {
    /// A write that nobody can ask for again.
    Anonymous,
    /// It opens a session.
    Open,
    /// It closes these.
    Close(Vec<Slot>),
    /// It answers this request.
    Request(RequestId),
    /// It opens so many holds.
    Holds(usize),
    /// It commits a transaction over several groups, and with it what its request acknowledges.
    Acknowledge {
        /// The session.
        session: Slot,
        /// The lowest number it does not acknowledge.
        lowest: u64,
    },
}

#[derive(Debug, Default)]
struct PendingSession {
    /// The entry of each request in flight, by number.
    requests: BTreeMap<u64, Slot>,
    /// The greatest `lowest_unanswered` of requests since the session was last idle.
    lowest: u64,
    /// The first entry that closes the session.
    closing: Option<Slot>,
    /// How many entries acknowledge numbers without answering a request.
    acknowledging: u32,
}

impl Pending {
    /// Nothing in flight.
    #[must_use]
    pub fn new() -> Pending {
        Pending::default()
    }

    /// Notes that `proposal` became the entry at `slot`.
    ///
    /// # Panics
    /// If `slot` is not above every one noted before.
    pub fn propose(&mut self, slot: Slot, proposal: &Proposal) {
        self.add(slot, proposal.in_flight().clone());
    }

    /// Notes that the entry at `slot` will commit a transaction over several groups, whose request
    /// has this id. Numbers that it acknowledges are used from now on.
    ///
    /// # Panics
    /// If `slot` is not above every one noted before.
    pub fn acknowledge(&mut self, slot: Slot, id: &RequestId) {
        let (session, lowest) = (id.session.slot, id.lowest_unanswered);
        self.add(slot, InFlight::Acknowledge { session, lowest });
    }

    fn add(&mut self, slot: Slot, in_flight: InFlight) {
        if let Some((last, _)) = self.entries.back() {
            assert!(*last < slot, "slot {slot} was proposed after {last}");
        }
        match &in_flight {
            InFlight::Anonymous => return,
            InFlight::Open => self.opening += 1,
            InFlight::Holds(opened) => self.holds += opened,
            InFlight::Close(sessions) => {
                for session in sessions {
                    self.sessions.entry(*session).or_default().closing.get_or_insert(slot);
                }
            }
            InFlight::Request(id) => {
                let session = self.sessions.entry(id.session.slot).or_default();
                session.lowest = session.lowest.max(id.lowest_unanswered);
                let before = session.requests.insert(id.sequence, slot);
                assert!(before.is_none(), "request {} is in flight twice", id.sequence);
            }
            InFlight::Acknowledge { session, lowest } => {
                let session = self.sessions.entry(*session).or_default();
                session.lowest = session.lowest.max(*lowest);
                session.acknowledging += 1;
            }
        }
        self.entries.push_back((slot, in_flight));
    }

    /// Forgets entries up to and including `upto`: they are applied, the session table has them.
    pub fn settle(&mut self, upto: Slot) {
        while let Some((slot, entry)) = self.entries.pop_front_if(|(slot, _)| *slot <= upto) {
            match entry {
                InFlight::Anonymous => {}
                InFlight::Open => self.opening -= 1,
                InFlight::Holds(opened) => self.holds -= opened,
                InFlight::Close(sessions) => {
                    for session in sessions {
                        self.settle_session(session, |pending| {
                            pending.closing.take_if(|closing| *closing == slot);
                        });
                    }
                }
                InFlight::Request(id) => self.settle_session(id.session.slot, |pending| {
                    pending.requests.remove(&id.sequence);
                }),
                InFlight::Acknowledge { session, .. } => {
                    self.settle_session(session, |pending| pending.acknowledging -= 1);
                }
            }
        }
    }

    /// Forgets everything: the entries may never be chosen.
    pub fn clear(&mut self) {
        *self = Pending::default();
    }

    /// True if nothing is in flight that concerns a session or opens a hold.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The entry in flight that answers this request.
    pub(crate) fn request(&self, id: &RequestId) -> Option<Slot> {
        self.sessions.get(&id.session.slot)?.requests.get(&id.sequence).copied()
    }

    /// How many requests of the session are in flight.
    pub(crate) fn requests(&self, session: Slot) -> usize {
        self.sessions.get(&session).map_or(0, |pending| pending.requests.len())
    }

    /// The lowest number that requests in flight do not acknowledge; 0 if there are none.
    pub(crate) fn lowest(&self, session: Slot) -> u64 {
        self.sessions.get(&session).map_or(0, |pending| pending.lowest)
    }

    /// The entry in flight that closes or expires the session.
    pub(crate) fn closing(&self, session: Slot) -> Option<Slot> {
        self.sessions.get(&session)?.closing
    }

    /// True if anything of the session is in flight.
    pub(crate) fn is_busy(&self, session: Slot) -> bool {
        self.sessions.contains_key(&session)
    }

    /// How many sessions are being opened.
    pub(crate) fn opening(&self) -> usize {
        self.opening
    }

    /// How many holds are being opened.
    pub(crate) fn holds(&self) -> usize {
        self.holds
    }

    fn settle_session(&mut self, slot: Slot, settle: impl FnOnce(&mut PendingSession)) {
        let session = self.sessions.get_mut(&slot).expect("a session in `entries` is here");
        settle(session);
        let is_idle = session.requests.is_empty() && session.acknowledging == 0;
        if is_idle && session.closing.is_none() {
            self.sessions.remove(&slot);
        }
    }
}
