//! `quorate group add`, `remove`, `replace`, `promote`, `demote`: one wish for one group.

use clap::Args;
use quorate_topology::Topology;
use quorate_topology::change::{Standing, Wish, plan};
use quorate_types::GroupId;
use tokio::time::Instant;

use crate::args;
use crate::cli::Global;
use crate::cluster::Cluster;
use crate::exit::Failure;
use crate::members::{
    self, Flags, Hands, Made, carry_out, document, fail, group_named, members_now, members_of,
    node_named, show,
};
use crate::output::Output;

/// A group and a node.
#[derive(Clone, Debug, Args)]
pub(super) struct OneArgs {
    /// The group, as 2, g2 or RZ01/g2
    #[arg(value_parser = args::group)]
    pub(super) group: GroupId,
    /// The name of the node
    pub(super) node: String,
    #[command(flatten)]
    pub(super) flags: Flags,
}

/// A group, a node and the one that takes its place.
#[derive(Clone, Debug, Args)]
pub(super) struct ReplaceArgs {
    #[command(flatten)]
    one: OneArgs,
    /// The name of the node that gets a replica in its place
    #[arg(long, value_name = "NODE")]
    by: String,
}

/// Runs a command about one node.
pub(super) async fn run_one(
    args: &OneArgs,
    wish: impl Fn(&Topology, &OneArgs) -> Result<Wish, Failure>,
    global: &Global,
    out: &Output,
) -> Result<(), Failure> {
    let cluster = Cluster::open(global).await?;
    let wish = wish(cluster.topology(), args)?;
    run(&cluster, args, wish, out).await
}

/// Runs `quorate group replace`.
pub(super) async fn run_replace(
    args: &ReplaceArgs,
    global: &Global,
    out: &Output,
) -> Result<(), Failure> {
    let cluster = Cluster::open(global).await?;
    let node = node_named(cluster.topology(), &args.one.node)?.id;
    let by = node_named(cluster.topology(), &args.by)?.id;
    run(&cluster, &args.one, Wish::Replace(node, by), out).await
}

async fn run(cluster: &Cluster, args: &OneArgs, wish: Wish, out: &Output) -> Result<(), Failure> {
    let (topology, flags) = (cluster.topology(), &args.flags);
    let group = group_named(topology, args.group)?;
    let members = members_of(cluster, group.id).await?;
    let made = plan(topology, group.id, &members_now(&members), wish, flags.redundancy());
    let made = made.map_err(|refusal| fail(&refusal))?;
    show(topology, &made, out);
    if flags.dry_run || made.steps.is_empty() {
        let how = if flags.dry_run { Made::Shown } else { Made::Done };
        out.document(&document(topology, &[made], how));
        return Ok(());
    }
    // Whoever adds something can take it away again; what takes something away is asked for twice.
    match wish {
        Wish::AddVoter(..) | Wish::AddLearner(..) | Wish::Promote(_) => {}
        Wish::Remove(_) | Wish::Replace(..) | Wish::Demote(_) => {
            let what = members::wish_words(topology, wish);
            flags.confirm(&format!("{}: {what}?", group.label()))?;
        }
    }
    let deadline = Instant::now() + flags.wait;
    let hands = Hands { cluster, out, deadline, redundancy: flags.redundancy() };
    let ended = carry_out(&hands, &made).await?;
    let survives = Standing::of(topology, group, &members_now(&ended)).words();
    if !out.is_json() {
        out.say(format_args!("{}: done; {survives}", group.label()));
    }
    out.document(&document(topology, &[made], Made::Done));
    Ok(())
}
