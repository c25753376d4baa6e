//! What a verb means at its moment: which nodes, which links, and what the event is called. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use quorate_client::{GroupId, Link, NodeId, Topology};
use serde::Serialize;

use super::verbs::{Target, Verb};

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Kind {
    /// Nothing: the load before the first event.
    Steady,
    /// Nothing, because somebody said so.
    Watch,
    /// `kill -9` of the leader of a unit.
    KillLeader,
    /// `kill -9` of a node.
    KillNode,
    /// `kill -9` of all nodes of an IDC.
    KillIdc,
    /// `kill -9` of all nodes of a city.
    KillCity,
    /// What was dead starts again.
    Restart,
    /// SIGTERM to nodes.
    GracefulStop,
    /// What was stopped starts again.
    StartStopped,
    /// `kill -9` of all nodes at once.
    KillAll,
    /// All nodes start again.
    RestartAll,
    /// Links are cut.
    Partition,
    /// Links are mended.
    Heal,
    /// Places get farther apart, or closer.
    Delay,
}

impl Kind {
    /// The name in tables and the report.
    pub(super) fn word(self) -> &'static str {
        match self {
            Kind::Steady => "steady",
            Kind::Watch => "watch",
            Kind::KillLeader => "kill-leader",
            Kind::KillNode => "kill-node",
            Kind::KillIdc => "kill-idc",
            Kind::KillCity => "kill-city",
            Kind::Restart => "restart",
            Kind::GracefulStop => "graceful-stop",
            Kind::StartStopped => "start-stopped",
            Kind::KillAll => "kill-all",
            Kind::RestartAll => "restart-all",
            Kind::Partition => "partition",
            Kind::Heal => "heal",
            Kind::Delay => "delay",
        }
    }
}

/// What is going to happen, with everything found that the verb left open.
#[derive(Clone, Debug)]
pub(super) struct Act {
    pub(super) kind: Kind,
    /// What it happens to, in words.
    pub(super) target: String,
    /// The units that the nodes led that it happens to.
    pub(super) led: Vec<String>,
    /// What is done, in words.
    pub(super) words: String,
    pub(super) deed: Deed,
}

/// What is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Deed {
    /// SIGKILL to these.
    Kill(BTreeSet<NodeId>),
    /// SIGTERM to these.
    Stop(BTreeSet<NodeId>),
    /// These run again; those that run are stopped first.
    Restart(BTreeSet<NodeId>),
    /// Links are like this.
    Links(Links),
    /// Nothing.
    Nothing,
}

/// What is done to links, by their ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Links {
    /// How long everything takes.
    pub(super) distances: BTreeMap<(String, String), Duration>,
    /// Nothing gets through.
    pub(super) cuts: BTreeSet<(String, String)>,
}

impl Links {
    /// From what nodes were told.
    pub(super) fn of(links: &[Link]) -> Links {
        let ends = |link: &Link| (link.from.clone(), link.to.clone());
        let (cuts, far): (Vec<&Link>, Vec<&Link>) = links.iter().partition(|link| link.cut);
        let distances = far.into_iter().map(|link| (ends(link), link.delay)).collect();
        Links { distances, cuts: cuts.into_iter().map(ends).collect() }
    }

    /// As nodes are told.
    pub(super) fn all(&self) -> Vec<Link> {
        let far = self.distances.iter().map(|((from, to), delay)| Link::far(from, to, *delay));
        far.chain(self.cuts.iter().map(|(from, to)| Link::cut(from, to))).collect()
    }
}

/// What a verb is understood by.
#[derive(Debug)]
pub(super) struct Now<'a> {
    pub(super) topology: &'a Topology,
    /// The nodes that run.
    pub(super) up: BTreeSet<NodeId>,
    /// Who leads each group.
    pub(super) leads: Vec<(GroupId, Option<NodeId>)>,
    /// How the nodes that are down went down.
    pub(super) felled_by: Kind,
    pub(super) links: &'a Links,
}

impl Now<'_> {
    /// Finds out what a verb means.
    ///
    /// # Errors
    /// Why it means nothing, in a sentence.
    pub(super) fn plan(&self, verb: &Verb) -> Result<Act, String> {
        match verb {
            Verb::Kill(target) => self.kill(target),
            Verb::Stop(target) => self.stop(target),
            Verb::Restart(None) => Ok(self.restart_all()),
            Verb::Restart(Some(target)) => {
                let (name, nodes) = self.find(target)?;
                let words = format!("restart of {name}");
                Ok(Act::new(Kind::Restart, name, words, Deed::Restart(nodes)))
            }
            Verb::Partition { from, to, one_way } => {
                let mut links = self.links.clone();
                links.cuts.insert((from.clone(), to.clone()));
                if !one_way {
                    links.cuts.insert((to.clone(), from.clone()));
                }
                let arrow = if *one_way { "->" } else { "<->" };
                let target = format!("{from} {arrow} {to}");
                let words = format!("cut {target}");
                Ok(Act::new(Kind::Partition, target, words, Deed::Links(links)))
            }
            Verb::Heal(places) => {
                let mut links = self.links.clone();
                let target = match places {
                    None => {
                        links.cuts.clear();
                        "all links".to_owned()
                    }
                    Some((a, b)) => {
                        links
                            .cuts
                            .retain(|(from, to)| (from, to) != (a, b) && (from, to) != (b, a));
                        format!("{a} <-> {b}")
                    }
                };
                let words = format!("mend {target}");
                Ok(Act::new(Kind::Heal, target, words, Deed::Links(links)))
            }
            Verb::Delay { from, to, delay } => {
                let mut links = self.links.clone();
                for (from, to) in [(from, to), (to, from)] {
                    links.distances.insert((from.clone(), to.clone()), *delay);
                }
                let target = format!("{from} <-> {to}");
                let words = format!("{target} takes {} ms each way", delay.as_millis());
                Ok(Act::new(Kind::Delay, target, words, Deed::Links(links)))
            }
            Verb::Watch | Verb::Status => Ok(Act::nothing()),
        }
    }

    fn kill(&self, target: &Target) -> Result<Act, String> {
        let (name, nodes) = self.find_running(target)?;
        let kind = kind_of_kill(target, self.topology);
        let led = self.led_by(&nodes);
        let target = describe(&name, &led);
        let words = match kind {
            Kind::KillAll => format!("kill -9 of all {} nodes at once", nodes.len()),
            _ => format!("kill -9 of {target}"),
        };
        let target = if kind == Kind::KillAll { name } else { target };
        Ok(Act { led, ..Act::new(kind, target, words, Deed::Kill(nodes)) })
    }

    fn stop(&self, target: &Target) -> Result<Act, String> {
        let (name, nodes) = self.find_running(target)?;
        let led = self.led_by(&nodes);
        let target = describe(&name, &led);
        let words = format!("graceful stop (SIGTERM) of {target}");
        Ok(Act { led, ..Act::new(Kind::GracefulStop, target, words, Deed::Stop(nodes)) })
    }

    fn restart_all(&self) -> Act {
        let down = self.topology.nodes().filter(|node| !self.up.contains(&node.id));
        let (nodes, names): (BTreeSet<NodeId>, Vec<&str>) =
            down.map(|node| (node.id, node.name.as_str())).unzip();
        let (kind, target) = match self.felled_by {
            _ if nodes.is_empty() => (Kind::Restart, "nothing".to_owned()),
            Kind::KillAll => (Kind::RestartAll, "all nodes".to_owned()),
            Kind::GracefulStop => (Kind::StartStopped, names.join(", ")),
            _ => (Kind::Restart, names.join(", ")),
        };
        let words = format!("start of {target}");
        Act::new(kind, target, words, Deed::Restart(nodes))
    }

    fn find(&self, target: &Target) -> Result<(String, BTreeSet<NodeId>), String> {
        let found = target.find(self.topology, &self.leads);
        found.ok_or_else(|| format!("{target}: nobody leads the unit"))
    }

    fn find_running(&self, target: &Target) -> Result<(String, BTreeSet<NodeId>), String> {
        let (name, nodes) = self.find(target)?;
        let nodes: BTreeSet<NodeId> = nodes.intersection(&self.up).copied().collect();
        if nodes.is_empty() { Err(format!("nothing of {name} runs")) } else { Ok((name, nodes)) }
    }

    /// The units whose groups these nodes lead.
    fn led_by(&self, nodes: &BTreeSet<NodeId>) -> Vec<String> {
        let is_hit = |group: &&quorate_topology::Group| {
            let leader = self.leads.iter().find(|(id, _)| *id == group.id);
            leader.and_then(|(_, node)| *node).is_some_and(|node| nodes.contains(&node))
        };
        self.topology.groups().filter(is_hit).map(|group| group.unit.clone()).collect()
    }
}

impl Act {
    /// Nothing.
    pub(super) fn nothing() -> Act {
        Act::new(Kind::Watch, "nothing".to_owned(), "watch".to_owned(), Deed::Nothing)
    }

    fn new(kind: Kind, target: String, words: String, deed: Deed) -> Act {
        Act { kind, target, led: Vec::new(), words, deed }
    }
}

/// `n1 (leads RZ00, RZ03)`.
fn describe(name: &str, led: &[String]) -> String {
    if led.is_empty() { name.to_owned() } else { format!("{name} (leads {})", led.join(", ")) }
}

fn kind_of_kill(target: &Target, topology: &Topology) -> Kind {
    match target {
        Target::All => Kind::KillAll,
        Target::LeaderOf(_) => Kind::KillLeader,
        Target::IdcOf(_) => Kind::KillIdc,
        Target::CityOf(_) => Kind::KillCity,
        Target::Place(name) if topology.cities().iter().any(|city| city.name == *name) => {
            Kind::KillCity
        }
        Target::Place(name) if topology.idcs().iter().any(|idc| idc.name == *name) => Kind::KillIdc,
        Target::Place(_) => Kind::KillNode,
    }
}

#[cfg(test)]
mod tests {
    use quorate_topology::presets::{Layout, Options, of_layout};
    use quorate_types::ClusterId;

    use super::*;

    fn topology() -> Topology {
        let text = of_layout(Layout::ThreeCities, 1, &Options::demo(ClusterId(7)));
        Topology::parse(&text).unwrap()
    }

    fn now<'a>(topology: &'a Topology, links: &'a Links, down: &[u32]) -> Now<'a> {
        let up = topology.nodes().map(|node| node.id).filter(|id| !down.contains(&id.0)).collect();
        let leads = vec![(GroupId(1), Some(NodeId(1))), (GroupId(2), Some(NodeId(2)))];
        Now { topology, up, leads, felled_by: Kind::GracefulStop, links }
    }

    fn nodes(ids: &[u32]) -> BTreeSet<NodeId> {
        ids.iter().map(|id| NodeId(*id)).collect()
    }

    #[test]
    fn an_act_names_what_it_hits_and_what_was_led_there() {
        // Goal: the report says what an event hit, and nothing that is down is killed again.
        let (topology, links) = (topology(), Links::default());
        let plan = |text: &str, down: &[u32]| {
            let verb = Verb::parse(&text.split(' ').collect::<Vec<&str>>(), &topology).unwrap();
            now(&topology, &links, down).plan(&verb)
        };
        let city = plan("kill city-of:RZ00", &[]).unwrap();
        assert_eq!((city.kind, city.target.as_str()), (Kind::KillCity, "sh (leads RZ00, RZ01)"));
        assert_eq!(city.led, ["RZ00", "RZ01"]);
        assert_eq!(city.deed, Deed::Kill(nodes(&[1, 2])));
        assert_eq!(plan("kill sh", &[1]).unwrap().deed, Deed::Kill(nodes(&[2])));
        assert_eq!(plan("kill n1", &[1]).unwrap_err(), "nothing of n1 runs");
        assert_eq!(plan("kill leader:GZ", &[]).unwrap_err(), "leader:GZ: nobody leads the unit");
        let start = plan("restart", &[4]).unwrap();
        assert_eq!((start.kind, start.deed), (Kind::StartStopped, Deed::Restart(nodes(&[4]))));
        assert_eq!(plan("restart", &[]).unwrap().words, "start of nothing");
        for (text, kind) in [
            ("kill n3", Kind::KillNode),
            ("kill hz-a", Kind::KillIdc),
            ("kill hz", Kind::KillCity),
            ("kill all", Kind::KillAll),
            ("kill leader:RZ00", Kind::KillLeader),
        ] {
            assert_eq!(plan(text, &[]).unwrap().kind, kind, "{text}");
        }
    }

    #[test]
    fn cuts_add_up_until_they_are_mended_and_distances_stay() {
        // Goal: one order does not undo another, and mending leaves the distances as they were.
        let topology = topology();
        let mut links = Links::default();
        let mut order = |text: &str| {
            let verb = Verb::parse(&text.split(' ').collect::<Vec<&str>>(), &topology).unwrap();
            match now(&topology, &links, &[]).plan(&verb).unwrap().deed {
                Deed::Links(changed) => links = changed,
                deed => panic!("{deed:?}"),
            }
            Link::text_of(&links.all())
        };
        assert_eq!(order("delay sh hz 3ms"), "hz>sh=3ms,sh>hz=3ms");
        assert_eq!(order("partition sh hz --one-way"), "hz>sh=3ms,sh>hz=3ms,sh>hz=cut");
        let both = "hz>sh=3ms,sh>hz=3ms,hz>sz=cut,sh>hz=cut,sz>hz=cut";
        assert_eq!(order("partition hz sz"), both);
        assert_eq!(Link::text_of(&Links::of(&Link::parse_all(both).unwrap()).all()), both);
        assert_eq!(order("heal hz sh"), "hz>sh=3ms,sh>hz=3ms,hz>sz=cut,sz>hz=cut");
        assert_eq!(order("heal"), "hz>sh=3ms,sh>hz=3ms");
    }
}
