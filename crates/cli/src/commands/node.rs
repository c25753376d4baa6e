//! `quorate node`: taking nodes out of use, and putting others in their place.

mod drain;
mod empty;

use clap::{Args, Subcommand};

use crate::cli::Global;
use crate::exit::Failure;
use crate::output::Output;

/// Looks after nodes.
#[derive(Clone, Debug, Args)]
pub(crate) struct NodeArgs {
    #[command(subcommand)]
    command: NodeCommand,
}

#[derive(Clone, Debug, Subcommand)]
enum NodeCommand {
    /// Hand over all that a node leads, and let it lead nothing
    Drain(drain::DrainArgs),
    /// Move every replica of a node to others near by
    Decommission(empty::DecommissionArgs),
    /// Move every replica of a node to one other
    Replace(empty::ReplaceArgs),
}

/// Runs `quorate node`.
pub(crate) async fn run(args: NodeArgs, global: &Global, out: &Output) -> Result<(), Failure> {
    match args.command {
        NodeCommand::Drain(args) => drain::run(&args, global, out).await,
        NodeCommand::Decommission(args) => empty::decommission(&args, global, out).await,
        NodeCommand::Replace(args) => empty::replace(&args, global, out).await,
    }
}
