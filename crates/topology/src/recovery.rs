//! Forced recovery of a group that lost a majority for ever: what its survivors prove, what is at risk, what may
//! be lost, and whose log is taken.
//!
//! Pure: whoever plans has asked all nodes where their replicas stand, twice: at first for what they know to be
//! chosen, and then which entry they have at the greatest such slot.
//!
//! **Why the greatest (ballot, slot) alone does not decide.** A log with a later ballot may lack an entry that
//! another survivor knows to be chosen: an entry of an old leader, that a new one, elected by those who are lost,
//! made chosen under its own ballot, stands in its log with the old ballot. So only logs that hold the greatest
//! entry that is known to be chosen may be taken; among those the greatest (ballot, slot) counts.

use std::collections::{BTreeMap, BTreeSet};

use quorate_types::{
    Ballot, Code, EntryId, Error, MemberRole, NodeId, ReplicaId, ReplicaKind, Slot,
};

/// A survivor: a replica that answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survivor {
    /// The replica. Its node is part of its id.
    pub replica: ReplicaId,
    /// Its history: number, and the entry that it began with.
    pub history: (u32, EntryId),
    /// The members that it counts by, and the slot of the entry that they came with.
    pub members: BTreeMap<ReplicaId, (MemberRole, ReplicaKind)>,
    /// That slot.
    pub members_since: Slot,
    /// The group goes on without it.
    pub is_outlived: bool,
    /// Its log is not yet of its history.
    pub is_crossing: bool,
    /// It has rows that go with its log.
    pub has_rows: bool,
    /// What it has promised.
    pub promised: Ballot,
    /// The last entry of its log.
    pub last: EntryId,
    /// The greatest entry that it knows to be chosen.
    pub committed: EntryId,
    /// The entry at the slot that all were asked about: [`proven`].
    pub at_proven: Option<EntryId>,
    /// The node that it takes for the leader.
    pub leader: Option<NodeId>,
}

/// How a group could go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// The history that is given up: number, and the entry that it began with.
    pub history: (u32, EntryId),
    /// The greatest entry that any survivor knows to be chosen. It and all before it are kept.
    pub proven: EntryId,
    /// The survivor whose log is taken.
    pub taken: ReplicaId,
    /// The last entry of its log: above what is proven nobody knows what was chosen.
    pub last: EntryId,
    /// The greatest ballot that any survivor promised.
    pub promised: Ballot,
    /// The voters that go on.
    pub kept: BTreeSet<ReplicaId>,
    /// Learners that answered, and stay.
    pub learners: BTreeSet<ReplicaId>,
    /// Members that are given up.
    pub given_up: BTreeSet<ReplicaId>,
}

impl Recovery {
    /// First and last slot that are kept without anybody knowing whether they were chosen.
    #[must_use]
    pub fn at_risk(&self) -> Option<(Slot, Slot)> {
        let is_some = self.proven.slot < self.last.slot;
        is_some.then(|| (self.proven.slot.next(), self.last.slot))
    }

    /// Whatever was acknowledged from here on is lost.
    #[must_use]
    pub fn lost_from(&self) -> Slot {
        self.last.slot.next()
    }
}

/// Why a group is not to be recovered by force. Nodes are named by `name_of` of [`plan`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotRecovered {
    /// A majority answers.
    #[error("{answer} of {voters} voters answer: the group is not lost")]
    NotLost {
        /// How many voters answered.
        answer: usize,
        /// How many there are.
        voters: usize,
    },
    /// A forced recovery has begun before, and its voters answer.
    #[error(
        "the group was recovered: it is in history {number}, and a majority of its voters answers"
    )]
    Recovered {
        /// The history.
        number: u32,
    },
    /// Somebody takes a node for the leader.
    #[error("{0} follows a leader: the group is not lost")]
    Led(NodeId),
    /// No replica that votes answers.
    #[error("no voter of the group answers: there is nothing to go on with")]
    Nobody,
    /// A node is to be kept that has no voter that answers.
    #[error("{0} has no voter of the group that answers")]
    NotKept(NodeId),
    /// None of those to be kept has a log that holds all that is known to be chosen.
    #[error(
        "no log that is to be kept holds slot {proven}, which is known to be chosen; {holders:?} hold it"
    )]
    LacksProven {
        /// The slot.
        proven: Slot,
        /// Who holds it.
        holders: Vec<NodeId>,
    },
    /// None of those to be kept has rows.
    #[error("no replica that is to be kept has rows and a log that go together")]
    LacksRows,
}

impl NotRecovered {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            NotRecovered::NotLost { .. }
            | NotRecovered::Recovered { .. }
            | NotRecovered::Led(_) => Code::GroupNotLost,
            NotRecovered::Nobody => Code::Unreachable,
            NotRecovered::NotKept(_) | NotRecovered::LacksProven { .. } => Code::InvalidRequest,
            NotRecovered::LacksRows => Code::MemberNotReady,
        }
    }
}

impl From<&NotRecovered> for Error {
    fn from(refusal: &NotRecovered) -> Error {
        Error::new(refusal.code(), refusal.to_string())
    }
}

/// The greatest entry that any survivor knows to be chosen; all are asked about its slot.
#[must_use]
pub fn proven(survivors: &[Survivor]) -> EntryId {
    let counting = survivors.iter().filter(|it| !it.is_outlived);
    let committed = counting.map(|it| it.committed);
    committed.max_by_key(|entry| entry.slot).unwrap_or(EntryId::ZERO)
}

/// How a group goes on with the survivors, or with those on `keep` alone.
///
/// # Errors
/// `NotRecovered` says why it must not, or cannot.
pub fn plan(
    survivors: &[Survivor],
    keep: Option<&BTreeSet<NodeId>>,
) -> Result<Recovery, NotRecovered> {
    let counting: Vec<&Survivor> = survivors.iter().filter(|it| !it.is_outlived).collect();
    // Who hears of a later history counts by it; the last members of it are the ones.
    // Whoever nobody has taken in yet knows of none, since the same slot as those who began the group.
    let order = |it: &&&Survivor| (it.history, it.members_since, !it.members.is_empty());
    let latest = counting.iter().max_by_key(order);
    let latest = *latest.ok_or(NotRecovered::Nobody)?;
    let (history, members) = (latest.history, &latest.members);
    let answers = |id: &ReplicaId| counting.iter().any(|it| it.replica == *id);
    let voters = |votes: fn(MemberRole) -> bool| {
        members.iter().filter(move |(_, (role, _))| votes(*role)).map(|(id, _)| id)
    };
    let has_majority = |votes: fn(MemberRole) -> bool| {
        voters(votes).count() < 2 * voters(votes).filter(|id| answers(id)).count()
    };
    if has_majority(MemberRole::votes_before) && has_majority(MemberRole::votes_after) {
        let (number, _) = history;
        return Err(if number == 0 {
            NotRecovered::NotLost {
                answer: voters(MemberRole::votes_after).filter(|id| answers(id)).count(),
                voters: voters(MemberRole::votes_after).count(),
            }
        } else {
            NotRecovered::Recovered { number }
        });
    }
    if let Some(led) = counting.iter().find(|it| it.leader.is_some() && it.history == history) {
        return Err(NotRecovered::Led(led.replica.node()));
    }
    let votes = |it: &&&Survivor| {
        // Whoever is set aside may be all that is left.
        let may_vote = |role: MemberRole| role.votes() || role == MemberRole::Suspended;
        members.get(&it.replica).is_some_and(|(role, _)| may_vote(*role))
    };
    let alive: Vec<&Survivor> = counting.iter().filter(votes).copied().collect();
    if alive.is_empty() {
        return Err(NotRecovered::Nobody);
    }
    let is_kept = |id: &ReplicaId| keep.is_none_or(|keep| keep.contains(&id.node()));
    for node in keep.into_iter().flatten() {
        if !alive.iter().any(|it| it.replica.node() == *node) {
            return Err(NotRecovered::NotKept(*node));
        }
    }
    let proven = proven(survivors);
    let holds = |it: &&&Survivor| {
        it.at_proven == Some(proven) || proven.slot <= it.committed.slot || proven == EntryId::ZERO
    };
    let kept: Vec<&Survivor> = alive.iter().filter(|it| is_kept(&it.replica)).copied().collect();
    let holding: Vec<&Survivor> = kept.iter().filter(holds).copied().collect();
    if holding.is_empty() {
        let holders = alive.iter().filter(holds).map(|it| it.replica.node()).collect();
        return Err(NotRecovered::LacksProven { proven: proven.slot, holders });
    }
    let kind_of = |id: &ReplicaId| members.get(id).map(|(_, kind)| *kind).unwrap_or_default();
    let has_log = |it: &&&Survivor| it.has_rows && kind_of(&it.replica).may_lead();
    let taken =
        holding.iter().filter(has_log).max_by_key(|it| (!it.is_crossing, it.last, it.replica));
    let taken = *taken.ok_or(NotRecovered::LacksRows)?;
    // At least half of a group are full replicas: of the others only so many go on.
    let (full, others): (Vec<ReplicaId>, Vec<ReplicaId>) =
        kept.iter().map(|it| it.replica).partition(|id| kind_of(id).may_lead());
    let room = full.len();
    let kept: BTreeSet<ReplicaId> = full.into_iter().chain(others.into_iter().take(room)).collect();
    let learns =
        |it: &&&Survivor| matches!(members.get(&it.replica), Some((MemberRole::Learner, _)));
    let learners: BTreeSet<ReplicaId> =
        counting.iter().filter(learns).map(|it| it.replica).collect();
    let stays = |id: &ReplicaId| kept.contains(id) || learners.contains(id);
    Ok(Recovery {
        history,
        proven,
        taken: taken.replica,
        last: taken.last,
        promised: counting.iter().map(|it| it.promised).max().unwrap_or(Ballot::ZERO),
        given_up: members.keys().filter(|id| !stays(id)).copied().collect(),
        kept,
        learners,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(node: u64) -> ReplicaId {
        ReplicaId(node)
    }

    fn entry(round: u64, slot: u64) -> EntryId {
        EntryId { slot: Slot(slot), ballot: Ballot { round, replica: id(1) } }
    }

    /// A voter of `voters`, with a log that ends at `last` and what it knows to be chosen.
    fn survivor(node: u64, voters: u64, last: EntryId, committed: EntryId) -> Survivor {
        let voter = (MemberRole::Voter, ReplicaKind::Full);
        Survivor {
            replica: id(node),
            history: (0, EntryId::ZERO),
            members: (1..=voters).map(|node| (id(node), voter)).collect(),
            members_since: Slot::ZERO,
            is_outlived: false,
            is_crossing: false,
            has_rows: true,
            promised: last.ballot,
            last,
            committed,
            at_proven: None,
            leader: None,
        }
    }

    fn nodes(nodes: &[u32]) -> BTreeSet<NodeId> {
        nodes.iter().copied().map(NodeId).collect()
    }

    /// Goal: what is proven, at risk and possibly lost follows from what the survivor has.
    #[test]
    fn one_of_three() {
        let alone = survivor(3, 3, entry(2, 9), entry(2, 7));
        let plan = plan(&[alone], None).expect("two of three are lost");
        assert_eq!((plan.proven, plan.at_risk()), (entry(2, 7), Some((Slot(8), Slot(9)))));
        assert_eq!((plan.taken, plan.lost_from()), (id(3), Slot(10)));
        assert_eq!(plan.kept, [id(3)].into());
        assert_eq!(plan.given_up, [id(1), id(2)].into());
        let whole = survivor(3, 3, entry(2, 7), entry(2, 7));
        assert_eq!(super::plan(&[whole], None).expect("lost").at_risk(), None);
        let empty = survivor(3, 3, EntryId::ZERO, EntryId::ZERO);
        assert_eq!(super::plan(&[empty], None).expect("lost").lost_from(), Slot(1));
    }

    /// Goal: a group that is not lost is left alone: a majority answers, somebody leads, or a recovery has
    /// succeeded before.
    #[test]
    fn what_is_not_lost() {
        let two = [1, 2].map(|node| survivor(node, 3, entry(1, 5), entry(1, 4)));
        let not_lost = NotRecovered::NotLost { answer: 2, voters: 3 };
        assert_eq!(plan(&two, None), Err(not_lost));
        let leader = Some(NodeId(3));
        let led = Survivor { leader, ..survivor(1, 3, entry(1, 5), entry(1, 4)) };
        assert_eq!(plan(&[led], None), Err(NotRecovered::Led(NodeId(1))));
        let history = (1, entry(3, 6));
        let alone = survivor(1, 1, entry(3, 9), entry(3, 8));
        let recovered = Survivor { history, ..alone };
        let outlived = Survivor { is_outlived: true, ..survivor(2, 3, entry(9, 99), entry(9, 99)) };
        let late = survivor(3, 3, entry(2, 5), entry(2, 5));
        let all = [recovered, outlived.clone(), late];
        assert_eq!(plan(&all, None), Err(NotRecovered::Recovered { number: 1 }));
        assert_eq!(plan(&[outlived], None), Err(NotRecovered::Nobody));
        assert_eq!(plan(&[], None), Err(NotRecovered::Nobody));
    }

    /// Goal: among two of five the log with the later ballot is taken, unless it lacks what the other one
    /// knows to be chosen.
    #[test]
    fn the_log_that_is_taken_holds_what_is_proven() {
        let old = survivor(4, 5, entry(1, 3), entry(1, 3));
        let new = survivor(5, 5, entry(2, 3), entry(1, 2));
        assert_eq!(proven(&[old.clone(), new.clone()]), entry(1, 3));
        let holding = Survivor { at_proven: Some(entry(1, 3)), ..new.clone() };
        let plan_of = |other: &Survivor, keep: Option<&BTreeSet<NodeId>>| {
            plan(&[old.clone(), other.clone()], keep)
        };
        assert_eq!(plan_of(&holding, None).map(|it| it.taken), Ok(id(5)));
        let lacking = Survivor { at_proven: Some(entry(2, 3)), ..new };
        let plan = plan_of(&lacking, None).expect("lost");
        assert_eq!((plan.taken, plan.kept.len()), (id(4), 2));
        let refused = plan_of(&lacking, Some(&nodes(&[5]))).unwrap_err();
        let holders = vec![NodeId(4)];
        assert_eq!(refused, NotRecovered::LacksProven { proven: Slot(3), holders });
        let refused = plan_of(&holding, Some(&nodes(&[2]))).unwrap_err();
        assert_eq!(refused, NotRecovered::NotKept(NodeId(2)));
    }

    /// Goal: without rows nobody goes on; a learner that answers stays one.
    #[test]
    fn who_goes_on() {
        let bare = Survivor { has_rows: false, ..survivor(3, 3, entry(2, 9), entry(2, 7)) };
        assert_eq!(plan(&[bare], None), Err(NotRecovered::LacksRows));
        let mut voter = survivor(3, 3, entry(2, 9), entry(2, 7));
        voter.members.insert(id(7), (MemberRole::Learner, ReplicaKind::ReadOnly));
        let learner = Survivor { replica: id(7), ..voter.clone() };
        let plan = super::plan(&[voter, learner.clone()], None).expect("lost");
        assert_eq!((plan.kept, plan.learners), ([id(3)].into(), [id(7)].into()));
        assert_eq!(super::plan(&[learner], None), Err(NotRecovered::Nobody));
    }

    /// Goal: a replica that nobody has taken in yet, and so knows of no members, stands in nobody's way.
    #[test]
    fn who_is_not_taken_in_yet() {
        let voter = survivor(3, 3, entry(2, 9), entry(2, 7));
        let mut waits = survivor(9, 0, EntryId::ZERO, EntryId::ZERO);
        waits.members.clear();
        let plan = super::plan(&[voter, waits], None).expect("lost");
        assert_eq!((plan.taken, plan.kept), (id(3), [id(3)].into()));
        assert_eq!(plan.given_up, [id(1), id(2)].into());
    }

    /// Goal: a second loss is planned from the later history, and a log that has not crossed to it is taken
    /// only where no other is left.
    #[test]
    fn a_second_loss() {
        let history = (1, entry(3, 6));
        let crossed = Survivor { history, ..survivor(1, 4, entry(3, 7), entry(3, 7)) };
        let crossing = Survivor {
            history,
            is_crossing: true,
            at_proven: None,
            ..survivor(2, 4, entry(9, 99), entry(1, 3))
        };
        let plan = plan(&[crossed, crossing.clone()], None).expect("two of four are lost");
        assert_eq!((plan.history, plan.taken), (history, id(1)));
        let plan = super::plan(&[crossing], None).expect("lost");
        assert_eq!((plan.taken, plan.proven), (id(2), entry(1, 3)));
    }
}
