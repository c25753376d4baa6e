//! The hands that break the cluster and mend it: what a verb does, and when the cluster is well again.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use quorate_client::{Client, GroupId, Link, NodeId};
use quorate_topology::{ClusterSurvival, Level, what_may_still_be_lost};

use super::plan::{Act, Deed, Kind, Links, Now};
use super::verbs::Verb;
use crate::exit::Failure;
use crate::local::cluster::Cluster;
use crate::local::health::{self, Wanted};

/// Between two looks whether a node has ended by itself.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// A cluster and what was done to it.
pub(super) struct Hands<'a> {
    pub(super) cluster: &'a mut Cluster,
    /// Of an operator: it is near to every node, whatever is done to links.
    pub(super) client: &'a Client,
    links: Links,
    /// How the nodes that are down went down.
    felled_by: Kind,
}

/// The links of places that are this far apart, both ways.
pub(super) fn links_of(distances: &[(&str, &str, Duration)]) -> Vec<Link> {
    let both = |(a, b, delay): &(&str, &str, Duration)| {
        [Link::far(*a, *b, *delay), Link::far(*b, *a, *delay)]
    };
    distances.iter().flat_map(both).collect()
}

impl<'a> Hands<'a> {
    /// Hands on a cluster with the links that it has.
    pub(super) fn new(cluster: &'a mut Cluster, client: &'a Client) -> Hands<'a> {
        let links = Links::of(cluster.links());
        Hands { cluster, client, links, felled_by: Kind::KillNode }
    }

    /// Finds out what a verb means now.
    ///
    /// # Errors
    /// Why it means nothing, in a sentence.
    pub(super) async fn plan(&self, verb: &Verb) -> Result<Act, String> {
        let leaders = health::leaders(self.client).await;
        let now = Now {
            topology: self.cluster.topology(),
            up: self.cluster.up(),
            leads: leaders.into_iter().map(|(group, node, _)| (group, node)).collect(),
            felled_by: self.felled_by,
            links: &self.links,
        };
        now.plan(verb)
    }

    /// Does it. True if every node that was stopped ended as it should.
    ///
    /// # Errors
    /// If a node cannot be started.
    pub(super) async fn act(&mut self, act: &Act) -> Result<bool, Failure> {
        let mut in_order = true;
        match act.deed.clone() {
            Deed::Kill(nodes) => {
                self.felled_by = act.kind;
                self.cluster.kill(nodes).await;
            }
            Deed::Stop(nodes) => {
                self.felled_by = act.kind;
                for node in nodes {
                    in_order &= self.cluster.stop(node).await;
                }
            }
            Deed::Restart(nodes) => {
                for node in nodes.intersection(&self.cluster.up()) {
                    in_order &= self.cluster.stop(*node).await;
                }
                self.cluster.start(&nodes)?;
            }
            Deed::Links(links) => {
                self.links = links;
                self.cluster.set_links(self.client, self.links.all()).await?;
            }
            Deed::Nothing => {}
        }
        Ok(in_order)
    }

    /// Waits until everything that can serve serves, and what runs has caught up as far as links let it;
    /// says what is missing at the limit.
    ///
    /// # Errors
    /// If a node ended by itself.
    pub(super) async fn settle(&mut self, limit: Duration) -> Result<Result<(), String>, Failure> {
        let links_cut = !self.links.cuts.is_empty();
        let wanted = Wanted { links_cut, ..Wanted::of(self.cluster.up()) };
        let started = Instant::now();
        let healthy = loop {
            // In between, a node that ended by itself is noticed; nothing gets better without it.
            match health::wait(self.client, &wanted, CHECK_INTERVAL).await {
                Ok(_) => break Ok(()),
                Err(missing) if limit <= started.elapsed() => break Err(missing),
                Err(_) => self.cluster.check_running()?,
            }
        };
        self.cluster.check_running()?;
        Ok(healthy)
    }

    /// What may still be lost now, in a line. Counts nodes that are down, not links that are cut.
    pub(super) fn survives(&self) -> String {
        let up = self.cluster.up();
        let topology = self.cluster.topology();
        let down = topology.nodes().map(|node| node.id).filter(|node| !up.contains(node));
        let mut words = words_of(&what_may_still_be_lost(topology, &down.collect()));
        if !self.links.cuts.is_empty() {
            let cuts: Vec<String> =
                self.links.cuts.iter().map(|(a, b)| format!("{a} -> {b}")).collect();
            words.push_str(&format!(" (as if {} were not cut)", cuts.join(", ")));
        }
        words
    }

    /// Whether links are cut.
    pub(super) fn has_cuts(&self) -> bool {
        !self.links.cuts.is_empty()
    }

    /// Whether every group has a majority of nodes that run.
    pub(super) fn all_can_serve(&self) -> bool {
        let up = self.cluster.up();
        let topology = self.cluster.topology();
        let down = topology.nodes().map(|node| node.id).filter(|node| !up.contains(node));
        topology.groups_stopped_by(&down.collect()).is_empty()
    }

    /// Whether every node runs.
    pub(super) fn is_complete(&self) -> bool {
        self.cluster.up().len() == self.cluster.topology().nodes().len()
    }

    /// The groups that are not led where they are wanted, as `RZ00 on n2`.
    pub(super) async fn not_home(&self) -> Vec<String> {
        let topology = self.cluster.topology();
        let leaders = health::leaders(self.client).await;
        let away = leaders.into_iter().filter(|(_, _, is_home)| !is_home);
        let words = |(group, node, _): (GroupId, Option<NodeId>, bool)| {
            let label = topology.group(group).map(quorate_topology::Group::label);
            let on = node.map_or_else(|| "no node".to_owned(), |node| self.cluster.name(node));
            format!("{} on {on}", label.unwrap_or_default())
        };
        away.map(words).collect()
    }

    /// How things stand, in lines.
    pub(super) async fn status(&self) -> Vec<String> {
        let (up, topology) = (self.cluster.up(), self.cluster.topology());
        let state = |node: &quorate_topology::Node| {
            let word = if up.contains(&node.id) { "runs" } else { "is down" };
            format!("{} in {} {word}", node.name, node.idc)
        };
        let mut lines: Vec<String> = topology.nodes().map(state).collect();
        for (group, leader, is_home) in health::leaders(self.client).await {
            let label = topology.group(group).map(quorate_topology::Group::label);
            let on = leader.map_or_else(|| "nobody".to_owned(), |node| self.cluster.name(node));
            let home = if is_home { "" } else { ", not home" };
            lines.push(format!("{} is led by {on}{home}", label.unwrap_or_default()));
        }
        for ((from, to), delay) in &self.links.distances {
            lines.push(format!("{from} -> {to} takes {} ms", delay.as_millis()));
        }
        lines.extend(self.links.cuts.iter().map(|(from, to)| format!("{from} -> {to} is cut")));
        lines.push(self.survives());
        lines
    }
}

/// What may still be lost in a few words: `any node, any IDC, any city but hz`.
fn words_of(survival: &ClusterSurvival) -> String {
    let stopped = survival.groups.iter().filter(|group| !group.has_majority()).count();
    if 0 < stopped {
        return format!("{stopped} of {} groups have no majority", survival.groups.len());
    }
    let of_level = |level: Level| {
        let critical: Vec<String> =
            survival.critical(level).into_iter().map(|(place, _)| place).collect();
        let up = survival.groups.iter().flat_map(|group| group.at(level));
        let up: BTreeSet<&str> =
            up.filter(|loss| 0 < loss.voters_up).map(|loss| loss.place.as_str()).collect();
        match critical.len() {
            0 => format!("any {level}"),
            count if count == up.len() => format!("no {level}"),
            _ => format!("any {level} but {}", critical.join(", ")),
        }
    };
    let levels = [Level::Node, Level::Idc, Level::City];
    format!("may be lost: {}", levels.map(of_level).join("; "))
}

#[cfg(test)]
mod tests {
    use quorate_client::Topology;
    use quorate_topology::presets::{Layout, Options, of_layout};
    use quorate_types::ClusterId;

    use super::*;

    #[test]
    fn what_may_still_be_lost_is_said_in_a_few_words() {
        // Goal: after each event one line says what the next failure may be.
        let text = of_layout(Layout::ThreeCities, 1, &Options::demo(ClusterId(7)));
        let topology = Topology::parse(&text).unwrap();
        let words = |down: &[u32]| {
            let down = down.iter().map(|id| NodeId(*id)).collect();
            words_of(&what_may_still_be_lost(&topology, &down))
        };
        assert_eq!(words(&[]), "may be lost: any node; any IDC; any city");
        assert_eq!(words(&[2]), "may be lost: any node; any IDC; any city but hz");
        assert_eq!(words(&[5]), "may be lost: any node; any IDC; no city");
        assert_eq!(words(&[1, 2]), "may be lost: no node; no IDC; no city");
        assert_eq!(words(&[1, 2, 3]), "5 of 5 groups have no majority");
    }
}
