//! Why there is no way to a wish.

use quorate_types::{Code, Error, ReplicaKind, limits};

use crate::voters::WrongKinds;

/// Why a wish is refused. Nodes and groups are named as in the cluster file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No group has this number.
    #[error("no group has the number {0}")]
    UnknownGroup(u32),
    /// Only a member can be replaced, promoted or demoted.
    #[error("{node} has no replica of {group}; its members are on {members}")]
    NoMember {
        /// The node.
        node: String,
        /// The group.
        group: String,
        /// Where the members are.
        members: String,
    },
    /// The node is to be a learner and votes.
    #[error("{node} votes in {group} already")]
    Votes {
        /// The node.
        node: String,
        /// The group.
        group: String,
    },
    /// The node that takes over has a replica of the group already.
    #[error("{by} votes in {group} already, and cannot take the vote of {node} as well")]
    VotesTwice {
        /// The node that is to take over.
        by: String,
        /// The node that leaves.
        node: String,
        /// The group.
        group: String,
    },
    /// The node has a replica of the group that holds something else.
    #[error("{node} has a replica of {group} that is {is}, and it cannot become {wanted}")]
    OtherKind {
        /// The node.
        node: String,
        /// The group.
        group: String,
        /// What the replica is.
        is: ReplicaKind,
        /// What it is to be.
        wanted: ReplicaKind,
    },
    /// The voters would be of kinds that do not make a group.
    #[error("{group} would have {wrong}")]
    WrongKinds {
        /// The group.
        group: String,
        /// What would be wrong.
        wrong: WrongKinds,
    },
    /// A node is to take its own place.
    #[error("{0} cannot take its own place; remove its replica, then add one")]
    SameNode(String),
    /// Nobody would vote.
    #[error("{node} is the last voter of {group}")]
    LastVoter {
        /// The node.
        node: String,
        /// The group.
        group: String,
    },
    /// More members than a group may have.
    #[error("{0} would have more than {max} members", max = limits::GROUP_MEMBERS_MAX)]
    TooMany(String),
    /// The group cannot decide anything, so it cannot change its members.
    #[error("{group} cannot change its members now: {survives}")]
    StoppedNow {
        /// The group.
        group: String,
        /// What stops it.
        survives: String,
    },
    /// The change would stop the group.
    #[error("the change would stop {group}: {survives}")]
    WouldStop {
        /// The group.
        group: String,
        /// What would stop it.
        survives: String,
    },
    /// The group survives the loss of a node now and would not any more.
    #[error("{group} survives the loss of any one node now; then it {survives}")]
    LessRedundancy {
        /// The group.
        group: String,
        /// What it would survive.
        survives: String,
    },
    /// No node may take a replica over.
    #[error("no node can take the replica of {group} from {node}: {why}")]
    NoSuccessor {
        /// The group.
        group: String,
        /// The node that is to be empty.
        node: String,
        /// What is the matter with the others near by.
        why: String,
        /// Where a node is missing, such as `zone sh-a, IDC sh-a or city sh`.
        place: String,
    },
}

impl Refusal {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Refusal::UnknownGroup(_) => Code::UnknownGroup,
            Refusal::NoMember { .. } => Code::WrongNode,
            Refusal::Votes { .. } | Refusal::VotesTwice { .. } => Code::MemberExists,
            Refusal::SameNode(_)
            | Refusal::LastVoter { .. }
            | Refusal::TooMany(_)
            | Refusal::OtherKind { .. }
            | Refusal::WrongKinds { .. }
            | Refusal::NoSuccessor { .. } => Code::InvalidRequest,
            Refusal::StoppedNow { .. } | Refusal::WouldStop { .. } => Code::NoQuorum,
            Refusal::LessRedundancy { .. } => Code::LessRedundancy,
        }
    }
}

impl From<&Refusal> for Error {
    fn from(refusal: &Refusal) -> Error {
        Error::new(refusal.code(), refusal.to_string())
    }
}
