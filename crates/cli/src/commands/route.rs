//! `quorate route explain`: where the rows of a user live, and why.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use quorate_topology::{Explanation, Table, TableClass, Topology, slice_label};
use quorate_types::{Code, Uid};
use serde_json::{Value, json};

use crate::args;
use crate::cli::Global;
use crate::cluster::{self, Cluster};
use crate::exit::Failure;
use crate::output::{Document, Output};

/// Says where rows live.
#[derive(Clone, Debug, Args)]
pub(crate) struct RouteArgs {
    #[command(subcommand)]
    command: RouteCommand,
}

#[derive(Clone, Debug, Subcommand)]
enum RouteCommand {
    /// Explain step by step which nodes serve the rows of a user
    Explain(ExplainArgs),
}

#[derive(Clone, Debug, Args)]
struct ExplainArgs {
    /// The user
    #[arg(short, long, value_parser = args::uid, allow_negative_numbers = true)]
    uid: Uid,
    /// The table; the first of class `unit` if left out, as all of that class go the same way
    #[arg(short, long)]
    table: Option<String>,
    /// Explain by this cluster file and ask no node
    #[arg(long, value_name = "FILE")]
    cluster: Option<PathBuf>,
}

/// Runs `quorate route`.
pub(crate) async fn run(args: RouteArgs, global: &Global, out: &Output) -> Result<(), Failure> {
    let RouteCommand::Explain(args) = args.command;
    let topology = match &args.cluster {
        Some(path) => super::topology::read(path)?,
        None => Cluster::open(global).await?.topology().clone(),
    };
    let table = choose_table(&topology, args.table.as_deref())?;
    let explanation = topology.explain(table.id, args.uid)?;
    if !out.is_json() {
        for line in explanation.words() {
            out.say(line);
        }
    }
    let document = Document::new("route").of_cluster(topology.cluster_id());
    out.document(&document.item(route_json(&explanation)));
    Ok(())
}

fn choose_table<'t>(topology: &'t Topology, name: Option<&str>) -> Result<&'t Table, Failure> {
    if let Some(name) = name {
        return cluster::table_of(topology, name);
    }
    let of_class = |class| topology.tables().find(move |table| table.class == class);
    of_class(TableClass::Unit).or_else(|| topology.tables().next()).ok_or_else(|| {
        Failure::new(Code::UnknownTable, "the cluster has no table at all")
            .with_fix("add a [[table]] to the cluster file")
    })
}

fn route_json(explanation: &Explanation) -> Value {
    let members: Vec<Value> = explanation
        .members
        .iter()
        .map(|member| {
            json!({
                "node": member.node_name,
                "node_id": member.node.0,
                "kind": member.kind.word(),
                "leader_preference": member.rank,
                "zone": member.zone,
                "idc": member.idc,
                "city": member.city,
                "client": member.client,
            })
        })
        .collect();
    json!({
        "topology_version": explanation.version.to_string(),
        "uid": explanation.uid.to_string(),
        "table": explanation.table_name,
        "class": explanation.class.word(),
        "rule": explanation.rule,
        "slice": slice_label(explanation.slice),
        "unit": explanation.unit,
        "unit_kind": explanation.unit_kind.word(),
        "group": explanation.group.to_string(),
        "members": members,
    })
}

#[cfg(test)]
mod tests {
    use quorate_topology::presets::{Options, one_city_three_idcs};
    use quorate_types::ClusterId;

    use super::*;

    fn topology() -> Topology {
        Topology::parse(&one_city_three_idcs(&Options::demo(ClusterId(7)))).unwrap()
    }

    #[test]
    fn without_a_table_the_first_sharded_one_is_explained() {
        let topology = topology();
        assert_eq!(choose_table(&topology, None).unwrap().name, "purchases");
        assert_eq!(choose_table(&topology, Some("rates")).unwrap().name, "rates");
        assert!(choose_table(&topology, Some("nothing")).is_err());
    }

    #[test]
    fn the_document_has_every_step() {
        let topology = topology();
        let table = choose_table(&topology, None).unwrap();
        let json = route_json(&topology.explain(table.id, Uid(u64::MAX)).unwrap());
        assert_eq!(json["uid"], json!("18446744073709551615"));
        assert_eq!(json["slice"], json!("15"));
        assert_eq!(json["unit"], json!("RZ00"));
        assert_eq!(json["group"], json!("g1"));
        assert_eq!(json["members"][0]["client"], json!("127.0.0.1:6440"));
    }
}
