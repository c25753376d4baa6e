//! What the members of a group mean for its loss ledger: while all voters with a log but one are set aside, what is
//! acknowledged is on one disk. Called by `carry_out.rs` when a membership is applied.
//!
//! Rows follow from the log and the rows alone, so every replica writes the same.

use quorate_paxos::{Member, Membership};
use quorate_store::{Change, open_losses, write_loss};
use quorate_types::planted::{Bug, planted};
use quorate_types::{EntryId, LogTime, Loss, LossEntry, LossKind, MemberRole, ReplicaId};

use crate::group::{Fatal, GroupDriver};

/// The one copy that is left, and those that are set aside; `None` if there are more copies.
fn single_copy(membership: &Membership) -> Option<(ReplicaId, Vec<ReplicaId>)> {
    let with = |role: fn(MemberRole) -> bool| {
        let counts = move |member: &Member| role(member.role) && member.kind.keeps_log();
        membership.members().filter(move |(_, member)| counts(member)).map(|(id, _)| id)
    };
    let mut copies = with(MemberRole::votes_after);
    let copy = copies.next()?;
    let away: Vec<ReplicaId> = with(|role| role == MemberRole::Suspended).collect();
    let is_single = copies.next().is_none() && !membership.is_joint() && !away.is_empty();
    is_single.then_some((copy, away))
}

impl GroupDriver {
    /// Opens an entry of the ledger when a single copy is left, and closes it when there are more again. From the entry of
    /// the joint membership on, what is chosen is on the disk of who comes back too, with all before it.
    pub(crate) fn single_copy_rows(
        &self,
        entry: EntryId,
        at: LogTime,
        membership: &Membership,
    ) -> Result<Vec<Change>, Fatal> {
        let left = single_copy(membership);
        let open = open_losses(self.store.as_ref(), self.keyspace);
        let open = open.map_err(|source| Fatal::Store { group: self.group, source })?;
        let goes_on =
            |open: &LossEntry| left.as_ref().is_some_and(|(copy, _)| open.loss.kept == [*copy]);
        let is_open = open.iter().any(goes_on);
        let mut rows = Vec::new();
        for over in open.into_iter().filter(|open| !goes_on(open)) {
            let closed = LossEntry { closed: Some((entry, at)), ..over };
            rows.push(write_loss(self.keyspace, &closed));
        }
        let is_told = is_open || planted(Bug::QuietWindow);
        if let Some((copy, away)) = left.filter(|_| !is_told) {
            let history = membership.history().number;
            let loss = Loss {
                kind: LossKind::SingleCopy,
                history_before: history,
                history_after: history,
                // Whatever is before is chosen with it, and on the disk of whoever is left.
                proven_through: entry.slot,
                kept_through: entry.slot,
                kept: vec![copy],
                given_up: away,
                operator: String::new(),
                reason: "a voter was not heard and was set aside".to_owned(),
                told_at_ms: 0,
            };
            let opened = LossEntry { opened: entry, opened_at: at, closed: None, loss };
            rows.push(write_loss(self.keyspace, &opened));
        }
        Ok(rows)
    }
}

#[cfg(test)]
mod tests {
    use quorate_paxos::Role;
    use quorate_types::ReplicaKind;

    use super::*;

    fn of(members: &[(Role, ReplicaKind)]) -> Membership {
        let member =
            |(role, kind): &(Role, ReplicaKind)| Member { rank: 0, role: *role, kind: *kind };
        let ids = (1..).map(ReplicaId);
        Membership::new(ids.zip(members.iter().map(member)).collect()).expect("a group")
    }

    /// Goal: only one disk with the log among those who count is a single copy; an arbiter is none, and a group that was
    /// made with one voter lacks nobody.
    #[test]
    fn a_single_copy_is_one_that_lacks_another() {
        use ReplicaKind::{Arbiter, Full};
        use Role::{Joining, Suspended, Voter};
        let left =
            |members: &[(Role, ReplicaKind)]| single_copy(&of(members)).map(|(copy, _)| copy);
        let arbiter = (Voter, Arbiter);
        assert_eq!(left(&[(Voter, Full), (Suspended, Full), arbiter]), Some(ReplicaId(1)));
        assert_eq!(left(&[(Suspended, Full), (Voter, Full), arbiter]), Some(ReplicaId(2)));
        assert_eq!(left(&[(Voter, Full), (Voter, Full), arbiter]), None);
        assert_eq!(left(&[(Voter, Full), (Joining, Full), arbiter]), None);
        assert_eq!(left(&[(Voter, Full)]), None);
        let four = [(Voter, Full), (Voter, Full), (Suspended, Full), (Suspended, Full), arbiter];
        assert_eq!(left(&four), None);
    }
}
