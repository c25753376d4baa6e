//! What can be done to the cluster, in words: the same in a script and in `quorate demo exec`.
//!
//! ```text
//!  kill WHAT                  SIGKILL
//!  stop WHAT                  SIGTERM, one node after the other
//!  restart [WHAT]             starts what is down; a node that runs is stopped first
//!  partition A B [--one-way]  nothing gets through between two places, or from A to B
//!  heal [A B]                 mends cuts; distances stay
//!  delay A B TIME             what everything takes between two places, each way
//!  watch                      nothing happens
//!  status                     says how things stand
//! ```
//!
//! WHAT is a node, an IDC, a city, `all`, or found when its turn comes: `leader:RZ00` is the node that leads
//! the unit, `idc-of:RZ00` its IDC, `city-of:RZ00` its city. Everything here is pure.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use quorate_client::{GroupId, NodeId, Topology};
use quorate_types::link::LINK_DELAY_MAX;

use crate::args;

/// The first words.
const WORDS: [&str; 8] =
    ["kill", "stop", "restart", "partition", "heal", "delay", "watch", "status"];

/// What is meant by WHAT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// Every node.
    All,
    /// A node, an IDC or a city, by name.
    Place(String),
    /// The node that leads a unit.
    LeaderOf(String),
    /// The IDC of that node.
    IdcOf(String),
    /// The city of that node.
    CityOf(String),
}

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    /// SIGKILL.
    Kill(Target),
    /// SIGTERM.
    Stop(Target),
    /// Start again; everything that is down if nothing is named.
    Restart(Option<Target>),
    /// Cut the links between two places, or from the first to the second.
    Partition { from: String, to: String, one_way: bool },
    /// Mend what was cut between two places, or everything.
    Heal(Option<(String, String)>),
    /// Set the distance of two places.
    Delay { from: String, to: String, delay: Duration },
    /// Nothing.
    Watch,
    /// Nothing, but say how things stand.
    Status,
}

impl Verb {
    /// Understands words that speak of this cluster.
    ///
    /// # Errors
    /// What would be right, in a sentence.
    pub(super) fn parse(words: &[&str], topology: &Topology) -> Result<Verb, String> {
        let Some((first, rest)) = words.split_first() else {
            return Err(format!("a verb is missing; write one of {}", WORDS.join(", ")));
        };
        let target = |word: &str| Target::parse(word, topology);
        let place = |word: &str| known_place(word, topology).map(|()| word.to_owned());
        match (*first, rest) {
            ("kill", [what]) => Ok(Verb::Kill(target(what)?)),
            ("stop", [what]) => Ok(Verb::Stop(target(what)?)),
            ("restart", []) => Ok(Verb::Restart(None)),
            ("restart", [what]) => Ok(Verb::Restart(Some(target(what)?))),
            ("partition", [from, to]) => {
                Ok(Verb::Partition { from: place(from)?, to: place(to)?, one_way: false })
            }
            ("partition", [from, to, "--one-way"]) => {
                Ok(Verb::Partition { from: place(from)?, to: place(to)?, one_way: true })
            }
            ("heal", []) => Ok(Verb::Heal(None)),
            ("heal", [from, to]) => Ok(Verb::Heal(Some((place(from)?, place(to)?)))),
            ("delay", [from, to, time]) => {
                let delay = distance(time)?;
                Ok(Verb::Delay { from: place(from)?, to: place(to)?, delay })
            }
            ("watch", []) => Ok(Verb::Watch),
            ("status", []) => Ok(Verb::Status),
            (known, _) if WORDS.contains(&known) => Err(format!("write {}", form_of(known))),
            (unknown, _) => {
                let hint = args::did_you_mean(unknown, WORDS);
                Err(format!("{unknown:?} is no verb; {hint}"))
            }
        }
    }
}

/// How a verb is written.
fn form_of(verb: &str) -> &'static str {
    match verb {
        "kill" => "kill NODE, IDC, CITY, all or leader:UNIT",
        "stop" => "stop NODE, IDC, CITY, all or leader:UNIT",
        "restart" => "restart, or restart NODE, IDC or CITY",
        "partition" => "partition A B, or partition A B --one-way",
        "heal" => "heal, or heal A B",
        "delay" => "delay A B 30ms",
        "watch" => "watch with nothing after it",
        _ => "status with nothing after it",
    }
}

/// A distance: like a time span, and it may be none at all.
fn distance(text: &str) -> Result<Duration, String> {
    let delay = if text == "0ms" { Duration::ZERO } else { args::duration(text)? };
    if LINK_DELAY_MAX < delay {
        return Err(format!("{text} is farther than {LINK_DELAY_MAX:?}"));
    }
    Ok(delay)
}

/// Everything that has a name: nodes, IDCs and cities.
fn places(topology: &Topology) -> Vec<&str> {
    let nodes = topology.nodes().map(|node| node.name.as_str());
    let idcs = topology.idcs().iter().map(|idc| idc.name.as_str());
    let cities = topology.cities().iter().map(|city| city.name.as_str());
    nodes.chain(idcs).chain(cities).collect()
}

fn known_place(name: &str, topology: &Topology) -> Result<(), String> {
    let places = places(topology);
    if places.contains(&name) {
        return Ok(());
    }
    let hint = args::did_you_mean(name, places);
    Err(format!("{name:?} is no node, IDC or city of this cluster; {hint}"))
}

impl Target {
    fn parse(word: &str, topology: &Topology) -> Result<Target, String> {
        let unit = |name: &str| {
            let units: Vec<&str> = topology.groups().map(|group| group.unit.as_str()).collect();
            if units.contains(&name) {
                return Ok(name.to_owned());
            }
            let hint = args::did_you_mean(name, units);
            Err(format!("{name:?} is no unit of this cluster; {hint}"))
        };
        match word.split_once(':') {
            Some(("leader", name)) => Ok(Target::LeaderOf(unit(name)?)),
            Some(("idc-of", name)) => Ok(Target::IdcOf(unit(name)?)),
            Some(("city-of", name)) => Ok(Target::CityOf(unit(name)?)),
            Some((kind, _)) => Err(format!(
                "{kind:?} finds nothing; write leader:UNIT, idc-of:UNIT or city-of:UNIT"
            )),
            None if word == "all" => Ok(Target::All),
            None => known_place(word, topology).map(|()| Target::Place(word.to_owned())),
        }
    }

    /// The name of the place and its nodes, where `leads` has who leads each group now; `None` if nobody
    /// leads the unit.
    pub(super) fn find(
        &self,
        topology: &Topology,
        leads: &[(GroupId, Option<NodeId>)],
    ) -> Option<(String, BTreeSet<NodeId>)> {
        let leader_of = |unit: &str| {
            let group = topology.groups().find(|group| group.unit == unit)?;
            let (_, leader) = leads.iter().find(|(id, _)| *id == group.id)?;
            topology.node((*leader)?)
        };
        let name = match self {
            Target::All => {
                return Some(("all nodes".to_owned(), topology.nodes().map(|n| n.id).collect()));
            }
            Target::Place(name) => name.clone(),
            Target::LeaderOf(unit) => leader_of(unit)?.name.clone(),
            Target::IdcOf(unit) => leader_of(unit)?.idc.clone(),
            Target::CityOf(unit) => leader_of(unit)?.city.clone(),
        };
        let is_in =
            |node: &&quorate_topology::Node| [&node.name, &node.idc, &node.city].contains(&&name);
        let nodes = topology.nodes().filter(is_in).map(|node| node.id).collect();
        Some((name, nodes))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::All => f.write_str("all"),
            Target::Place(name) => f.write_str(name),
            Target::LeaderOf(unit) => write!(f, "leader:{unit}"),
            Target::IdcOf(unit) => write!(f, "idc-of:{unit}"),
            Target::CityOf(unit) => write!(f, "city-of:{unit}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use quorate_topology::presets::{Layout, Options, of_layout};
    use quorate_types::ClusterId;

    use super::*;

    fn topology(nodes_per_idc: u32) -> Topology {
        let text = of_layout(Layout::ThreeCities, nodes_per_idc, &Options::demo(ClusterId(7)));
        Topology::parse(&text).unwrap()
    }

    fn parse(text: &str) -> Result<Verb, String> {
        Verb::parse(&text.split_whitespace().collect::<Vec<&str>>(), &topology(1))
    }

    #[test]
    fn verbs_are_understood_and_mistakes_are_told_with_what_was_meant() {
        // Goal: a typing mistake breaks nothing but says what would be right.
        let place = |name: &str| Target::Place(name.to_owned());
        assert_eq!(parse("kill n3"), Ok(Verb::Kill(place("n3"))));
        assert_eq!(parse("stop leader:RZ00"), Ok(Verb::Stop(Target::LeaderOf("RZ00".into()))));
        assert_eq!(parse("restart"), Ok(Verb::Restart(None)));
        assert_eq!(parse("restart sh-a"), Ok(Verb::Restart(Some(place("sh-a")))));
        let (from, to) = ("sh".to_owned(), "hz".to_owned());
        let cut = Verb::Partition { from: from.clone(), to: to.clone(), one_way: true };
        assert_eq!(parse("partition sh hz --one-way"), Ok(cut));
        let delay = Duration::from_millis(30);
        assert_eq!(parse("delay sh hz 30ms"), Ok(Verb::Delay { from, to, delay }));
        for (text, part) in [
            ("", "a verb is missing"),
            ("kil n3", "did you mean \"kill\"?"),
            ("kill", "write kill NODE"),
            ("kill n9", "no node, IDC or city of this cluster"),
            ("kill leader:RZ9", "is no unit of this cluster"),
            ("kill boss:RZ00", "write leader:UNIT"),
            ("partition sh", "write partition A B"),
            ("partition sh hz --oneway", "write partition A B"),
            ("delay sh hz 30", "no time span"),
            ("delay sh hz 11s", "farther than 10s"),
            ("heal sh", "write heal, or heal A B"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn what_is_meant_is_found_when_its_turn_comes() {
        // Goal: a story hits who leads then, wherever leaders have gone.
        let topology = topology(2);
        let leads = [(GroupId(1), Some(NodeId(3))), (GroupId(2), None)];
        let find = |target: Target| target.find(&topology, &leads);
        let nodes = |ids: &[u32]| ids.iter().map(|id| NodeId(*id)).collect::<BTreeSet<NodeId>>();
        let unit = || "RZ00".to_owned();
        assert_eq!(find(Target::LeaderOf(unit())), Some(("n3".to_owned(), nodes(&[3]))));
        assert_eq!(find(Target::IdcOf(unit())), Some(("sh-b".to_owned(), nodes(&[3, 4]))));
        assert_eq!(find(Target::CityOf(unit())), Some(("sh".to_owned(), nodes(&[1, 2, 3, 4]))));
        assert_eq!(find(Target::LeaderOf("RZ01".to_owned())), None);
        assert_eq!(find(Target::All).map(|(_, nodes)| nodes.len()), Some(10));
    }
}
