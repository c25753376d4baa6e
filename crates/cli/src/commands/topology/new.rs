//! `quorate topology new`: the cluster file of a new cluster, from flags and, on a terminal, a few
//! questions about what the flags leave open.

mod questions;

use std::fs::OpenOptions;
use std::io::{self, IsTerminal, Write};
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::PossibleValue;
use quorate_topology::new_file::{NewFile, UNITS_MAX};
use quorate_topology::presets::Layout;
use quorate_topology::{LeaseProfile, Node, TableClass, Topology};
use quorate_types::ClusterId;
use serde_json::json;

use self::questions::ask;
use crate::exit::Failure;
use crate::output::{Document, Output};

/// The machine where none is named.
const LOCAL: &str = "127.0.0.1";

/// Writes the cluster file of a new cluster.
#[derive(Clone, Debug, Args)]
pub(crate) struct NewArgs {
    /// Where the nodes stand: cities and IDCs, a node in each IDC [default: 1c3i]
    #[arg(long, value_name = "LAYOUT")]
    layout: Option<LayoutWord>,
    /// The name of the cluster [default: quorate]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// The machine of each node, by name or address without a port [default: all on this machine]
    #[arg(long, value_name = "HOST,...", value_delimiter = ',', value_parser = host)]
    hosts: Option<Vec<String>>,
    /// A table and its class: unit, home or global; once for each table [default: rows:unit]
    #[arg(long = "table", value_name = "NAME:CLASS", value_parser = table)]
    tables: Option<Vec<(String, TableClass)>>,
    /// How many units the users are divided among
    #[arg(long, value_name = "N", default_value = "4",
        value_parser = clap::value_parser!(u32).range(1..=i64::from(UNITS_MAX)))]
    units: u32,
    /// Leases of leaders: lan, wan or off [default: lan in one city, otherwise wan]
    #[arg(long, value_name = "PROFILE", value_parser = lease)]
    lease: Option<LeaseProfile>,
    /// Added to every port
    #[arg(long, value_name = "N", default_value = "0")]
    port_offset: u16,
    /// Writes to a file instead of stdout
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replaces the file if it exists
    #[arg(long, requires = "output")]
    overwrite: bool,
    /// Asks nothing: what no flag says has its default
    #[arg(long)]
    yes: bool,
}

/// A layout as a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LayoutWord(Layout);

impl clap::ValueEnum for LayoutWord {
    fn value_variants<'a>() -> &'a [LayoutWord] {
        const {
            &[
                LayoutWord(Layout::OneCity),
                LayoutWord(Layout::TwoCities),
                LayoutWord(Layout::ThreeCities),
                LayoutWord(Layout::TwoAndArbiter),
            ]
        }
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.0.word()).help(quorate_topology::new_file::words(self.0)))
    }
}

/// What is asked on a terminal where no flag says it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Choices {
    name: Option<String>,
    layout: Option<Layout>,
    hosts: Option<Vec<String>>,
    tables: Option<Vec<(String, TableClass)>>,
}

/// Runs `quorate topology new`.
pub(crate) fn run(args: NewArgs, out: &Output) -> Result<(), Failure> {
    // Before anything is asked.
    if let Some(path) = &args.output
        && path.exists()
        && !args.overwrite
    {
        return Err(exists(path));
    }
    let mut choices = Choices {
        name: args.name.clone(),
        layout: args.layout.map(|word| word.0),
        hosts: args.hosts.clone(),
        tables: args.tables.clone(),
    };
    if !args.yes && io::stdin().is_terminal() && io::stderr().is_terminal() {
        choices = ask(choices, &mut io::stdin().lock(), &mut io::stderr().lock())?;
    }
    let file = file_of(choices, &args, ClusterId(rand::random()))?;
    let text = file.text();
    let topology = Topology::parse_named("the new file", &text).map_err(|error| {
        Failure::from(error).with_fix("change the flags that these values come from")
    })?;
    match &args.output {
        Some(path) => save(path, &text, args.overwrite)?,
        None if !out.is_json() => out.raw(text.as_bytes()),
        None => {}
    }
    if let Some(path) = &args.output
        && !out.is_json()
    {
        for line in next_words(path, &topology) {
            out.say(line);
        }
    }
    out.document(&Document::new("topology-new").of_cluster(topology.cluster_id()).item(json!({
        "file": args.output.as_ref().map(|path| path.display().to_string()),
        "cluster_name": topology.name(),
        "layout": file.layout.word(),
        "survives": topology.survival().words(),
        "toml": text,
    })));
    Ok(())
}

/// The choices with defaults for what they leave open.
fn file_of(choices: Choices, args: &NewArgs, cluster_id: ClusterId) -> Result<NewFile, Failure> {
    let layout = choices.layout.unwrap_or_default();
    let nodes = layout.places().len();
    let hosts = choices.hosts.unwrap_or_else(|| vec![LOCAL.to_owned(); nodes]);
    if hosts.len() != nodes {
        return Err(Failure::usage(
            format!(
                "layout {} has {nodes} nodes, but --hosts names {}",
                layout.word(),
                hosts.len()
            ),
            "name a machine for each node; a machine may be named more than once",
        ));
    }
    let is_one_city = matches!(layout, Layout::OneCity | Layout::TwoAndArbiter);
    let lease = if is_one_city { LeaseProfile::Lan } else { LeaseProfile::Wan };
    let rows = || vec![("rows".to_owned(), TableClass::Unit)];
    Ok(NewFile {
        name: choices.name.unwrap_or_else(|| "quorate".to_owned()),
        cluster_id,
        layout,
        hosts,
        port_offset: args.port_offset,
        lease: args.lease.unwrap_or(lease),
        units: args.units,
        tables: choices.tables.unwrap_or_else(rows),
    })
}

fn exists(path: &Path) -> Failure {
    Failure::usage(
        format!("{} exists already", path.display()),
        "name another file, or replace it with --overwrite",
    )
}

/// Writes a file that nobody else makes meanwhile.
///
/// # Errors
/// If it exists and is not to be replaced, or cannot be written.
pub(crate) fn save(path: &Path, text: &str, overwrite: bool) -> Result<(), Failure> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).create_new(!overwrite);
    let written = options.open(path).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    written.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => exists(path),
        _ => Failure::file("write", path, &error),
    })
}

/// What was made, and what comes next.
fn next_words(path: &Path, topology: &Topology) -> Vec<String> {
    let file = path.display();
    let host_of = |node: &Node| {
        let (host, _port) = node.client.rsplit_once(':').unwrap_or((&node.client, ""));
        host.to_owned()
    };
    let is_here = topology.nodes().all(|node| host_of(node) == LOCAL);
    let next = match is_here {
        true => "then:",
        false => "copy the file to the machine of every node, with its certificates; there:",
    };
    let mut lines = vec![
        format!("{file}: cluster {} ({})", topology.name(), topology.cluster_id()),
        topology.survival().headline(),
        "certificates, unless the nodes are to start with --insecure:".to_owned(),
        format!("  quorate cert create-ca --cluster {file}"),
        format!("  quorate cert create-node --all --cluster {file}"),
        "  quorate cert create-client me --write '*' --admin '*'".to_owned(),
        next.to_owned(),
    ];
    for node in topology.nodes() {
        let (host, name) = (host_of(node), &node.name);
        lines.push(format!(
            "  {host}: quorate cluster init --cluster {file} --node {name} --data data-{name}"
        ));
    }
    lines
}

/// A machine: a name, an IPv4 address or an IPv6 address with or without brackets.
fn host(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.parse::<Ipv6Addr>().is_ok() {
        return Ok(format!("[{text}]"));
    }
    let is_bracketed = text.starts_with('[') && text.ends_with(']');
    if text.contains(':') && !is_bracketed {
        return Err(format!("{text:?} has a port; leave it out, the file has three for each node"));
    }
    if text.is_empty() || text.contains(char::is_whitespace) {
        return Err(format!("{text:?} is no machine; write a name or an address"));
    }
    Ok(text.to_owned())
}

/// A table as `name:class`; without a class it is `unit`.
fn table(text: &str) -> Result<(String, TableClass), String> {
    let text = text.trim();
    let (name, class) = text.split_once(':').unwrap_or((text, "unit"));
    let classes = [TableClass::Unit, TableClass::Home, TableClass::Global];
    let found = classes.into_iter().find(|known| known.word() == class);
    match found {
        _ if name.is_empty() => Err(format!("{text:?} has no name; write name:class")),
        Some(class) => Ok((name.to_owned(), class)),
        None => Err(format!("{class:?} is no class of a table; write unit, home or global")),
    }
}

fn lease(text: &str) -> Result<LeaseProfile, String> {
    let profiles = [LeaseProfile::Lan, LeaseProfile::Wan, LeaseProfile::Off];
    profiles
        .into_iter()
        .find(|profile| profile.word() == text)
        .ok_or_else(|| format!("{text:?} is no lease profile; write lan, wan or off"))
}

/// A layout by its word.
fn layout(text: &str) -> Result<Layout, String> {
    let words = Layout::ALL.map(Layout::word);
    Layout::ALL
        .into_iter()
        .find(|layout| layout.word() == text)
        .ok_or_else(|| format!("{text:?} is no layout; write one of {}", words.join(", ")))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        new: NewArgs,
    }

    fn file(line: &str) -> Result<NewFile, Failure> {
        let words = std::iter::once("new").chain(line.split_whitespace());
        let args = Line::try_parse_from(words).expect("a line that clap takes").new;
        let choices = Choices {
            name: args.name.clone(),
            layout: args.layout.map(|word| word.0),
            hosts: args.hosts.clone(),
            tables: args.tables.clone(),
        };
        file_of(choices, &args, ClusterId(7))
    }

    #[test]
    fn flags_become_a_file_and_the_rest_has_defaults() {
        // Goal: what is asked for is in the file, and nothing at all gives a cluster on this machine.
        let plain = file("").expect("defaults");
        assert_eq!((plain.layout, plain.lease), (Layout::OneCity, LeaseProfile::Lan));
        assert_eq!(plain.hosts, ["127.0.0.1"; 3]);
        let line =
            "--layout 2c3i --name pay --hosts a,fd00::1,b --table t --table r:global --units 2";
        let chosen = file(line).expect("flags");
        assert_eq!((chosen.layout, chosen.lease), (Layout::TwoCities, LeaseProfile::Wan));
        assert_eq!(chosen.hosts, ["a", "[fd00::1]", "b"]);
        let tables = [("t".to_owned(), TableClass::Unit), ("r".to_owned(), TableClass::Global)];
        assert_eq!(chosen.tables, tables);
        assert_eq!(chosen.units, 2);
    }

    #[test]
    fn too_few_machines_are_a_mistake() {
        // Goal: a machine that was forgotten is not made up.
        let failure = file("--hosts a,b").expect_err("two of three");
        assert!(failure.to_string().contains("1c3i has 3 nodes, but --hosts names 2"));
    }

    #[test]
    fn machines_tables_and_leases_are_checked() {
        // Goal: each mistake says what would be right.
        for (found, part) in [
            (host("10.0.0.1:6440").map(|_| ()), "leave it out"),
            (host("a b").map(|_| ()), "is no machine"),
            (table("t:uint").map(|_| ()), "write unit, home or global"),
            (table(":unit").map(|_| ()), "has no name"),
            (lease("fast").map(|_| ()), "write lan, wan or off"),
            (layout("5c9i").map(|_| ()), "write one of 1c3i, 2c3i, 3c5i, 1c2i1a"),
        ] {
            let error = found.expect_err(part);
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn what_comes_next_names_every_machine() {
        // Goal: the commands printed are those to type.
        let made = file("--hosts 10.0.0.1,10.0.0.2,10.0.0.3").expect("flags");
        let topology = Topology::parse(&made.text()).expect("valid");
        let lines = next_words(Path::new("c.toml"), &topology);
        assert_eq!(
            lines.last().map(String::as_str),
            Some("  10.0.0.3: quorate cluster init --cluster c.toml --node n3 --data data-n3")
        );
        assert!(lines.iter().any(|line| line.starts_with("copy the file")), "{lines:?}");
        let topology = Topology::parse(&file("").expect("defaults").text()).expect("valid");
        let lines = next_words(Path::new("c.toml"), &topology);
        assert!(!lines.iter().any(|line| line.starts_with("copy the file")), "{lines:?}");
    }
}
