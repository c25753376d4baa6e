//! `quorate cluster`: the steps between a cluster file and running nodes. `init` prepares one machine
//! before its node is started; `check` asks all nodes afterwards whether they run with the same file.

mod check;
mod init;

use clap::{Args, Subcommand};
use quorate_topology::Topology;

use crate::cli::Global;
use crate::exit::Failure;
use crate::output::Output;

/// Prepares the machines of a cluster, and compares what its nodes run with.
#[derive(Clone, Debug, Args)]
pub(crate) struct ClusterArgs {
    #[command(subcommand)]
    command: ClusterCommand,
}

#[derive(Clone, Debug, Subcommand)]
enum ClusterCommand {
    /// Check a machine and make the data folder before a node is started there for the first time
    Init(init::InitArgs),
    /// Ask every node whether it runs with the same cluster file; exit 10 if one does not
    Check(check::CheckArgs),
}

/// Runs `quorate cluster`.
pub(crate) async fn run(args: ClusterArgs, global: &Global, out: &Output) -> Result<(), Failure> {
    match args.command {
        ClusterCommand::Init(args) => init::run(&args, global, out),
        ClusterCommand::Check(args) => check::run(&args, global, out).await,
    }
}

/// Eight digits that are the same wherever the cluster file means the same, whatever its comments and
/// order. For people to compare; it finds mistakes, it proves nothing against malice.
fn fingerprint(topology: &Topology) -> String {
    format!("{:08x}", crc32c::crc32c(topology.to_toml().as_bytes()))
}

#[cfg(test)]
mod tests {
    use quorate_topology::presets::{Options, one_city_three_idcs};
    use quorate_types::ClusterId;

    use super::*;

    #[test]
    fn the_fingerprint_is_of_the_meaning() {
        // Goal: a comment changes nothing, an address does.
        let text = one_city_three_idcs(&Options::demo(ClusterId(7)));
        let of = |text: &str| fingerprint(&Topology::parse(text).expect("valid"));
        assert_eq!(of(&text), of(&format!("# ours\n{text}")));
        assert_ne!(of(&text), of(&text.replace("127.0.0.1:6440", "127.0.0.1:7440")));
        assert_eq!(of(&text).len(), 8);
    }
}
