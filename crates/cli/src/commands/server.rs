//! `quorate server`: runs one node until it is told to stop.
//!
//! Flags may come from the environment as `QUORATE__SECTION__KEY`; an unknown variable of that form
//! is a mistake, so that a typing error does not go unnoticed.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use clap::Args;
use quorate_topology::Topology;
use quorate_types::Code;

use crate::args;
use crate::cli::Global;
use crate::exit::Failure;
use crate::logging::{self, LogFormat};
use crate::node::{self, NodeOptions, Profile, Security};
use crate::signals::Interrupts;

/// The variables that the flags below read.
const VARIABLES: [&str; 8] = [
    "QUORATE__SERVER__CLUSTER",
    "QUORATE__SERVER__NODE",
    "QUORATE__SERVER__DATA",
    "QUORATE__SERVER__PROFILE",
    "QUORATE__SERVER__THREADS",
    "QUORATE__SERVER__INSECURE",
    "QUORATE__LOG__FORMAT",
    "QUORATE__LOG__FILTER",
];

/// Runs one node of a cluster. SIGTERM or SIGINT stops it in good order, a second one at once.
#[derive(Clone, Debug, Args)]
pub(crate) struct ServerArgs {
    /// The cluster file, the same for every node
    #[arg(long, value_name = "FILE", env = "QUORATE__SERVER__CLUSTER")]
    cluster: PathBuf,
    /// The name of this node in the cluster file
    #[arg(long, value_name = "NAME", env = "QUORATE__SERVER__NODE")]
    node: String,
    /// The data folder of this node; made if it does not exist
    #[arg(long, value_name = "DIR", env = "QUORATE__SERVER__DATA")]
    data: PathBuf,
    /// How much memory and disk the node may use
    #[arg(long, value_enum, default_value = "normal", env = "QUORATE__SERVER__PROFILE")]
    profile: Profile,
    /// Threads for requests and peers, beside the one that writes the log; one per core unless told
    #[arg(long, value_name = "N", env = "QUORATE__SERVER__THREADS")]
    threads: Option<NonZeroUsize>,
    /// Neither encrypt nor authenticate: everybody who reaches the ports may do everything
    #[arg(long, env = "QUORATE__SERVER__INSECURE")]
    insecure: bool,
    /// How log lines on stderr look; json unless stdout is a terminal
    #[arg(long, value_enum, env = "QUORATE__LOG__FORMAT")]
    log_format: Option<LogFormat>,
    /// What is logged: a level, or levels by module
    #[arg(long, value_name = "LEVELS", default_value = "info", env = "QUORATE__LOG__FILTER")]
    log_filter: String,
}

impl ServerArgs {
    /// How many threads the node asks for.
    pub(crate) fn threads(&self) -> Option<NonZeroUsize> {
        self.threads
    }
}

/// Runs `quorate server`.
pub(crate) async fn run(args: ServerArgs, global: &Global) -> Result<(), Failure> {
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    check_variables(names)?;
    let text = read_cluster_file(&args.cluster)?;
    let topology = Topology::parse_named(&args.cluster.display().to_string(), &text)?;
    check_node(&topology, &args.cluster, &args.node)?;
    let security = security(args.insecure, global.tls.dir())?;

    logging::start(args.log_format.unwrap_or_else(LogFormat::default_here), &args.log_filter)?;
    for warning in topology.warnings() {
        tracing::warn!(file = %args.cluster.display(), line = warning.line, "{warning}");
    }
    let interrupts = Interrupts::listen()?;
    let options = NodeOptions {
        cluster_file: args.cluster,
        node: args.node,
        data: args.data,
        profile: args.profile,
        security,
    };
    let shutdown = async move { interrupts.first().await };
    Box::pin(node::serve(options, shutdown)).await
}

/// The text of a cluster file.
///
/// # Errors
/// If it cannot be read.
pub(crate) fn read_cluster_file(path: &Path) -> Result<String, Failure> {
    let bytes = std::fs::read(path).map_err(|error| Failure::file("read", path, &error))?;
    String::from_utf8(bytes).map_err(|_| {
        Failure::new(Code::ConfigInvalid, format!("{} is no UTF-8 text", path.display()))
            .with_fix("name the cluster file, a TOML text; docs/TOPOLOGY.md describes it")
    })
}

/// How the node tells its callers apart. Nobody gets an open door by leaving something out.
fn security(insecure: bool, dir: Option<&Path>) -> Result<Security, Failure> {
    match (insecure, dir) {
        (false, Some(dir)) => Ok(Security::Tls { dir: dir.to_owned() }),
        (true, None) => Ok(Security::Insecure),
        (false, None) => Err(Failure::new(
            Code::ConfigInvalid,
            "neither --tls-dir nor --insecure is given: who may talk to this node?",
        )
        .with_fix(
            "make certificates with `quorate cert create-ca` and `create-node` and start with \
             --tls-dir DIR, or on a machine or in a network that you trust with --insecure",
        )),
        (true, Some(_)) => Err(Failure::new(
            Code::ConfigInvalid,
            "both --tls-dir (or QUORATE_TLS_DIR) and --insecure are given",
        )
        .with_fix("give one of them")),
    }
}

fn check_node(topology: &Topology, file: &Path, name: &str) -> Result<(), Failure> {
    if topology.node_by_name(name).is_some() {
        return Ok(());
    }
    let known = topology.nodes().map(|node| node.name.as_str());
    let hint = args::did_you_mean(name, known.clone());
    let all: Vec<&str> = known.take(20).collect();
    let message = format!("{} has no node {name:?}; {hint}", file.display());
    Err(Failure::new(Code::ConfigInvalid, message)
        .with_fix(format!("start with --node and one of {}", all.join(", "))))
}

fn check_variables(names: impl IntoIterator<Item = String>) -> Result<(), Failure> {
    let mut unknown: Vec<String> = names
        .into_iter()
        .filter(|name| name.starts_with("QUORATE__") && !VARIABLES.contains(&name.as_str()))
        .collect();
    unknown.sort();
    let Some(name) = unknown.first() else { return Ok(()) };
    let hint = args::did_you_mean(name, VARIABLES);
    let message = format!("no setting belongs to the variable {name}; {hint}");
    Err(Failure::new(Code::ConfigInvalid, message).with_fix("correct or unset the variable"))
}

#[cfg(test)]
mod tests {
    use quorate_topology::presets::{Options, one_city_three_idcs};
    use quorate_types::ClusterId;

    use super::*;

    #[test]
    fn a_node_that_is_not_in_the_file_is_named_with_its_nearest() {
        let text = one_city_three_idcs(&Options::demo(ClusterId(7)));
        let topology = Topology::parse(&text).unwrap();
        let file = Path::new("cluster.toml");
        assert_eq!(check_node(&topology, file, "n2"), Ok(()));
        assert_eq!(
            check_node(&topology, file, "sh-a").unwrap_err().to_string(),
            "error[CONFIG_INVALID]: cluster.toml has no node \"sh-a\"; known are: n1, n2, n3\n\
             fix: start with --node and one of n1, n2, n3"
        );
    }

    #[test]
    fn a_door_is_open_only_on_purpose() {
        // Goal: no node serves without certificates unless it was told to.
        let dir = Path::new("certs");
        assert_eq!(security(true, None), Ok(Security::Insecure));
        assert_eq!(security(false, Some(dir)), Ok(Security::Tls { dir: dir.to_owned() }));
        let failure = security(false, None).unwrap_err().to_string();
        assert!(failure.starts_with("error[CONFIG_INVALID]: neither --tls-dir nor"), "{failure}");
        assert!(failure.contains("quorate cert create-ca"), "{failure}");
        assert!(security(true, Some(dir)).is_err());
    }

    #[test]
    fn an_unknown_variable_is_a_mistake() {
        let check = |names: &[&str]| check_variables(names.iter().map(|name| (*name).to_owned()));
        assert_eq!(check(&["PATH", "QUORATE_ENDPOINTS", "QUORATE__SERVER__DATA"]), Ok(()));
        let failure = check(&["QUORATE__SERVER__DTAA"]).unwrap_err();
        assert!(failure.to_string().contains("did you mean \"QUORATE__SERVER__DATA\"?"));
    }
}
