//! A log that has lost entries on the disk, and how its replica becomes one that may vote again. Called by
//! `replica.rs`, `acceptor.rs`, `election.rs` and `freshness.rs`.
//!
//! What such a replica accepted may be chosen by its word, and it has it no more: with its vote somebody could be
//! elected who lacks it. So it gives no promise and no pre-vote and does not run. All else goes on: it obeys
//! leaders, writes what they send, acknowledges what is on its disk, and grants leases, which are promises not to
//! vote.
//!
//! It asks the leader where its log ends, and is whole once its own log equals that log so far, on disk, and the rows
//! are there that it begins after:
//!
//! - what it had accepted under older ballots and is chosen, or ever will be, the leader had when it was elected;
//! - what it had accepted under this ballot was in the leader's log when the question came, because whoever asks
//!   has forgotten nothing that it was sent afterwards. (Not only what is chosen by then: its acknowledgements
//!   from before may still be on their way. So the *last* slot counts, and not the commit position.)
//!
//! The question also tells the leader what the replica has: leaders do not send again what was acknowledged.

use quorate_types::planted::{Bug, planted};
use quorate_types::{Ballot, BootTime, ReplicaId, Slot};

use crate::leader::Progress;
use crate::message::{Ask, Told};
use crate::output::Output;
use crate::replica::{Duty, Replica};

/// What is known on the way back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Suspicion {
    /// The last slot of the leader of this ballot, from its answer to a question of this life.
    named: Option<(Ballot, Slot)>,
    /// When the leader was asked last.
    asked_at: Option<BootTime>,
    /// The driver was told that the log is whole, and makes that durable.
    is_over: bool,
}

impl Replica {
    /// True while the log may lack entries that were acknowledged: this replica does not vote.
    #[must_use]
    pub fn is_log_suspect(&self) -> bool {
        self.suspicion.is_some()
    }

    /// What a replica starts with whose log is suspect, or not.
    pub(crate) fn suspicion_of(is_suspect: bool) -> Option<Suspicion> {
        (is_suspect && !planted(Bug::TrustDamagedLog)).then(Suspicion::default)
    }

    /// What a suspect says of its own log with a question: it is on disk, and equals the leader's, through here.
    pub(crate) fn slot_left(&self) -> Option<Slot> {
        self.suspicion.as_ref().map(|_| self.slot_synced.min(self.slot_verified))
    }

    /// The leader lives: asks it where its log ends, again and again, for it also hears what we lack.
    pub(crate) fn ask_for_end(&mut self, now: BootTime, out: &mut Output) {
        let again = self.options.timing.renew * 2;
        let Some(suspicion) = &mut self.suspicion else { return };
        if suspicion.is_over || suspicion.asked_at.is_some_and(|at| now < at + again) {
            return;
        }
        suspicion.asked_at = Some(now);
        self.ask_leader(now, out);
    }

    /// The answer to one of our questions.
    pub(crate) fn note_end(&mut self, msg: Told) {
        let promised = self.promised;
        let Some(suspicion) = self.suspicion.as_mut().filter(|_| msg.ballot == promised) else {
            return;
        };
        // The first answer of a leader will do: later ones would run away.
        if suspicion.named.is_none_or(|(ballot, _)| ballot != promised) {
            suspicion.named = Some((promised, msg.slot_last));
        }
    }

    /// Tells the driver once the log is whole.
    pub(crate) fn settle_suspicion(&mut self, out: &mut Output) {
        let is_durable = self.promised == self.promised_synced;
        // What a snapshot holds is not in the log that begins with it.
        let has_all = self.log.trimmed() == Slot::ZERO || !self.lacks_rows();
        let (promised, left) = (self.promised, self.slot_left());
        let Some(suspicion) = &mut self.suspicion else { return };
        let reaches = |(ballot, end): (Ballot, Slot)| ballot == promised && Some(end) <= left;
        if is_durable && has_all && !suspicion.is_over && suspicion.named.is_some_and(reaches) {
            suspicion.is_over = true;
            out.log_whole = true;
        }
    }

    /// That the log is whole is durable: from now on this replica votes.
    pub(crate) fn on_log_whole(&mut self, now: BootTime) {
        let over = self.suspicion.take();
        assert!(over.is_some_and(|it| it.is_over), "called whole before it was");
        self.wait_for_leader(now.max(self.lease_until));
    }

    /// A follower asks, and may have lost log that it had acknowledged: it is sent that again.
    pub(crate) fn note_lost(&mut self, from: ReplicaId, msg: &Ask, out: &mut Output) {
        let Duty::Leader(leader) = &mut self.duty else { return };
        let Some(left) = msg.left.filter(|_| msg.ballot == self.promised) else { return };
        let Some(peer) = leader.peers.get_mut(&from).filter(|peer| left < peer.slot_synced) else {
            return;
        };
        peer.lose_above(left);
        self.pump(from, out);
    }
}

impl Progress {
    /// What it had acknowledged above is gone there. (It may be chosen by those acknowledgements: what counts is
    /// that whoever lost it does not vote.)
    fn lose_above(&mut self, left: Slot) {
        self.slot_synced = left;
        self.slot_verified = None;
        self.rewind(left.next());
    }
}
