//! Checks whether the replicas of a group hold the same rows: the hashes they compare, what they say to
//! each other about them, and what comes of it.

use crate::ids::{GroupId, NodeId, ReplicaId, SliceId};
use crate::slot::EntryId;

/// Hashes of all records of a group as they were applied at one entry. The same on every replica that
/// holds the same records, wherever these came from.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct RowsDigest {
    /// Of the records of each slice that has some, in order.
    pub slices: Vec<(SliceId, u128)>,
    /// Of the records that belong to no slice: sessions, results, attempts, watermarks, the latest cut.
    pub rest: u128,
}

impl RowsDigest {
    /// Where two digests differ.
    #[must_use]
    pub fn difference(&self, other: &RowsDigest) -> Difference {
        let here = self.slices.iter().filter(|slice| !other.slices.contains(slice));
        let there = other.slices.iter().filter(|slice| !self.slices.contains(slice));
        let mut slices: Vec<SliceId> = here.chain(there).map(|(slice, _)| *slice).collect();
        slices.sort_unstable();
        slices.dedup();
        Difference { slices, rest: self.rest != other.rest }
    }
}

/// Where the rows of two replicas differ.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Slices with other records, in order.
    pub slices: Vec<SliceId>,
    /// Records that belong to no slice are others.
    pub rest: bool,
}

/// A message about a check from one replica of a group to another. May be lost, doubled or late: reports
/// are said again until there is a verdict, and each is answered with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckMessage {
    /// The group.
    pub group: GroupId,
    /// The sender.
    pub from: ReplicaId,
    /// The receiver.
    pub to: ReplicaId,
    /// The entry that asked for the check.
    pub at: EntryId,
    /// What is said.
    pub body: CheckBody,
}

impl CheckMessage {
    /// Roughly the bytes it takes on the wire.
    #[must_use]
    pub fn size(&self) -> usize {
        let digest = |digest: &RowsDigest| 24 * digest.slices.len();
        64 + match &self.body {
            CheckBody::Report(report) => report.as_ref().map_or(0, digest),
            CheckBody::Verdict { majority, agreeing } => digest(majority) + 9 * agreeing.len(),
        }
    }
}

/// What is said about a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckBody {
    /// To the leader: the rows of the sender; `None` if it could not hash them as of this entry.
    Report(Option<RowsDigest>),
    /// From the leader: a majority of the voters holds the same.
    Verdict {
        /// What it holds.
        majority: RowsDigest,
        /// Those that hold it, as far as they were heard.
        agreeing: Vec<ReplicaId>,
    },
}

/// What a check has found so far, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckReport {
    /// The group.
    pub group: GroupId,
    /// The entry that asked for the check.
    pub at: EntryId,
    /// A majority of the voters holds the same. Without one nobody knows who is right.
    pub has_majority: bool,
    /// Every voter, in order of node.
    pub replicas: Vec<(NodeId, CheckState)>,
}

/// What a check has found of one replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckState {
    /// It holds what the majority holds.
    Agrees,
    /// It holds something else than the majority; without a majority, than the leader.
    Differs(Difference),
    /// It could not hash its rows as of the entry: too many views were kept, or it took too long.
    NotChecked,
    /// It has not answered.
    NotHeard,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a slice that only one of the two has is a difference, and each is named once.
    #[test]
    fn differences_are_named_once() {
        let digest = |slices: &[(u16, u128)], rest| RowsDigest {
            slices: slices.iter().map(|(slice, hash)| (SliceId(*slice), *hash)).collect(),
            rest,
        };
        let one = digest(&[(1, 10), (2, 20), (4, 40)], 7);
        assert_eq!(one.difference(&one), Difference::default());
        let other = digest(&[(1, 10), (2, 21), (3, 30)], 8);
        let slices = vec![SliceId(2), SliceId(3), SliceId(4)];
        assert_eq!(one.difference(&other), Difference { slices, rest: true });
    }
}
