//! Identifiers. Each is a newtype, so that two of them can never change places in a call.

use std::fmt;
use std::str::FromStr;

use crate::slot::Slot;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty), $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }
    };
}

id!(
    /// A process of the cluster, numbered in the cluster file. Printed as `n3`.
    NodeId(u32), "n"
);
id!(
    /// One Paxos group with one log (elsewhere: shard, region, log stream). Printed as `g7`.
    GroupId(u32), "g"
);
id!(
    /// A user. Unsigned 64-bit; the slice is computed from it.
    Uid(u64), ""
);
id!(
    /// A bucket of UIDs, the thing that moves between units. Printed as two digits by the topology.
    SliceId(u16), ""
);
id!(
    /// A table, numbered in the cluster file. Printed as `t1`.
    TableId(u16), "t"
);

/// One member of one group: its node, and which of the node's replicas of the group it is. Never used again
/// after it has left, or lost its disk. Printed as `r2`; one that is not the first on its node as
/// `r2.00c0ffee`.
///
/// The low 32 bits are the node. The others are 0 for a replica that its group began with, and random for
/// all that came later.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplicaId(pub u64);

impl ReplicaId {
    /// The replica with which a group began on a node.
    #[must_use]
    pub fn first_on(node: NodeId) -> ReplicaId {
        ReplicaId(u64::from(node.0))
    }

    /// Another one, told apart by a random number that is not 0.
    #[must_use]
    pub fn later_on(node: NodeId, number: u32) -> ReplicaId {
        ReplicaId(u64::from(number.max(1)) << 32 | u64::from(node.0))
    }

    /// The one after this, of those that are not the first on their node.
    #[must_use]
    pub fn next_later(self) -> ReplicaId {
        let number = u32::try_from(self.0 >> 32).expect("32 bits");
        ReplicaId::later_on(self.node(), number.wrapping_add(1))
    }

    /// Its node.
    #[must_use]
    pub fn node(self) -> NodeId {
        NodeId(u32::try_from(self.0 & u64::from(u32::MAX)).expect("32 bits"))
    }
}

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 >> 32 {
            0 => write!(f, "r{}", self.0),
            number => write!(f, "r{}.{number:08x}", self.node().0),
        }
    }
}

impl SliceId {
    /// The slice of rows that no UID owns: tables of class `home` and `global`.
    pub const UNSHARDED: SliceId = SliceId(u16::MAX);
}

impl TableId {
    /// Stands for accounts where a table is asked for. They are in no table of the cluster file, whose
    /// numbers begin at 1, and are sharded by UID.
    pub const ACCOUNTS: TableId = TableId(0);
}

/// A client session: the group and the slot of the entry that opened it. Never reused, because a
/// slot of a group is chosen only once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId {
    /// The group whose log opened the session.
    pub group: GroupId,
    /// The slot of the opening entry.
    pub slot: Slot,
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.group, self.slot)
    }
}

/// A 128-bit id of the cluster, in every handshake. Two clusters never share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(pub u128);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl FromStr for ClusterId {
    type Err = String;

    /// Parses 32 hexadecimal digits; dashes, as in a UUID, are ignored.
    fn from_str(text: &str) -> Result<Self, String> {
        let digits: String = text.chars().filter(|c| *c != '-').collect();
        if digits.len() != 32 {
            return Err(format!(
                "a cluster id has 32 hexadecimal digits, this one has {}",
                digits.len()
            ));
        }
        u128::from_str_radix(&digits, 16)
            .map(ClusterId)
            .map_err(|_| format!("a cluster id has only hexadecimal digits: {text:?}"))
    }
}

/// A random number drawn once per data folder. A node whose disk was wiped comes back with another
/// one, and its peers refuse it: it must not vote with amnesia.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(pub u64);

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_id_survives_text_and_back() {
        let id = ClusterId(0x0123_4567_89ab_cdef_0011_2233_4455_6677);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!("01234567-89ab-cdef-0011-223344556677".parse(), Ok(id));
        assert!("0123".parse::<ClusterId>().is_err());
        assert!("z".repeat(32).parse::<ClusterId>().is_err());
    }
}
