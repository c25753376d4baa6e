//! Histories of a group: what is proven when one begins by force stays, replicas of different ones never count
//! together, and whoever is told of a later one never goes back, nor speaks again if it is outlived
//! (`docs/adr/0020-forced-recovery-raises-the-history.md`).

use std::collections::BTreeMap;

use quorate_paxos::{History, Input, Message, Output, Replica};
use quorate_types::{EntryId, ReplicaId};

use super::line::Line;
use crate::common::cluster::Cluster;
use crate::common::node::Node;

/// Where a replica stands.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    /// The history that it counts in.
    counts: History,
    /// The one that its rows are of: another one while it crosses, and when it is outlived.
    rows: History,
    is_outlived: bool,
}

pub struct Histories {
    lines: BTreeMap<History, Line>,
    places: BTreeMap<ReplicaId, Place>,
    /// The history that is to end, and what is proven of it, in the order that is being stepped.
    ordered: Option<(History, EntryId)>,
    /// The same of orders that were taken, by who took it and the number of the history that begins.
    taken: BTreeMap<(ReplicaId, u32), (History, EntryId)>,
}

impl Default for Histories {
    fn default() -> Histories {
        let lines = BTreeMap::from([(History::default(), Line::default())]);
        Histories { lines, places: BTreeMap::new(), ordered: None, taken: BTreeMap::new() }
    }
}

impl Histories {
    pub fn before_step(&mut self, input: &Input) {
        self.ordered = match input {
            Input::Force(request) => Some((request.history, request.proven)),
            _ => None,
        };
    }

    /// A replica has done something: it may count in another history since.
    pub fn after_step(&mut self, cluster: &Cluster, id: ReplicaId, out: &Output) {
        let was_outlived = self.place(id).is_outlived;
        if was_outlived {
            let is_silent = out.messages.is_empty() && out.promise.is_none();
            assert!(is_silent && out.appends.is_empty(), "{id} is outlived, and speaks: {out:?}");
        }
        if let (Some(Ok(())), Some((before, proven))) = (&out.forced, self.ordered.take()) {
            self.taken.insert((id, before.number + 1), (before, proven));
        }
        let counted = self.place(id).counts;
        self.settle(cluster, id);
        rises(id, counted, self.place(id).counts);
        let node = &cluster.nodes[&id];
        let on_disk = on_disk(node);
        let counts = self.place(id).counts;
        if out.messages.iter().any(|(_, message)| counts_for_good(message, counts)) {
            assert!(counts <= on_disk, "{id} counts in {counts:?}, but has {on_disk:?} on disk");
        }
    }

    /// A replica has started, and knows what its disk has.
    pub fn started(&mut self, cluster: &Cluster, id: ReplicaId) {
        self.settle(cluster, id);
    }

    fn settle(&mut self, cluster: &Cluster, id: ReplicaId) {
        let node = &cluster.nodes[&id];
        let Some(core) = &node.core else { return };
        let counts = core.history();
        if !self.lines.contains_key(&counts) {
            self.begin(core, counts);
        }
        let before = self.place(id);
        let is_of_it = !core.is_crossing() && !core.is_outlived();
        let rows = if is_of_it { counts } else { before.rows };
        self.places.insert(id, Place { counts, rows, is_outlived: core.is_outlived() });
        if core.is_outlived() {
            assert!(!cluster.serves(id), "{id} is outlived, and serves");
        }
        if rows != before.rows {
            // It takes its rows along.
            let line = self.lines.get_mut(&rows).expect("begun");
            for (entry, payload) in &node.applied {
                line.agreement.observe(*entry, payload);
            }
        }
    }

    /// Somebody counts in a history that nobody counted in before.
    fn begin(&mut self, core: &Replica, history: History) {
        let by = (history.since.ballot.replica, history.number);
        let (before, proven) = self.taken.get(&by).copied().expect("it was ordered");
        let parent = &self.lines[&before];
        for (slot, (id, _)) in parent.agreement.entries().filter(|(slot, _)| **slot <= proven.slot)
        {
            stays(*id, core.log().id_at(*slot));
        }
        let line = parent.begin(history.since, proven.slot);
        self.lines.insert(history, line);
    }

    fn place(&self, id: ReplicaId) -> Place {
        self.places.get(&id).copied().unwrap_or_default()
    }

    /// The line of the history that a replica counts in.
    pub fn of(&mut self, id: ReplicaId) -> &mut Line {
        let counts = self.place(id).counts;
        self.lines.get_mut(&counts).expect("begun")
    }

    /// The line of the history that its rows are of.
    pub fn of_rows(&mut self, id: ReplicaId) -> &mut Line {
        let rows = self.place(id).rows;
        self.lines.get_mut(&rows).expect("begun")
    }

    /// True if its rows are of the history that it counts in.
    pub fn is_home(&self, id: ReplicaId) -> bool {
        let place = self.place(id);
        place.rows == place.counts
    }

    /// True if the members of this history are those by which the cluster knows what disks must have: it is the last one
    /// of which anything was applied, and none of them was lost.
    pub fn is_judged(&self, cluster: &Cluster, since: EntryId) -> bool {
        since == cluster.membership.membership.history().since && !cluster.is_unrecovered()
    }

    /// The last history of which anything was applied.
    pub fn present(&self, cluster: &Cluster) -> &Line {
        &self.lines[&cluster.membership.membership.history()]
    }

    pub fn lines(&self) -> impl Iterator<Item = &Line> {
        self.lines.values()
    }

    pub fn lines_mut(&mut self) -> impl Iterator<Item = &mut Line> {
        self.lines.values_mut()
    }
}

/// A history that begins has this at the slot of a proven entry, or nothing any more.
pub fn stays(proven: EntryId, has: Option<EntryId>) {
    assert!(has.is_none_or(|it| it == proven), "{proven} is proven, and lost: there is {has:?}");
}

/// A replica counts in this history, and then in that.
pub fn rises(id: ReplicaId, before: History, after: History) {
    assert!(before <= after, "{id} goes back from {before:?} to {after:?}");
}

/// A message that may decide something in this history. (A promise or a lease of who goes back to the history before
/// decides nothing: its log counts as none.)
fn counts_for_good(message: &Message, history: History) -> bool {
    match message {
        Message::Prepare(_) => true,
        Message::Accepted(accepted) => history.since.slot <= accepted.slot_synced,
        _ => false,
    }
}

/// The history that a node counts in after a restart.
fn on_disk(node: &Node) -> History {
    let (_, log) = node.disk.history();
    let in_log = log.iter().filter_map(quorate_paxos::Batch::membership);
    let all = in_log.chain([node.disk.membership.clone()]);
    all.map(|at| at.membership.history()).max().unwrap_or_default()
}
