//! The memberships that may count at a replica: the last one that is known to be chosen, and what its log
//! holds above.

use std::cmp::Ordering;

use quorate_types::{EntryId, Slot};

use super::Membership;

/// A membership and the entry it came with; entry zero is how the group began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MembershipAt {
    /// The entry.
    pub id: EntryId,
    /// Who takes part from it on.
    pub membership: Membership,
}

impl MembershipAt {
    /// True if this one counts rather than the other: it is of a later history, or came later in the same.
    #[must_use]
    pub fn is_after(&self, other: &MembershipAt) -> bool {
        let order = |at: &MembershipAt| (at.membership.history(), at.id.slot);
        order(other) < order(self)
    }
}

/// Invariants: never empty, slots rise; the first one is chosen, or began a history by force.
#[derive(Clone, Debug)]
pub(crate) struct Memberships(Vec<MembershipAt>);

impl Memberships {
    /// What a replica starts with: the chosen one, and those in its log.
    pub(crate) fn restored(chosen: MembershipAt, in_log: Vec<MembershipAt>) -> Memberships {
        let mut memberships = Memberships(vec![chosen]);
        in_log.into_iter().for_each(|at| memberships.push(at));
        memberships
    }

    /// The one in force: the last, chosen or not. Nothing was chosen by an older one alone once this one was
    /// in the log of a leader, so its quorums are enough.
    pub(crate) fn current(&self) -> &Membership {
        &self.last().membership
    }

    /// All that a vote has to be counted by, where everything through `slot_committed` is chosen: the one in force,
    /// and while voters are set aside in it and it is not known to be chosen, the one before it too. (An entry
    /// that sets voters aside counts only once more than its own quorum has it; see `suspend.rs`.)
    pub(crate) fn counting(&self, slot_committed: Slot) -> impl Iterator<Item = &MembershipAt> {
        let is_sure =
            |at: &MembershipAt| !at.membership.is_degraded() || at.id.slot <= slot_committed;
        let sure = self.0.iter().rposition(is_sure).unwrap_or(0);
        self.0[sure..].iter()
    }

    /// The one in force, with its entry.
    pub(crate) fn last(&self) -> &MembershipAt {
        self.0.last().expect("never empty")
    }

    /// The first one of the history of the last: it is chosen, or began that history by force.
    pub(crate) fn first_of_history(&self) -> &MembershipAt {
        let history = self.last().membership.history();
        let first = self.0.iter().find(|at| at.membership.history() == history);
        first.expect("the last one is")
    }

    /// The one that was in force at this slot, if it is chosen.
    pub(crate) fn at(&self, slot: Slot) -> &MembershipAt {
        &self.0[self.index_at(slot)]
    }

    fn index_at(&self, slot: Slot) -> usize {
        self.0.partition_point(|at| at.id.slot <= slot).saturating_sub(1)
    }

    /// The log goes on with this one.
    pub(crate) fn push(&mut self, at: MembershipAt) {
        // The first one may be ahead of the log: it was chosen, and the log did not reach it yet.
        let first = &self.0[0];
        let is_ahead = at.id.slot <= first.id.slot;
        match at.membership.history().cmp(&first.membership.history()) {
            // The log is of an older history and gives way to that of this one.
            Ordering::Less => {}
            Ordering::Equal if is_ahead => {}
            Ordering::Greater if is_ahead => self.begin_with(at),
            Ordering::Equal | Ordering::Greater => {
                self.cut_from(at.id.slot);
                self.0.push(at);
            }
        }
    }

    /// The log is cut: what came with entries from this slot on never came.
    pub(crate) fn cut_from(&mut self, slot: Slot) {
        while 1 < self.0.len() && slot <= self.last().id.slot {
            self.0.pop();
        }
    }

    /// The log begins anew at this one, which is chosen.
    pub(crate) fn begin_with(&mut self, at: MembershipAt) {
        self.0 = vec![at];
    }

    /// Chosen through here: older ones count no more.
    pub(crate) fn settle(&mut self, slot: Slot) {
        self.0.drain(..self.index_at(slot));
    }

    /// True if the log has none above the one that is known to be chosen.
    pub(crate) fn is_settled(&self) -> bool {
        self.0.len() == 1
    }

    pub(crate) fn check(&self) {
        let pairs = self.0.iter().zip(self.0.iter().skip(1));
        for (before, after) in pairs {
            assert!(before.id.slot < after.id.slot, "memberships out of order at {}", after.id);
        }
    }
}
