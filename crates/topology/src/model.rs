//! The parts of a topology: plain data, already checked. Built only by `validate`.

use std::fmt;
use std::time::Duration;

use quorate_types::{GroupId, NodeId, ReplicaId, ReplicaKind, TableId};

use crate::locality::{LeaderOrder, Locality};
use crate::slices::SliceSet;

/// A city: the largest thing that may be lost at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct City {
    /// Its name.
    pub name: String,
}

/// A data centre in a city.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idc {
    /// Its name.
    pub name: String,
    /// The city it stands in.
    pub city: String,
}

/// A failure domain in an IDC: what stands in it fails together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    /// Its name; the name of the IDC where the file declares no zones.
    pub name: String,
    /// The IDC it belongs to.
    pub idc: String,
    /// The city of that IDC.
    pub city: String,
}

/// A process of the cluster, with the addresses the others dial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its number, from 1.
    pub id: NodeId,
    /// Its name.
    pub name: String,
    /// The zone it stands in.
    pub zone: String,
    /// The IDC of that zone.
    pub idc: String,
    /// The city of that IDC.
    pub city: String,
    /// `host:port` for clients.
    pub client: String,
    /// `host:port` for other nodes.
    pub peer: String,
    /// `host:port` for health, metrics and the console.
    pub admin: String,
}

/// Where the rows of a table live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TableClass {
    /// Sharded by UID over the RZones.
    Unit,
    /// In the GZone only, for non-core data of one city.
    Home,
    /// In the GZone, with read copies in CZones where there are any.
    Global,
}

impl TableClass {
    /// The word in the cluster file.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            TableClass::Unit => "unit",
            TableClass::Home => "home",
            TableClass::Global => "global",
        }
    }
}

/// A table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Its number, from 1. It is part of every row key and never changes.
    pub id: TableId,
    /// Its name.
    pub name: String,
    /// Where its rows live.
    pub class: TableClass,
}

/// What a unit owns.
#[expect(clippy::enum_variant_names, reason = "RZone, GZone and CZone are the words of the field")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UnitKind {
    /// Owns slices, read-write.
    RZone,
    /// Unsharded, one writable leader, global data.
    GZone,
    /// A city's read copy of global tables. Parsed, but refused by this version.
    CZone,
}

impl UnitKind {
    /// The word in the cluster file.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            UnitKind::RZone => "rzone",
            UnitKind::GZone => "gzone",
            UnitKind::CZone => "czone",
        }
    }
}

/// A self-contained business cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// Its name, such as `RZ00`.
    pub name: String,
    /// What it owns.
    pub kind: UnitKind,
    /// The slices it owns; empty for a GZone.
    pub slices: SliceSet,
    /// Its groups, in order of number.
    pub groups: Vec<GroupId>,
}

/// One member of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The node that holds the replica.
    pub node: NodeId,
    /// The replica; the number of its node, as members are static.
    pub replica: ReplicaId,
    /// What it holds.
    pub kind: ReplicaKind,
    /// The zone of its node.
    pub zone: String,
    /// How much it is wanted as leader: 0 is the most, equal zones have equal ranks.
    pub rank: u32,
}

/// A Paxos group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its number, from 1.
    pub id: GroupId,
    /// The unit it belongs to.
    pub unit: String,
    /// The slices it holds; empty in a GZone.
    pub slices: SliceSet,
    /// Where its replicas stand.
    pub locality: Locality,
    /// Who leads first.
    pub leader_order: LeaderOrder,
    /// Its members by rank, then number of the node: the order in which to look for the leader.
    pub members: Vec<Member>,
}

impl Group {
    /// `RZ00/g1`.
    #[must_use]
    pub fn label(&self) -> String {
        format!("{}/{}", self.unit, self.id)
    }

    /// The members that vote, in order of `members`.
    pub fn voters(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| member.kind.votes())
    }

    /// How many members vote.
    #[must_use]
    pub fn voter_count(&self) -> usize {
        self.voters().count()
    }

    /// How many votes are a majority.
    #[must_use]
    pub fn majority(&self) -> usize {
        self.voter_count() / 2 + 1
    }

    /// The members that can lead, in order of `members`.
    pub fn leaders(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| member.kind.may_lead())
    }

    /// The members that should lead while all are well: those of the best rank.
    pub fn homes(&self) -> impl Iterator<Item = &Member> {
        let best = self.leaders().map(|member| member.rank).min();
        self.leaders().filter(move |member| Some(member.rank) == best)
    }

    /// True if a leader on this node is where it should be.
    #[must_use]
    pub fn is_home(&self, node: NodeId) -> bool {
        self.homes().any(|member| member.node == node)
    }

    /// The member on a node, if there is one.
    #[must_use]
    pub fn member_on(&self, node: NodeId) -> Option<&Member> {
        self.members.iter().find(|member| member.node == node)
    }
}

/// Whether leaders hold leases, and how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LeaseProfile {
    /// For one city: 1 s, renewed every 100 ms.
    Lan,
    /// For several cities: 3 s, renewed every 250 ms.
    Wan,
    /// No leases: every read asks a majority first.
    Off,
}

impl LeaseProfile {
    /// The word in the cluster file.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            LeaseProfile::Lan => "lan",
            LeaseProfile::Wan => "wan",
            LeaseProfile::Off => "off",
        }
    }

    /// The length of a lease; `None` without leases.
    #[must_use]
    pub fn length(self) -> Option<Duration> {
        match self {
            LeaseProfile::Lan => Some(Duration::from_millis(1_000)),
            LeaseProfile::Wan => Some(Duration::from_millis(3_000)),
            LeaseProfile::Off => None,
        }
    }

    /// The time between renewals; `None` without leases.
    #[must_use]
    pub fn renew_interval(self) -> Option<Duration> {
        match self {
            LeaseProfile::Lan => Some(Duration::from_millis(100)),
            LeaseProfile::Wan => Some(Duration::from_millis(250)),
            LeaseProfile::Off => None,
        }
    }
}

macro_rules! display_as_word {
    ($($name:ident),*) => {
        $(impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.word())
            }
        })*
    };
}

display_as_word!(TableClass, UnitKind, LeaseProfile);
