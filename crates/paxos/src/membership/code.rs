//! The bytes of a membership, as they stand in the log, in snapshots and in the promise file.
//!
//! Integers are big-endian.
//!
//! | bytes | field |
//! |---:|---|
//! | 1 | format, 3 |
//! | 4 | number of the history |
//! | 24 | the entry that it began with: slot, ballot round, ballot replica; zero for the first one |
//! | 1 | number of members |
//! | 12 each | replica (8), rank (2), role (1), kind (1) |
//!
//! Roles: 0 learner, 1 voter, 2 joining, 3 leaving, 4 demoted, 5 suspended. Kinds: 0 full, 1 log-only, 2 read-only,
//! 3 arbiter.

use std::collections::BTreeMap;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use quorate_types::{Ballot, EntryId, ReplicaId, ReplicaKind, Slot, limits};

use super::{History, Member, Membership, Role};

const FORMAT: u8 = 3;
const HEAD_BYTES: usize = 1 + 4 + 24 + 1;
const MEMBER_BYTES: usize = 12;

/// Why something is no membership.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MembershipError {
    /// More members than a group may have.
    #[error("{0} members; a group has at most {max}", max = limits::GROUP_MEMBERS_MAX)]
    TooMany(usize),
    /// Nobody votes, or nobody would once the change is over.
    #[error("a group without a full voter")]
    NoVoter,
    /// Fewer full voters than it takes to lose as many as the group is made for.
    #[error("too few of the voters are full replicas")]
    TooFewFull,
    /// More than one arbiter votes.
    #[error("a group with two arbiters")]
    Arbiters,
    /// A member that only serves reads is to vote.
    #[error("a read-only member never votes")]
    ReadOnlyVoter,
    /// A format this version does not know.
    #[error("membership format {0} is unknown")]
    Format(u8),
    /// A role this version does not know.
    #[error("role {0} is unknown")]
    Role(u8),
    /// A kind this version does not know.
    #[error("kind {0} of a replica is unknown")]
    Kind(u8),
    /// More or fewer bytes than its members need.
    #[error("the bytes of a membership are of another length")]
    Length,
    /// A later history that began with no entry, or a first one that did.
    #[error("the history of a membership cannot be")]
    History,
    /// Replicas out of order, or twice.
    #[error("members out of order")]
    Order,
}

impl Membership {
    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(HEAD_BYTES + self.members.len() * MEMBER_BYTES);
        out.put_u8(FORMAT);
        let History { number, since } = self.history;
        out.put_u32(number);
        out.put_u64(since.slot.0);
        out.put_u64(since.ballot.round);
        out.put_u64(since.ballot.replica.0);
        out.put_u8(u8::try_from(self.members.len()).expect("bounded by GROUP_MEMBERS_MAX"));
        for (id, member) in &self.members {
            out.put_u64(id.0);
            out.put_u16(member.rank);
            out.put_u8(match member.role {
                Role::Learner => 0,
                Role::Voter => 1,
                Role::Joining => 2,
                Role::Leaving => 3,
                Role::Demoted => 4,
                Role::Suspended => 5,
            });
            out.put_u8(match member.kind {
                ReplicaKind::Full => 0,
                ReplicaKind::LogOnly => 1,
                ReplicaKind::ReadOnly => 2,
                ReplicaKind::Arbiter => 3,
            });
        }
        out.freeze()
    }

    /// Reads a membership from disk or network bytes.
    ///
    /// # Errors
    /// `MembershipError` says what is wrong.
    pub fn decode(mut bytes: &[u8]) -> Result<Membership, MembershipError> {
        let format = *bytes.first().ok_or(MembershipError::Length)?;
        if format != FORMAT {
            return Err(MembershipError::Format(format));
        }
        if bytes.len() < HEAD_BYTES {
            return Err(MembershipError::Length);
        }
        bytes.advance(1);
        let number = bytes.get_u32();
        let slot = Slot(bytes.get_u64());
        let ballot = Ballot { round: bytes.get_u64(), replica: ReplicaId(bytes.get_u64()) };
        let since = EntryId { slot, ballot };
        if (number == 0) != (slot == Slot::ZERO) || (number == 0 && since != EntryId::ZERO) {
            return Err(MembershipError::History);
        }
        let count = usize::from(bytes.get_u8());
        if bytes.len() != count * MEMBER_BYTES {
            return Err(MembershipError::Length);
        }
        let mut members = BTreeMap::new();
        for _ in 0..count {
            let id = ReplicaId(bytes.get_u64());
            let rank = bytes.get_u16();
            let role = match bytes.get_u8() {
                0 => Role::Learner,
                1 => Role::Voter,
                2 => Role::Joining,
                3 => Role::Leaving,
                4 => Role::Demoted,
                5 => Role::Suspended,
                other => return Err(MembershipError::Role(other)),
            };
            let kind = match bytes.get_u8() {
                0 => ReplicaKind::Full,
                1 => ReplicaKind::LogOnly,
                2 => ReplicaKind::ReadOnly,
                3 => ReplicaKind::Arbiter,
                other => return Err(MembershipError::Kind(other)),
            };
            if members.last_key_value().is_some_and(|(last, _)| id <= *last) {
                return Err(MembershipError::Order);
            }
            members.insert(id, Member { rank, role, kind });
        }
        Ok(Membership::new(members)?.in_history(History { number, since }))
    }
}
