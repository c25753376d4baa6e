//! `quorate node drain`: a node hands over all it leads, and leads nothing until it may again.

use std::time::Duration;

use clap::Args;
use quorate_client::Role;
use quorate_topology::Node;
use quorate_types::Code;
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::args;
use crate::cli::Global;
use crate::cluster::{self, Cluster};
use crate::exit::Failure;
use crate::members::node_named;
use crate::output::{Document, Output};

/// Between two questions whether it leads nothing any more.
const ASK_INTERVAL: Duration = Duration::from_millis(200);

/// Which node.
#[derive(Clone, Debug, Args)]
pub(super) struct DrainArgs {
    /// The name of the node
    node: String,
    /// It may lead again
    #[arg(long)]
    undo: bool,
    /// Say what would be handed over, and do nothing
    #[arg(long, conflicts_with = "undo")]
    dry_run: bool,
    /// How long to wait until it leads nothing
    #[arg(long, default_value = "1m", value_name = "TIME", value_parser = args::duration)]
    wait: Duration,
}

/// Runs `quorate node drain`.
pub(super) async fn run(args: &DrainArgs, global: &Global, out: &Output) -> Result<(), Failure> {
    let cluster = Cluster::open(global).await?;
    let node = node_named(cluster.topology(), &args.node)?;
    let words = if args.dry_run {
        format!("{} {}; it would hand that over", node.name, leads(&cluster, node).await?)
    } else if args.undo {
        let told = Box::pin(cluster.client().drain_node(node.id, false)).await;
        told.map_err(|error| cluster::failure(&error))?;
        format!("{} may lead again", node.name)
    } else {
        drain(&cluster, node, Instant::now() + args.wait, out).await?;
        format!(
            "{} leads nothing, until `quorate node drain {} --undo` or a restart; it goes on to vote",
            node.name, node.name
        )
    };
    if !out.is_json() {
        out.say(&words);
    }
    let id = cluster.topology().cluster_id();
    out.document(&Document::new("drain").of_cluster(id).item(json!({
        "node": node.name,
        "drained": !args.undo,
        "done": !args.dry_run,
    })));
    Ok(())
}

async fn drain(
    cluster: &Cluster,
    node: &Node,
    deadline: Instant,
    out: &Output,
) -> Result<(), Failure> {
    let mut told = None;
    loop {
        let asked = Box::pin(cluster.client().drain_node(node.id, true)).await;
        let left = asked.map_err(|error| cluster::failure(&error))?;
        if left == 0 {
            return Ok(());
        }
        let plural = if left == 1 { "" } else { "s" };
        if told != Some(left) {
            out.note(format_args!("{} still leads {left} group{plural}", node.name));
            told = Some(left);
        }
        if deadline <= Instant::now() {
            let message = format!("{} still leads {left} group{plural}", node.name);
            return Err(Failure::new(Code::DeadlineExceeded, message).with_fix(
                "nobody else could take over: `quorate status` shows which members are missing. \
                 The node goes on to hand over; --undo lets it lead again",
            ));
        }
        sleep(ASK_INTERVAL).await;
    }
}

/// `leads RZ00/g1, RZ01/g2`.
async fn leads(cluster: &Cluster, node: &Node) -> Result<String, Failure> {
    let asked = Box::pin(cluster.client().node_status(&node.client)).await;
    let status = asked.map_err(|error| cluster::failure(&error))?;
    let label = |group| cluster.topology().group(group).map(quorate_topology::Group::label);
    let led: Vec<String> = status
        .groups
        .iter()
        .filter(|group| group.role == Role::Leader)
        .filter_map(|status| label(status.group))
        .collect();
    Ok(if led.is_empty() {
        "leads nothing".to_owned()
    } else {
        format!("leads {}", led.join(", "))
    })
}
