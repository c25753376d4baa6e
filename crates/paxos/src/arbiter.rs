//! Who takes part, kept where no log is: what the leader tells an arbiter, and how long it takes that to
//! count. Called by `replica.rs`, `leader.rs`, `change.rs` and `lease.rs`.
//!
//! An arbiter promises and grants leases like everybody else, and has no log in which the winner of an election
//! could find the members. So it keeps the last membership that a leader told it, and names it with every
//! promise. A leader tells it of each membership that is chosen, and of one that sets voters aside
//! (`suspend.rs`) at once, because that one counts only when a quorum that votes knows of it, by every
//! membership that may still count: whoever is elected without a log that has it then hears of it from the arbiter.

use std::collections::BTreeSet;

use quorate_types::planted::{Bug, planted};
use quorate_types::{BootTime, EntryId, ReplicaId, ReplicaKind};

use crate::leader::Leader;
use crate::membership::MembershipAt;
use crate::message::{Message, Seats, SeatsKept};
use crate::output::Output;
use crate::replica::{Duty, Replica};

impl Replica {
    fn is_arbiter(&self) -> bool {
        self.options.kind == ReplicaKind::Arbiter
    }

    /// What this arbiter has on disk of who takes part; nothing elsewhere.
    pub(crate) fn seats_kept(&self) -> Option<MembershipAt> {
        self.is_arbiter().then(|| self.memberships.last().clone())
    }

    /// False at an arbiter that knows that this replica does not vote, and that its log ends before that is said: it
    /// would not be elected. Whoever has more may know better.
    pub(crate) fn may_arbitrate_for(&self, candidate: ReplicaId, its_last: EntryId) -> bool {
        let at = self.memberships.last();
        !self.is_arbiter() || at.id <= its_last || at.membership.has_voter(candidate)
    }

    /// A leader tells this arbiter who takes part.
    pub(crate) fn on_seats(
        &mut self,
        now: BootTime,
        from: ReplicaId,
        msg: Seats,
        out: &mut Output,
    ) {
        if !self.is_arbiter() || !self.obeys(now, from, msg.ballot, out) {
            return;
        }
        let last = self.memberships.last().id;
        if msg.at.id == last {
            self.send_kept(last, out); // Said again.
        }
        let on_its_way = self.keeping.as_ref().map_or(last, |at| at.id);
        if msg.at.id <= on_its_way {
            return;
        }
        out.keep = Some(msg.at.clone());
        self.keeping = Some(msg.at);
        if planted(Bug::KeptBeforeSync) {
            self.send_kept(on_its_way.max(out.keep.as_ref().expect("just now").id), out);
        }
    }

    /// A membership is on the disk of this arbiter.
    pub(crate) fn on_kept(&mut self, id: EntryId, out: &mut Output) {
        let Some(at) = self.keeping.take_if(|at| at.id == id) else {
            return; // A later one is on its way.
        };
        self.memberships.begin_with(at);
        self.send_kept(id, out);
    }

    fn send_kept(&self, id: EntryId, out: &mut Output) {
        let is_led = self.promised_synced == self.promised;
        if let Some(leader) = self.leader.filter(|_| is_led) {
            let kept = SeatsKept { ballot: self.promised, id };
            self.send(leader, Message::SeatsKept(kept), out);
        }
    }

    /// An arbiter has a membership on disk.
    pub(crate) fn on_seats_kept(&mut self, from: ReplicaId, msg: SeatsKept, out: &mut Output) {
        let Duty::Leader(leader) = &mut self.duty else {
            return;
        };
        let Some(peer) = leader.peers.get_mut(&from).filter(|_| msg.ballot == self.promised) else {
            return; // An answer to an older leadership.
        };
        peer.seats_kept = peer.seats_kept.max(msg.id);
        self.advance_commit(out);
        self.tell_arbiters(out);
    }

    /// Tells arbiters what they have to know and were not told.
    pub(crate) fn tell_arbiters(&mut self, out: &mut Output) {
        // Also one that is being replaced: what sets voters aside must be known by all that may still vote.
        let arbiters: BTreeSet<ReplicaId> =
            self.counting().flat_map(|at| at.membership.arbiters()).collect();
        let at = self.memberships.last();
        let is_due = at.membership.is_degraded() || at.id.slot <= self.slot_committed;
        let Duty::Leader(leader) = &mut self.duty else {
            return;
        };
        if !is_due {
            return;
        }
        let arbiters = arbiters.into_iter().filter(|id| *id != self.options.replica);
        for id in arbiters {
            if let Some(peer) = leader.peers.get_mut(&id).filter(|peer| peer.seats_told < at.id) {
                peer.seats_told = at.id;
                let seats = Seats { ballot: self.promised, at: at.clone() };
                out.messages.push((id, Message::Seats(seats)));
            }
        }
    }

    /// An arbiter answered a heartbeat: what it was told before that may have got lost.
    pub(crate) fn tell_again(&mut self, from: ReplicaId, out: &mut Output) {
        if let Duty::Leader(leader) = &mut self.duty
            && let Some(peer) = leader.peers.get_mut(&from).filter(|peer| peer.is_arbiter)
            && peer.seats_kept < peer.seats_told
        {
            peer.seats_told = peer.seats_kept;
            self.tell_arbiters(out);
        }
    }

    /// Notes whether the membership in force, which sets voters aside, counts: a quorum that votes has it on disk,
    /// by every membership that a vote has to be counted by.
    pub(crate) fn note_in_force(&mut self) {
        let at = self.memberships.last();
        let Duty::Leader(leader) = &self.duty else {
            return;
        };
        if !at.membership.is_degraded() || leader.in_force == Some(at.id) {
            return;
        }
        assert_eq!(at.id.ballot, self.promised, "leads by members that another leader set aside");
        let id = at.id;
        if self.is_voted(|member| self.knows(leader, member, id)) {
            let Duty::Leader(leader) = &mut self.duty else {
                return;
            };
            leader.in_force = Some(id);
        }
    }

    /// True if a member has the entry of a membership on disk, or as an arbiter what came with it.
    fn knows(&self, leader: &Leader, member: ReplicaId, id: EntryId) -> bool {
        match leader.peers.get(&member) {
            Some(peer) if peer.is_arbiter => id <= peer.seats_kept,
            Some(_) | None => id.slot <= self.synced_at(leader, member),
        }
    }
}
