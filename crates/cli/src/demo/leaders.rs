//! Who led what and when: looked at all the time, told by event.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use quorate_client::{Client, GroupId, NodeId, Topology};
use serde::Serialize;
use tokio::task::JoinHandle;

use super::timeline::{Window, whole_ms};
use crate::local::health;

/// Between two looks.
const INTERVAL: Duration = Duration::from_millis(250);

/// From this time on a group was led by this node, until it is seen with another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// Since the start of the demo.
    pub(super) at: Duration,
    pub(super) group: GroupId,
    pub(super) node: NodeId,
    /// Whether the node is one of its first choice.
    pub(super) is_home: bool,
}

/// Watches until dropped.
#[derive(Debug)]
pub(super) struct LeaderWatch {
    seen: Arc<Mutex<Vec<Seen>>>,
    task: JoinHandle<()>,
}

impl LeaderWatch {
    /// Starts to watch. Times count from `epoch`.
    pub(super) fn start(client: &Client, epoch: Instant) -> LeaderWatch {
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let task = tokio::spawn(Box::pin(watch(client.clone(), epoch, Arc::clone(&seen))));
        LeaderWatch { seen, task }
    }

    /// Every change of a leader so far, in order of time.
    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for LeaderWatch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn watch(client: Client, epoch: Instant, seen: Arc<Mutex<Vec<Seen>>>) {
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let leaders = health::leaders(&client).await;
        let at = epoch.elapsed();
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        for (group, node, is_home) in leaders {
            let Some(node) = node else { continue };
            let before = seen.iter().rev().find(|seen| seen.group == group);
            if before.is_none_or(|before| before.node != node) {
                seen.push(Seen { at, group, node, is_home });
            }
        }
    }
}

/// Where a leader went in the window of an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Move {
    pub(super) unit: String,
    pub(super) from: String,
    pub(super) to: String,
    /// From the event until it was seen there.
    pub(super) after_ms: u64,
    /// From the event until the unit was led from its first choice again; `null` if it was not by the end
    /// of the demo.
    pub(super) home_after_ms: Option<u64>,
}

/// Where leaders went in a window, in order of group.
pub(super) fn moves(topology: &Topology, seen: &[Seen], window: Window) -> Vec<Move> {
    let name = |node: NodeId| {
        topology.node(node).map_or_else(|| node.to_string(), |node| node.name.clone())
    };
    let of_group = |group: &quorate_topology::Group| {
        let of_group = || seen.iter().filter(|seen| seen.group == group.id);
        let before = of_group().rfind(|seen| seen.at < window.from)?;
        let last = of_group().rfind(|seen| window.from <= seen.at && seen.at < window.until)?;
        if last.node == before.node {
            return None; // It went and came back, faster than anybody can name.
        }
        let since = |at: Duration| whole_ms(at.saturating_sub(window.from));
        let home = of_group().find(|seen| last.at <= seen.at && seen.is_home);
        Some(Move {
            unit: group.unit.clone(),
            from: name(before.node),
            to: name(last.node),
            after_ms: since(last.at),
            home_after_ms: home.map(|seen| since(seen.at)),
        })
    };
    topology.groups().filter_map(of_group).collect()
}

#[cfg(test)]
mod tests {
    use quorate_topology::presets::{Layout, Options, of_layout};
    use quorate_types::ClusterId;

    use super::*;

    #[test]
    fn a_leader_that_went_is_told_with_the_time_it_came_home() {
        // Goal: the report says where a unit was led from, and does not claim that it came home.
        let text = of_layout(Layout::ThreeCities, 1, &Options::demo(ClusterId(7)));
        let topology = Topology::parse(&text).unwrap();
        let ms = Duration::from_millis;
        let seen = |at, group, node, is_home| Seen {
            at: ms(at),
            group: GroupId(group),
            node: NodeId(node),
            is_home,
        };
        let log = [
            seen(10, 1, 1, true),
            seen(10, 2, 2, true),
            seen(1_200, 1, 2, false),
            seen(2_500, 2, 1, false),
            seen(7_000, 1, 1, true),
        ];
        let window = |from, until| Window { from: ms(from), until: ms(until) };
        let told = |window| moves(&topology, &log, window);
        let moved = |unit: &str, from: &str, to: &str, after_ms, home_after_ms| Move {
            unit: unit.to_owned(),
            from: from.to_owned(),
            to: to.to_owned(),
            after_ms,
            home_after_ms,
        };
        assert_eq!(told(window(100, 1_000)), []);
        let went = moved("RZ00", "n1", "n2", 200, Some(6_000));
        assert_eq!(told(window(1_000, 2_000)), [went]);
        let lost = moved("RZ01", "n2", "n1", 500, None);
        assert_eq!(told(window(2_000, 3_000)), [lost]);
        let home = moved("RZ00", "n2", "n1", 1_000, Some(1_000));
        assert_eq!(told(window(6_000, 8_000)), [home]);
    }
}
