//! Faults end: everybody is up, every message arrives, every disk works, time passes evenly.

use quorate_paxos::Replica;
use quorate_types::ReplicaId;

use crate::common::cluster::Cluster;
use crate::common::event::Event;

const ROUND_NS: u64 = 10_000_000;

/// Who plays events on a cluster and watches.
pub trait Player {
    fn cluster(&self) -> &Cluster;
    fn play(&mut self, event: &Event);
}

/// Ends all faults.
pub fn begin(player: &mut impl Player) {
    for id in player.cluster().ids() {
        player.play(&Event::Start(id));
        player.play(&Event::Health { id, draining: false, serious_faults: 0 });
    }
}

/// Ten milliseconds without faults, but for a disk that hangs.
pub fn round(player: &mut impl Player, hangs: Option<ReplicaId>) {
    player.play(&Event::Pass { ns: ROUND_NS });
    recover(player);
    let under_way: Vec<_> =
        player.cluster().links.queues().map(|(link, queue)| (link, queue.len())).collect();
    for id in player.cluster().ids() {
        if hangs == Some(id) {
            player.play(&Event::Tick(id));
            continue;
        }
        player.play(&Event::DiskProgress(id));
        player.play(&Event::Tick(id));
        player.play(&Event::GoHome(id));
        player.play(&Event::ContinueChange(id));
        refill(player, id);
        while !player.cluster().nodes[&id].log_reads.is_empty() {
            player.play(&Event::AnswerRead { id, count: usize::MAX });
        }
        while player.cluster().nodes[&id].has_unsynced_promises() {
            player.play(&Event::SyncPromise(id));
        }
        if !player.cluster().nodes[&id].unsynced.is_empty() {
            player.play(&Event::SyncLog { id, count: usize::MAX });
        }
    }
    for (link, count) in under_way {
        for _ in 0..count {
            if let Some(pick) = player.cluster().links.pick(link, 0) {
                player.play(&Event::Deliver(pick));
            }
        }
    }
}

/// An operator goes on without nodes that are lost, and whoever counts in an older history is told.
fn recover(player: &mut impl Player) {
    if player.cluster().lost.is_empty() {
        return;
    }
    if player.cluster().is_unrecovered() {
        player.play(&Event::Look);
        player.play(&Event::Order);
    }
    let Some((history, from)) = player.cluster().latest_history() else { return };
    for id in player.cluster().ids() {
        let core = player.cluster().nodes[&id].core.as_ref();
        if core.is_some_and(|core| core.history() < history) {
            player.play(&Event::Tell { id, from });
        }
    }
}

/// Rows that a replica asks for come from whoever has them.
fn refill(player: &mut impl Player, id: ReplicaId) {
    let cluster = player.cluster();
    let node = &cluster.nodes[&id];
    if node.arriving.is_some() {
        player.play(&Event::Install(id));
        player.play(&Event::Switch(id));
        player.play(&Event::Installed(id));
    } else if let Some(wanted) = node.wants_rows {
        let has = |other: &ReplicaId| {
            if *other == id {
                return false;
            }
            let history = |id| cluster.nodes[id].core.as_ref().map(Replica::history);
            let core =
                cluster.nodes[other].core.as_ref().filter(|_| history(other) == history(&id));
            core.and_then(Replica::applied_last).is_some_and(|last| wanted <= last.last())
        };
        if let Some(from) = cluster.ids().into_iter().find(has) {
            player.play(&Event::Snapshot { id, from });
        }
    }
}

/// The disk of the leader that serves hangs. Plays until another one serves, at most so many rounds.
/// Nothing to play where the others are no majority.
pub fn hang(player: &mut impl Player, rounds: u32) {
    let ids = player.cluster().ids();
    let Some(leader) = ids.iter().copied().find(|id| player.cluster().serves(*id)) else { return };
    if !can_do_without(player.cluster(), leader) {
        return;
    }
    for _ in 0..rounds {
        round(player, Some(leader));
        if ids.iter().any(|id| *id != leader && player.cluster().serves(*id)) {
            return;
        }
    }
    panic!("{leader} leads on with a disk that hangs");
}

/// True if another replica can lead without this one.
fn can_do_without(cluster: &Cluster, leader: ReplicaId) -> bool {
    let membership = &cluster.membership.membership;
    let others = |id| id != leader && !cluster.gone.contains(&id);
    let mut full = membership.members().filter(|(_, it)| it.kind.may_lead() && it.role.votes());
    membership.is_quorum(others)
        && (membership.has_arbiter() || membership.accepts_with(others))
        && full.any(|(id, _)| others(id))
}
