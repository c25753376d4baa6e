//! `quorate cluster init`: is this machine ready for its node? Looks at the cluster file, the addresses and
//! the disk, and makes the data folder. What would keep the node from starting is an error; what it would
//! merely suffer from is a warning.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use quorate_tls::Paths;
use quorate_topology::{Node, Topology};
use quorate_types::Code;
use serde_json::json;

use super::fingerprint;
use crate::bench::device::sync_latency;
use crate::cli::Global;
use crate::commands::cert::FOLDER;
use crate::commands::server::find_node;
use crate::commands::topology;
use crate::exit::Failure;
use crate::node;
use crate::output::{Document, Output, thousands};

/// Below this part of the disk a node is warned of, here as in `quorate status`.
const FREE_PERCENT_MIN: u64 = 15;
/// A node takes such a disk for slow and hands its leaderships over.
const SYNC_MAX: Duration = Duration::from_millis(100);
/// `f_type` of a file system that is memory.
const TMPFS: i64 = 0x0102_1994;
const MIB: u64 = 1024 * 1024;

/// Checks a machine and makes the data folder before a node is started there for the first time.
#[derive(Clone, Debug, Args)]
pub(crate) struct InitArgs {
    /// The cluster file, the same for every node
    #[arg(long, value_name = "FILE")]
    cluster: PathBuf,
    /// The name of the node of this machine in the cluster file
    #[arg(long, value_name = "NAME")]
    node: String,
    /// The data folder of the node; made if it does not exist
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// The fingerprint that the first machine printed: fails if the file here means something else
    #[arg(long, value_name = "DIGITS")]
    expect: Option<String>,
}

/// What was found on this machine.
struct Found {
    holds_data: bool,
    free_bytes: u64,
    total_bytes: u64,
    sync: Duration,
    is_memory: bool,
}

/// Runs `quorate cluster init`.
pub(crate) fn run(args: &InitArgs, global: &Global, out: &Output) -> Result<(), Failure> {
    let topology = topology::read(&args.cluster)?;
    let node = find_node(&topology, &args.cluster, &args.node)?;
    let digits = fingerprint(&topology);
    if let Some(expected) = &args.expect
        && !expected.eq_ignore_ascii_case(&digits)
    {
        let message =
            format!("{} has fingerprint {digits}, expected is {expected}", args.cluster.display());
        return Err(Failure::new(Code::ConfigInvalid, message)
            .with_fix("copy the cluster file of the first machine here once more"));
    }
    check_addresses(node)?;
    let found = look(args, &topology, node)?;
    let certs = global.tls.dir().unwrap_or_else(|| Path::new(FOLDER));
    let mut warnings = warnings(&topology, &found);
    warnings.extend(lacks_certificate(args, certs));
    if !out.is_json() {
        for line in words(args, certs, &topology, node, &found) {
            out.say(line);
        }
    }
    for warning in &warnings {
        out.warn(warning);
    }
    out.document(&Document::new("cluster-init").of_cluster(topology.cluster_id()).item(json!({
        "file": args.cluster.display().to_string(),
        "fingerprint": digits,
        "topology_version": topology.version().to_string(),
        "node": node.name,
        "node_id": node.id.0,
        "data": args.data.display().to_string(),
        "holds_data": found.holds_data,
        "disk_free_bytes": found.free_bytes.to_string(),
        "disk_total_bytes": found.total_bytes.to_string(),
        "sync_microseconds": found.sync.as_micros().to_string(),
        "warnings": warnings,
        "start": start_command(args, certs),
    })));
    Ok(())
}

/// Each address must be one of this machine, and free.
fn check_addresses(node: &Node) -> Result<(), Failure> {
    for (key, address) in [("client", &node.client), ("peer", &node.peer), ("admin", &node.admin)] {
        let named = format!("{key} of node {}, {address},", node.name);
        let sockets: Vec<SocketAddr> = match address.to_socket_addrs() {
            Ok(found) => found.collect(),
            Err(error) => {
                let message = format!("{named} does not resolve: {error}");
                return Err(Failure::new(Code::ConfigInvalid, message)
                    .with_fix("correct the address, or teach this machine the name"));
            }
        };
        // The node listens on the first one.
        let Some(socket) = sockets.first() else { continue };
        match TcpListener::bind(socket) {
            Ok(_listener) => {}
            Err(error) if error.kind() == ErrorKind::AddrInUse => {
                return Err(Failure::new(
                    Code::PortInUse,
                    format!("{named} is in use by another process"),
                ));
            }
            Err(error) => {
                let message = format!("{named} cannot be listened on here: {error}");
                return Err(Failure::new(Code::ConfigInvalid, message).with_fix(
                    "run this on the machine of the node, and check the address in the cluster file",
                ));
            }
        }
    }
    Ok(())
}

/// Makes the folder if need be, and looks at its disk.
fn look(args: &InitArgs, topology: &Topology, node: &Node) -> Result<Found, Failure> {
    let data = &args.data;
    check_foreign(data)?;
    let holds_data = node::holds_data(data, topology, node.id)?;
    let system = |error: rustix::io::Errno| Failure::file("look at", data, &error.into());
    let disk = rustix::fs::statvfs(data).map_err(system)?;
    let kind = rustix::fs::statfs(data).map_err(system)?.f_type;
    let sync = sync_latency(data).map_err(|error| Failure::file("write to", data, &error))?;
    Ok(Found {
        holds_data,
        free_bytes: disk.f_bavail * disk.f_frsize,
        total_bytes: disk.f_blocks * disk.f_frsize,
        sync,
        is_memory: kind == TMPFS,
    })
}

/// A folder with files in it that are not a node's is somebody's mistake.
fn check_foreign(data: &Path) -> Result<(), Failure> {
    let entries = match std::fs::read_dir(data) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Failure::file("read", data, &error)),
    };
    let names: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    let is_of_node = |name: &String| name == "LOCK" || name.starts_with("promises.");
    // A disk of its own comes with a folder for what its check finds.
    let is_harmless = |name: &String| name == "lost+found";
    match names.iter().find(|name| !is_harmless(name)) {
        Some(first) if !names.iter().any(is_of_node) => Err(Failure::usage(
            format!("{} holds {first}, and no data of a node", data.display()),
            "name a folder that is empty or does not exist yet",
        )),
        _ => Ok(()),
    }
}

fn warnings(topology: &Topology, found: &Found) -> Vec<String> {
    let mut warnings: Vec<String> = topology.warnings().iter().map(ToString::to_string).collect();
    if found.is_memory {
        warnings
            .push("the data folder lies in memory: nothing of it survives a restart".to_owned());
    }
    if found.free_bytes * 100 < found.total_bytes * FREE_PERCENT_MIN {
        warnings.push(format!(
            "only {} MiB of {} MiB are free; below 10 % the node takes no writes",
            thousands(found.free_bytes / MIB),
            thousands(found.total_bytes / MIB)
        ));
    }
    if SYNC_MAX < found.sync {
        warnings.push(format!(
            "a sync takes {} ms; a node hands its leaderships over if they take more than {}",
            found.sync.as_millis(),
            SYNC_MAX.as_millis()
        ));
    }
    warnings
}

fn words(
    args: &InitArgs,
    certs: &Path,
    topology: &Topology,
    node: &Node,
    found: &Found,
) -> Vec<String> {
    let state = match found.holds_data {
        true => "holds data of this node, which goes on with it",
        false => "empty and ready",
    };
    vec![
        format!(
            "cluster {} ({}), version {}, fingerprint {}: must be the same on every machine",
            topology.name(),
            topology.cluster_id(),
            topology.version(),
            fingerprint(topology)
        ),
        format!(
            "node {}: client {}, peer {}, admin {}: addresses of this machine, and free",
            node.name, node.client, node.peer, node.admin
        ),
        format!(
            "data folder {}: {state}; {} MiB free; a sync takes {:.1} ms",
            args.data.display(),
            thousands(found.free_bytes / MIB),
            found.sync.as_secs_f64() * 1000.0
        ),
        format!("start it: {}", start_command(args, certs)),
    ]
}

fn start_command(args: &InitArgs, certs: &Path) -> String {
    format!(
        "quorate server --cluster {} --node {} --data {} --tls-dir {}",
        args.cluster.display(),
        args.node,
        args.data.display(),
        certs.display()
    )
}

/// The node would not start; but it may be meant to start with --insecure.
fn lacks_certificate(args: &InitArgs, certs: &Path) -> Option<String> {
    let path = Paths::of_node(certs, &args.node).certificate;
    (!path.exists()).then(|| {
        format!(
            "there is no {}: `quorate cert create-node {}` makes it, where ca.key is; or start with \
             --insecure in a network that you trust",
            path.display(),
            args.node
        )
    })
}

#[cfg(test)]
mod tests {
    use quorate_topology::presets::{Hosts, Options, one_city_three_idcs};
    use quorate_types::ClusterId;

    use super::*;
    use crate::exit::Exit;

    fn topology(prefix: &str) -> Topology {
        let hosts = Hosts::Numbered { prefix: prefix.to_owned() };
        let text = one_city_three_idcs(&Options { hosts, ..Options::demo(ClusterId(7)) });
        Topology::parse(&text).expect("valid")
    }

    #[test]
    fn an_address_of_another_machine_is_refused() {
        // Goal: a command typed on the wrong machine is noticed before a folder is made.
        // 192.0.2.0/24 is for documentation: no machine has it.
        let topology = topology("192.0.2.");
        let node = topology.node_by_name("n1").expect("a node");
        let failure = check_addresses(node).expect_err("not of this machine");
        assert!(failure.to_string().contains("CONFIG_INVALID"), "{failure}");
        assert!(failure.to_string().contains("client of node n1, 192.0.2.1:6440,"), "{failure}");
    }

    #[test]
    fn a_folder_with_other_things_in_it_is_refused() {
        // Goal: nobody's files get mixed with a node's.
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(check_foreign(&folder.path().join("new")), Ok(()));
        assert_eq!(check_foreign(folder.path()), Ok(()));
        std::fs::create_dir(folder.path().join("lost+found")).expect("a folder");
        assert_eq!(check_foreign(folder.path()), Ok(()));
        std::fs::write(folder.path().join("notes.txt"), "mine").expect("a file");
        let failure = check_foreign(folder.path()).expect_err("not empty");
        assert_eq!(failure.exit(), Exit::Usage);
        std::fs::write(folder.path().join("promises.a"), "").expect("a file");
        assert_eq!(check_foreign(folder.path()), Ok(()));
    }

    #[test]
    fn what_a_node_would_suffer_from_is_warned_of() {
        // Goal: memory, a full disk and a slow one are said, a good one is not.
        let topology = topology("192.0.2.");
        let good = Found {
            holds_data: false,
            free_bytes: 90,
            total_bytes: 100,
            sync: Duration::from_millis(1),
            is_memory: false,
        };
        assert_eq!(warnings(&topology, &good), Vec::<String>::new());
        let bad =
            Found { free_bytes: 14, sync: Duration::from_millis(101), is_memory: true, ..good };
        assert_eq!(warnings(&topology, &bad).len(), 3);
    }
}
