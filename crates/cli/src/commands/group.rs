//! `quorate group`: who takes part in a group, and who leads it.

mod change;
mod check;
mod list;
mod pin;
mod transfer_leader;
mod unsafe_recover;

use clap::{Args, Subcommand};
use quorate_topology::change::Wish;

use self::change::{OneArgs, ReplaceArgs};
use crate::cli::Global;
use crate::exit::Failure;
use crate::members::node_named;
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
    /// It gets everything and does not vote
    #[arg(long)]
    learner: bool,
}

/// Runs `quorate group`.
pub(crate) async fn run(args: GroupArgs, global: &Global, out: &Output) -> Result<(), Failure> {
    let wish_of = |make: fn(_) -> Wish| {
        move |topology: &_, args: &OneArgs| Ok(make(node_named(topology, &args.node)?.id))
    };
    match args.command {
        GroupCommand::Members(args) => list::run(&args, global, out).await,
        GroupCommand::Add(AddArgs { one, learner }) => {
            let make = if learner { Wish::AddLearner } else { Wish::AddVoter };
            change::run_one(&one, wish_of(make), global, out).await
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
