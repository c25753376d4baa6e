//! What a demo is asked for on the command line, and what comes of it on this machine.

use std::fs;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use quorate_client::Topology;
use quorate_topology::presets::Layout;
use quorate_types::{Code, ReplicaKind};

use super::exec::ExecArgs;
use super::script::{self, Step};
use crate::exit::Failure;
use crate::local::cluster::Shape;
use crate::local::folder::{CLUSTER_FILE, Chosen, Folder};
use crate::node::Profile;
use crate::output::Output;

/// The highest offset with which every port is one.
const PORT_OFFSET_MAX: i64 = 58_000;
/// Memory that must be free for each node beyond the first of an IDC.
const FREE_BYTES_PER_NODE: u64 = 300_000_000;
/// Where Linux says how much memory is free.
const MEMORY: &str = "/proc/meminfo";

/// Runs a whole cluster on this machine, breaks it and checks that nothing is lost.
#[derive(Clone, Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Three cities, five IDCs with a node each, four RZones and a GZone; 3 ms between the larger cities, \
                  15 ms to the third. Imports 69,659 real purchases, runs reads and transactions in each city and \
                  payments between units, kills and stops nodes, an IDC and a city, cuts a link, and compares \
                  everything at the end. Exit 0 only if nothing acknowledged is lost or duplicated. Takes under two \
                  minutes, under 1 GB of memory and disk."
)]
pub(crate) struct DemoArgs {
    #[command(subcommand)]
    pub(super) action: Option<Action>,
    /// Cities and IDCs [default: 3c5i]
    #[arg(long, value_name = "PRESET", value_enum)]
    preset: Option<Preset>,
    /// Nodes in each IDC; fewer where memory is short
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=2))]
    nodes_per_idc: u32,
    /// What to play instead of the story: lines of `+TIME VERB`
    #[arg(long, value_name = "FILE")]
    script: Option<PathBuf>,
    /// Print the story as a script, and do nothing
    #[arg(long, conflicts_with_all = ["script", "keep", "report", "dir", "tag"])]
    pub(super) print_script: bool,
    /// Leave the cluster running after the report; Ctrl-C stops it
    #[arg(long)]
    pub(super) keep: bool,
    /// Write the report as JSON to this file too
    #[arg(long, value_name = "FILE")]
    pub(super) report: Option<PathBuf>,
    /// Added to every port, so that several clusters fit on one machine
    #[arg(
        long,
        value_name = "N",
        default_value_t = 0,
        value_parser = clap::value_parser!(u16).range(0..=PORT_OFFSET_MAX)
    )]
    port_offset: u16,
    /// A new or empty folder for the cluster; without it a temporary one, removed at the end
    #[arg(long, value_name = "DIR", conflicts_with = "tag")]
    dir: Option<PathBuf>,
    /// Keep cluster file and data under this name, and go on with them next time
    #[arg(long, value_name = "NAME", value_parser = tag)]
    tag: Option<String>,
    /// Purchases to import instead of those in this program: CSV, plain or gzip
    #[arg(long, value_name = "FILE")]
    pub(super) data_file: Option<PathBuf>,
    /// How often to go through the story; 0 only imports and checks
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=1000))]
    pub(super) rounds: u32,
    /// How long to watch the load after each event of the story, in seconds
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub(super) seconds: u64,
}

/// What else can be done.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Action {
    /// Tell a demo that runs what to do: kill, stop, restart, partition, heal, delay, status
    Exec(ExecArgs),
}

/// A layout by its word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Preset {
    /// One city, three IDCs
    #[value(name = "1c3i")]
    OneCity,
    /// Two cities with two IDCs and one
    #[value(name = "2c3i")]
    TwoCities,
    /// Three cities with two, two and one IDCs
    #[value(name = "3c5i")]
    ThreeCities,
    /// One city, two IDCs and an arbiter
    #[value(name = "1c2i1a")]
    TwoAndArbiter,
}

impl From<Preset> for Layout {
    fn from(preset: Preset) -> Layout {
        match preset {
            Preset::OneCity => Layout::OneCity,
            Preset::TwoCities => Layout::TwoCities,
            Preset::ThreeCities => Layout::ThreeCities,
            Preset::TwoAndArbiter => Layout::TwoAndArbiter,
        }
    }
}

/// The name of a tag: it becomes the name of a folder.
fn tag(text: &str) -> Result<String, String> {
    let is_fine = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if text.is_empty() || 40 < text.len() || !text.chars().all(is_fine) {
        return Err("a tag has 1 to 40 letters, digits, - and _".to_owned());
    }
    Ok(text.to_owned())
}

/// What a demo is made of on this machine.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    pub(super) shape: Shape,
    /// The layout; its cluster may get another id.
    pub(super) topology: Topology,
    /// The folder holds a cluster of an earlier run.
    pub(super) is_used_again: bool,
}

impl Setting {
    /// The cluster in words.
    pub(super) fn words(&self) -> String {
        let topology = &self.topology;
        let (cities, idcs) = (topology.cities().len(), topology.idcs().len());
        let nodes = topology.nodes().len();
        let units = topology.groups().filter(|group| !group.slices.is_empty()).count();
        let cities = if cities == 1 { "one city".to_owned() } else { format!("{cities} cities") };
        let word = self.shape.layout.word();
        let mut words = format!(
            "{nodes} nodes in {cities} and {idcs} IDCs ({word}), {units} RZones and a GZone"
        );
        for (from, to, delay) in script::distances(self.shape.layout) {
            words.push_str(&format!(", {from} - {to} {} ms", delay.as_millis()));
        }
        words
    }
}

impl DemoArgs {
    fn layout(&self) -> Layout {
        self.preset.map_or(Layout::ThreeCities, Layout::from)
    }

    fn shape(&self, nodes_per_idc: u32) -> Shape {
        Shape {
            layout: self.layout(),
            nodes_per_idc,
            port_offset: self.port_offset,
            profile: Profile::Small,
            groups_per_unit: 1,
        }
    }

    /// Where everything lives.
    pub(super) fn folder(&self) -> Chosen<'_> {
        match (&self.dir, &self.tag) {
            (Some(dir), _) => Chosen::Dir(dir),
            (None, Some(tag)) => Chosen::Tag(tag),
            (None, None) => Chosen::Fresh,
        }
    }

    /// Whether the user named the folder, so that it stays.
    pub(super) fn is_folder_named(&self) -> bool {
        self.folder() != Chosen::Fresh
    }

    /// What the demo is made of: what the folder holds already, otherwise what is asked for as far as there
    /// is memory.
    ///
    /// # Errors
    /// If the folder holds something else than is asked for.
    pub(super) fn setting(&self, folder: &Folder, out: &Output) -> Result<Setting, Failure> {
        if folder.holds_cluster() {
            return self.used_again(folder);
        }
        let mut nodes_per_idc = self.nodes_per_idc;
        let more = self.layout().places().len() as u64 * u64::from(nodes_per_idc - 1);
        let free = fs::read_to_string(MEMORY).ok().and_then(|text| free_bytes(&text));
        if let Some(free) = free.filter(|free| *free < more * FREE_BYTES_PER_NODE) {
            let mb = free / 1_000_000;
            out.warn(format_args!("one node in each IDC: {mb} MB of memory are free"));
            nodes_per_idc = 1;
        }
        let shape = self.shape(nodes_per_idc);
        let topology = Topology::parse(&shape.text())?;
        Ok(Setting { shape, topology, is_used_again: false })
    }

    fn used_again(&self, folder: &Folder) -> Result<Setting, Failure> {
        let file = folder.path().join(CLUSTER_FILE);
        let text =
            fs::read_to_string(&file).map_err(|error| Failure::file("read", &file, &error))?;
        let topology = Topology::parse_named(&file.display().to_string(), &text)?;
        let cities = topology.cities().len();
        let of_file = Layout::ALL.into_iter().find(|layout| {
            let mut names: Vec<&str> = layout.places().iter().map(|(city, _)| *city).collect();
            names.dedup();
            let has_arbiter = |group: &quorate_topology::Group| {
                group.members.iter().any(|member| member.kind == ReplicaKind::Arbiter)
            };
            names.len() == cities
                && layout.places().len() == topology.idcs().len()
                && topology.groups().any(has_arbiter) == (*layout == Layout::TwoAndArbiter)
        });
        let fix = "leave --preset and --port-offset out, or take another tag";
        let Some(layout) = of_file else {
            let message = format!("{} is none of the layouts of the demo", file.display());
            return Err(Failure::new(Code::ConfigInvalid, message).with_fix(fix));
        };
        if self.preset.is_some_and(|asked| Layout::from(asked) != layout) {
            let message = format!("the cluster of this tag is a {}", layout.word());
            return Err(Failure::usage(message, fix));
        }
        let nodes = topology.nodes().len() / layout.places().len();
        let nodes_per_idc = u32::try_from(nodes).unwrap_or(1);
        let shape = Shape { layout, ..self.shape(nodes_per_idc) };
        let first = topology.nodes().next().map(|node| node.client.clone()).unwrap_or_default();
        let asked = Topology::parse(&shape.text())?;
        let asked = asked.nodes().next().map(|node| node.client.clone()).unwrap_or_default();
        if self.port_offset != 0 && first != asked {
            let message = format!("the cluster of this tag begins at {first}, not at {asked}");
            return Err(Failure::usage(message, fix));
        }
        Ok(Setting { shape, topology, is_used_again: true })
    }

    /// The story of the layout that is asked for.
    pub(super) fn story(&self) -> Result<String, Failure> {
        let topology = Topology::parse(&self.shape(1).text())?;
        Ok(script::story(self.layout(), &topology, self.rounds, self.seconds))
    }

    /// What is played.
    ///
    /// # Errors
    /// If the script cannot be read, or has mistakes.
    pub(super) fn steps(&self, setting: &Setting) -> Result<Vec<Step>, Failure> {
        let topology = &setting.topology;
        match &self.script {
            None => {
                let layout = setting.shape.layout;
                let text = script::story(layout, topology, self.rounds, self.seconds);
                script::read("the story", &text, topology)
            }
            Some(path) => {
                let text = fs::read_to_string(path)
                    .map_err(|error| Failure::file("read", path, &error))?;
                script::read(&path.display().to_string(), &text, topology)
            }
        }
    }
}

/// The memory that programs can still take.
fn free_bytes(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_and_free_memory_are_understood() {
        // Goal: a tag cannot name another folder, and a machine with little memory is noticed.
        assert_eq!(tag("my-demo_2"), Ok("my-demo_2".to_owned()));
        for text in ["", "a/b", "..", "a b", &"x".repeat(41)] {
            assert!(tag(text).is_err(), "{text}");
        }
        let text = "MemTotal:  100 kB\nMemAvailable:   12345 kB\n";
        assert_eq!(free_bytes(text), Some(12_345 * 1024));
        assert_eq!(free_bytes("MemTotal: 100 kB\n"), None);
    }
}
