//! `quorate topology`: makes a cluster file, checks one, and shows one, from a file or from the cluster.

mod new;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use quorate_topology::{Problem, Topology, TopologyError};
use quorate_types::Error;
use serde_json::{Value, json};

use crate::cli::Global;
use crate::cluster::Cluster;
use crate::exit::Failure;
use crate::output::{Document, Output, Table, error_json};
pub(crate) use new::save;

/// Makes, checks or shows a cluster file.
#[derive(Clone, Debug, Args)]
pub(crate) struct TopologyArgs {
    #[command(subcommand)]
    command: TopologyCommand,
}

#[derive(Clone, Debug, Subcommand)]
enum TopologyCommand {
    /// Write the cluster file of a new cluster
    New(new::NewArgs),
    /// Report every mistake in a cluster file, and what each group survives
    Validate {
        /// The cluster file
        file: PathBuf,
    },
    /// Show nodes, units, groups and tables
    Show {
        /// A cluster file; the cluster is asked if left out
        file: Option<PathBuf>,
        /// Print the cluster file itself
        #[arg(long)]
        toml: bool,
    },
}

/// Runs `quorate topology`.
pub(crate) async fn run(args: TopologyArgs, global: &Global, out: &Output) -> Result<(), Failure> {
    match args.command {
        TopologyCommand::New(args) => new::run(args, out),
        TopologyCommand::Validate { file } => validate(&file, out),
        TopologyCommand::Show { file, toml } => {
            let topology = match &file {
                Some(path) => read(path)?,
                None => Cluster::open(global).await?.topology().clone(),
            };
            if toml && !out.is_json() {
                out.raw(topology.text().as_bytes());
                return Ok(());
            }
            show(&topology, out);
            Ok(())
        }
    }
}

/// The topology of a cluster file.
///
/// # Errors
/// If it cannot be read, or every problem found in it.
pub(crate) fn read(path: &Path) -> Result<Topology, Failure> {
    let text = super::server::read_text(path)?;
    Ok(Topology::parse_named(&path.display().to_string(), &text)?)
}

fn validate(path: &Path, out: &Output) -> Result<(), Failure> {
    let file = path.display().to_string();
    let text = super::server::read_text(path)?;
    match Topology::parse_named(&file, &text) {
        Ok(topology) => {
            if !out.is_json() {
                for line in valid_words(&file, &topology) {
                    out.say(line);
                }
            }
            for warning in topology.warnings() {
                out.warn(located(&file, warning));
            }
            out.document(&valid_document(&file, &topology));
            Ok(())
        }
        Err(error) => {
            out.note(&error);
            let count = error.problems.len() + error.left_out;
            let plural = if count == 1 { "" } else { "s" };
            let summary = Error::new(error.code, format!("{file} has {count} problem{plural}"));
            out.document(&invalid_document("topology-validation", &error));
            Err(Failure::from(summary).with_fix("correct the lines named above and try again"))
        }
    }
}

fn located(file: &str, problem: &Problem) -> String {
    match problem.line {
        Some(line) => format!("{file}:{line}: {problem}"),
        None => format!("{file}: {problem}"),
    }
}

/// What a valid file describes, and what each group survives.
fn valid_words(file: &str, topology: &Topology) -> Vec<String> {
    let mut lines = vec![format!(
        "{file} is valid: cluster {}, version {}: {} nodes, {} units, {} groups, {} tables, {} slices",
        topology.name(),
        topology.version(),
        topology.nodes().len(),
        topology.units().len(),
        topology.groups().len(),
        topology.tables().len(),
        topology.slice_count(),
    )];
    lines.extend(topology.survival().words());
    lines
}

fn valid_document(file: &str, topology: &Topology) -> Document {
    let warnings: Vec<Value> = topology.warnings().iter().map(problem_json).collect();
    Document::new("topology-validation").of_cluster(topology.cluster_id()).item(json!({
        "file": file,
        "valid": true,
        "cluster_name": topology.name(),
        "topology_version": topology.version().to_string(),
        "warnings": warnings,
        "survives": topology.survival().words(),
    }))
}

/// What is wrong with a file, line by line.
pub(crate) fn invalid_document(kind: &'static str, error: &TopologyError) -> Document {
    let item = json!({
        "file": error.file,
        "valid": false,
        "problems_left_out": error.left_out,
    });
    let mut document = Document::new(kind).item(item);
    document.errors = error
        .problems
        .iter()
        .map(|problem| {
            let coded = Error::new(error.code, problem.message.clone());
            let mut json = error_json(&coded, problem.hint.as_deref());
            json["line"] = json!(problem.line);
            json["path"] = json!(problem.path);
            json
        })
        .collect();
    document
}

fn problem_json(problem: &Problem) -> Value {
    json!({ "line": problem.line, "path": problem.path, "message": problem.to_string() })
}

fn show(topology: &Topology, out: &Output) {
    if out.is_json() {
        out.document(&topology_document(topology));
        return;
    }
    out.say(format_args!(
        "cluster {} ({}), topology version {}, lease {}, {} slices",
        topology.name(),
        topology.cluster_id(),
        topology.version(),
        topology.lease(),
        topology.slice_count()
    ));
    for table in [nodes(topology), units(topology), groups(topology), tables(topology)] {
        out.say("");
        out.table(&table);
    }
    out.say("");
    for line in topology.survival().words() {
        out.say(line);
    }
    for warning in topology.warnings() {
        out.warn(warning);
    }
}

fn nodes(topology: &Topology) -> Table {
    let mut table = Table::new(&["NODE", "CITY", "IDC", "ZONE", "CLIENT", "PEER", "ADMIN"]);
    for node in topology.nodes() {
        let texts =
            [&node.name, &node.city, &node.idc, &node.zone, &node.client, &node.peer, &node.admin];
        table.row(texts.map(|text| text.as_str()));
    }
    table
}

fn units(topology: &Topology) -> Table {
    let mut table = Table::new(&["UNIT", "KIND", "SLICES", "GROUPS"]);
    for unit in topology.units() {
        let groups: Vec<String> = unit.groups.iter().map(ToString::to_string).collect();
        let slices = if unit.slices.is_empty() { "-".to_owned() } else { unit.slices.to_string() };
        table.row([unit.name.clone(), unit.kind.word().to_owned(), slices, groups.join(",")]);
    }
    table
}

fn groups(topology: &Topology) -> Table {
    let mut table = Table::new(&["GROUP", "SLICES", "LOCALITY", "LEADER ORDER", "MEMBERS"]);
    for group in topology.groups() {
        let slices =
            if group.slices.is_empty() { "-".to_owned() } else { group.slices.to_string() };
        let members = group.members.iter().filter_map(|member| topology.node(member.node));
        let members: Vec<&str> = members.map(|node| node.name.as_str()).collect();
        table.row([
            group.label(),
            slices,
            group.locality.to_string(),
            group.leader_order.to_string(),
            members.join(","),
        ]);
    }
    table
}

fn tables(topology: &Topology) -> Table {
    let mut table = Table::new(&["TABLE", "NUMBER", "CLASS"]);
    for found in topology.tables() {
        table.row([found.name.clone(), found.id.0.to_string(), found.class.word().to_owned()]);
    }
    table
}

fn topology_document(topology: &Topology) -> Document {
    let nodes: Vec<Value> = topology
        .nodes()
        .map(|node| {
            json!({
                "node": node.name, "node_id": node.id.0, "city": node.city, "idc": node.idc,
                "zone": node.zone, "client": node.client, "peer": node.peer, "admin": node.admin,
            })
        })
        .collect();
    let units: Vec<Value> = topology
        .units()
        .map(|unit| {
            let groups: Vec<String> = unit.groups.iter().map(ToString::to_string).collect();
            json!({
                "unit": unit.name, "kind": unit.kind.word(), "slices": unit.slices.to_string(),
                "groups": groups,
            })
        })
        .collect();
    let groups: Vec<Value> = topology
        .groups()
        .map(|group| {
            let members = group.members.iter().filter_map(|member| topology.node(member.node));
            let members: Vec<&str> = members.map(|node| node.name.as_str()).collect();
            json!({
                "group": group.id.to_string(), "label": group.label(), "unit": group.unit,
                "slices": group.slices.to_string(), "locality": group.locality.to_string(),
                "leader_order": group.leader_order.to_string(), "members": members,
            })
        })
        .collect();
    let tables: Vec<Value> = topology
        .tables()
        .map(|table| {
            json!({ "table": table.name, "number": table.id.0, "class": table.class.word() })
        })
        .collect();
    let warnings: Vec<Value> = topology.warnings().iter().map(problem_json).collect();
    Document::new("topology").of_cluster(topology.cluster_id()).item(json!({
        "cluster_name": topology.name(),
        "topology_version": topology.version().to_string(),
        "lease": topology.lease().word(),
        "slices": topology.slice_count(),
        "nodes": nodes,
        "units": units,
        "groups": groups,
        "tables": tables,
        "survives": topology.survival().words(),
        "warnings": warnings,
        "toml": topology.text(),
    }))
}

#[cfg(test)]
mod tests {
    use quorate_topology::presets::{Options, one_city_three_idcs};
    use quorate_types::ClusterId;

    use super::*;

    fn text() -> String {
        one_city_three_idcs(&Options::demo(ClusterId(7)))
    }

    #[test]
    fn a_valid_file_is_described_with_what_it_survives() {
        let topology = Topology::parse(&text()).unwrap();
        let lines = valid_words("c.toml", &topology);
        assert_eq!(
            lines[0],
            "c.toml is valid: cluster demo, version 1: 3 nodes, 5 units, 5 groups, 4 tables, 100 slices"
        );
        assert!(lines[1].starts_with("survives: 1 node yes; 1 IDC yes; 1 city NO"));
        assert_eq!(lines.len(), 7);
    }

    #[test]
    fn every_problem_of_a_file_is_in_the_document_with_its_line() {
        let broken = text()
            .replace("class = \"global\"", "klass = \"global\"")
            .replace("leader-order = \"sh-a;sh-b,sh-c\"", "leader-order = \"sh-z;sh-b,sh-c\"");
        let error = Topology::parse_named("c.toml", &broken).unwrap_err();
        assert!(1 < error.problems.len());
        let document = invalid_document("topology-validation", &error);
        assert_eq!(document.errors.len(), error.problems.len());
        assert!(document.errors.iter().all(|error| error["line"].is_number()));
        assert_eq!(document.items[0]["valid"], json!(false));
        let shown = error.to_string();
        assert!(shown.contains("c.toml:") && shown.contains("did you mean \"class\"?"), "{shown}");
    }

    #[test]
    fn the_tables_show_nodes_units_groups_and_tables() {
        let topology = Topology::parse(&text()).unwrap();
        assert_eq!(
            nodes(&topology).tabbed().lines().nth(2),
            Some("n2\tsh\tsh-b\tsh-b\t127.0.0.1:6450\t127.0.0.1:6451\t127.0.0.1:6490")
        );
        assert_eq!(units(&topology).tabbed().lines().nth(1), Some("GZ\tgzone\t-\tg5"));
        assert_eq!(
            groups(&topology).tabbed().lines().nth(1),
            Some("RZ00/g1\t00-24\tF@sh-a,F@sh-b,F@sh-c\tsh-a;sh-b,sh-c\tn1,n2,n3")
        );
        assert_eq!(tables(&topology).tabbed().lines().nth(1), Some("purchases\t1\tunit"));
        let document = topology_document(&topology);
        assert_eq!(document.items[0]["groups"][4]["label"], json!("GZ/g5"));
        assert_eq!(document.items[0]["toml"], json!(topology.text()));
    }
}
