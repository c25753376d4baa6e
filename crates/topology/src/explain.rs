//! Why a row lives where it lives, step by step: the data behind `quorate route explain`.

use std::fmt;

use quorate_types::{GroupId, NodeId, ReplicaId, ReplicaKind, SliceId, TableId, Uid};

use crate::model::{Member, TableClass, UnitKind};
use crate::route::{Route, RouteError};
use crate::slices::slice_label;
use crate::topology::Topology;

/// A route with the reason for each step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The topology version it is taken from.
    pub version: u64,
    /// The UID asked for.
    pub uid: Uid,
    /// The number of the table.
    pub table: TableId,
    /// Its name.
    pub table_name: String,
    /// Its class.
    pub class: TableClass,
    /// The rule that gives the slice, such as `uid mod 100`.
    pub rule: String,
    /// The slice; `SliceId::UNSHARDED` for tables that are not sharded.
    pub slice: SliceId,
    /// The unit that owns it.
    pub unit: String,
    /// The kind of that unit.
    pub unit_kind: UnitKind,
    /// The group that holds it.
    pub group: GroupId,
    /// The members, the most wanted leader first.
    pub members: Vec<ExplainedMember>,
}

/// A member of the group, with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExplainedMember {
    /// The number of its node.
    pub node: NodeId,
    /// The name of its node.
    pub node_name: String,
    /// The replica.
    pub replica: ReplicaId,
    /// What it holds.
    pub kind: ReplicaKind,
    /// How much it is wanted as leader, 0 the most.
    pub rank: u32,
    /// Its zone.
    pub zone: String,
    /// Its IDC.
    pub idc: String,
    /// Its city.
    pub city: String,
    /// Where clients reach it.
    pub client: String,
}

impl Topology {
    /// Explains the route of the rows of one user in one table.
    ///
    /// # Errors
    /// If there is no such table.
    pub fn explain(&self, table: TableId, uid: Uid) -> Result<Explanation, RouteError> {
        let Route { table, slice, unit, group } = self.route(table, uid)?;
        let rule = match table.class {
            TableClass::Unit => format!("uid mod {}", self.slice_count()),
            TableClass::Home | TableClass::Global => format!("class {}: not sharded", table.class),
        };
        Ok(Explanation {
            version: self.version(),
            uid,
            table: table.id,
            table_name: table.name.clone(),
            class: table.class,
            rule,
            slice,
            unit: unit.name.clone(),
            unit_kind: unit.kind,
            group: group.id,
            members: group.members.iter().filter_map(|member| self.explained(member)).collect(),
        })
    }

    fn explained(&self, member: &Member) -> Option<ExplainedMember> {
        let node = self.node(member.node)?;
        Some(ExplainedMember {
            node: node.id,
            node_name: node.name.clone(),
            replica: member.replica,
            kind: member.kind,
            rank: member.rank,
            zone: node.zone.clone(),
            idc: node.idc.clone(),
            city: node.city.clone(),
            client: node.client.clone(),
        })
    }
}

impl Explanation {
    /// The steps as sentences, one per line of output.
    #[must_use]
    pub fn words(&self) -> Vec<String> {
        let mut lines = Vec::with_capacity(4 + self.members.len());
        let (uid, group, slice) = (self.uid, self.group, slice_label(self.slice));
        lines.push(format!("table {} ({}) has class {}", self.table_name, self.table, self.class));
        if self.slice == SliceId::UNSHARDED {
            lines.push(format!("{}, so UID {uid} does not matter", self.rule));
            lines.push(format!("unit {} ({}) holds such tables", self.unit, self.unit_kind));
        } else {
            lines.push(format!("UID {uid}: {} gives slice {slice}", self.rule));
            let (unit, kind) = (&self.unit, self.unit_kind);
            lines.push(format!("slice {slice} belongs to unit {unit} ({kind})"));
        }
        lines.push(format!("unit {} keeps it in group {group}", self.unit));
        for member in &self.members {
            let leads = if member.kind.may_lead() {
                format!("leader preference {}", member.rank)
            } else {
                "never leads".to_owned()
            };
            lines.push(format!(
                "{leads}: {} at {} in {}.{}.{}, {} replica",
                member.node_name, member.client, member.city, member.idc, member.zone, member.kind
            ));
        }
        lines
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words().join("\n"))
    }
}
