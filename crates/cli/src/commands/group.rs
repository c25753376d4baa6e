//! `quorate group`: who takes part in a group, and who leads it.

mod change;
mod check;
mod list;
mod pin;
mod transfer_leader;
mod unsafe_recover;

use clap::{Args, Subcommand};
use quorate_topology::change::Wish;
use quorate_topology::{ReplicaKind, Topology};

use self::change::{OneArgs, ReplaceArgs};
use crate::cli::Global;
use crate::exit::Failure;
use crate::members::{group_named, node_named};
use crate::output::Output;
use check::CheckArgs;

/// Looks after groups.
#[derive(Clone, Debug, Args)]
pub(crate) struct GroupArgs {
    #[command(subcommand)]
    command: GroupCommand,
}

#[derive(Clone, Debug, Subcommand)]
enum GroupCommand {
    /// Say who takes part in a group, or in every group, and how far each is
    Members(list::ListArgs),
    /// Put a replica on a node, and let it vote
    Add(AddArgs),
    /// Take the replica off a node
    Remove(OneArgs),
    /// Put a replica on another node in the place of one
    Replace(ReplaceArgs),
    /// Let a learner vote
    Promote(OneArgs),
    /// Make a voter a learner
    Demote(OneArgs),
    /// Ask the leader of a group to hand over
    TransferLeader(transfer_leader::TransferArgs),
    /// Let the replica on a node lead whenever it can
    Pin(pin::PinArgs),
    /// Have the replicas of groups compare their rows, and show what they found
    Check(CheckArgs),
    /// Go on without a majority that is lost for ever: acknowledged writes may be lost
    UnsafeRecover(unsafe_recover::RecoverArgs),
}

#[derive(Clone, Debug, Args)]
struct AddArgs {
    #[command(flatten)]
    one: OneArgs,
    /// What it holds; what the cluster file says of its zone, or full, if left out
    #[arg(long, value_enum)]
    kind: Option<KindWord>,
    /// It gets everything and does not vote yet
    #[arg(long)]
    learner: bool,
}

/// A kind of replica as a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum KindWord {
    /// Log and rows; votes and may lead
    Full,
    /// Log only; votes
    LogOnly,
    /// Log and rows; answers reads of its city and does not vote
    ReadOnly,
    /// Neither; votes on who leads and who takes part
    Arbiter,
}

impl From<KindWord> for ReplicaKind {
    fn from(word: KindWord) -> ReplicaKind {
        match word {
            KindWord::Full => ReplicaKind::Full,
            KindWord::LogOnly => ReplicaKind::LogOnly,
            KindWord::ReadOnly => ReplicaKind::ReadOnly,
            KindWord::Arbiter => ReplicaKind::Arbiter,
        }
    }
}

impl AddArgs {
    /// A replica of the kind that is asked for, or that the locality has in the zone of the node.
    fn wish(&self, topology: &Topology) -> Result<Wish, Failure> {
        let node = node_named(topology, &self.one.node)?;
        let group = group_named(topology, self.one.group)?;
        let placement = group.locality.placements.iter().find(|it| it.zone == node.zone);
        let listed = placement.map_or(ReplicaKind::Full, |placement| placement.kind);
        let kind = self.kind.map_or(listed, ReplicaKind::from);
        let votes = kind.votes() && !self.learner;
        Ok(if votes { Wish::AddVoter(node.id, kind) } else { Wish::AddLearner(node.id, kind) })
    }
}

/// Runs `quorate group`.
pub(crate) async fn run(args: GroupArgs, global: &Global, out: &Output) -> Result<(), Failure> {
    let wish_of = |make: fn(_) -> Wish| {
        move |topology: &_, args: &OneArgs| Ok(make(node_named(topology, &args.node)?.id))
    };
    match args.command {
        GroupCommand::Members(args) => list::run(&args, global, out).await,
        GroupCommand::Add(args) => {
            let wish = |topology: &_, _: &OneArgs| args.wish(topology);
            change::run_one(&args.one, wish, global, out).await
        }
        GroupCommand::Remove(args) => {
            change::run_one(&args, wish_of(Wish::Remove), global, out).await
        }
        GroupCommand::Promote(args) => {
            change::run_one(&args, wish_of(Wish::Promote), global, out).await
        }
        GroupCommand::Demote(args) => {
            change::run_one(&args, wish_of(Wish::Demote), global, out).await
        }
        GroupCommand::Replace(args) => change::run_replace(&args, global, out).await,
        GroupCommand::TransferLeader(args) => transfer_leader::run(args, global, out).await,
        GroupCommand::Pin(args) => pin::run(&args, global, out).await,
        GroupCommand::Check(args) => check::run(args, global, out).await,
        GroupCommand::UnsafeRecover(args) => unsafe_recover::run(&args, global, out).await,
    }
}
