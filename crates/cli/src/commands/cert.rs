//! `quorate cert`: makes, renews and shows the certificates of a cluster.
//!
//! All of them lie in one folder under clear names: `ca.crt`, `node-n1.crt`, `client-shop.crt`, each
//! with its `.key`, and `rights.toml`. Whoever runs a node gets `ca.crt`, its own two files and
//! `rights.toml`; `ca.key` stays where certificates are made.

mod rights;
mod show;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{ArgGroup, Args, Subcommand};
use quorate_tls::{Folder, NodeNames, Paths};
use quorate_topology::{Node, Topology};
use quorate_types::{ClientName, Code};

use crate::args;
use crate::cli::Global;
use crate::exit::Failure;
use crate::output::Output;

/// The folder if --tls-dir names none.
pub(crate) const FOLDER: &str = "certs";

/// Makes, renews and shows certificates, in the folder --tls-dir [default: certs]
#[derive(Clone, Debug, Args)]
pub(crate) struct CertArgs {
    #[command(subcommand)]
    command: CertCommand,
}

#[derive(Clone, Debug, Subcommand)]
enum CertCommand {
    /// Make the authority of a cluster, whose key signs everything else
    CreateCa(CreateCaArgs),
    /// Make certificates of nodes
    CreateNode(CreateNodeArgs),
    /// Make the certificate of a client, and give it rights
    CreateClient(CreateClientArgs),
    /// Put new certificates in place of old ones, or another authority beside the old one
    Rotate(RotateArgs),
    /// Show what certificates say
    Show(ShowArgs),
}

#[derive(Clone, Debug, Args)]
struct CreateCaArgs {
    /// The cluster file: the authority is for this cluster only
    #[arg(long, value_name = "FILE")]
    cluster: PathBuf,
    #[command(flatten)]
    valid: ValidLong,
}

#[derive(Clone, Debug, Args)]
struct CreateNodeArgs {
    /// Names of nodes in the cluster file
    #[arg(value_name = "NODE", required_unless_present = "all", conflicts_with = "all")]
    nodes: Vec<String>,
    /// Every node of the cluster file
    #[arg(long)]
    all: bool,
    /// The cluster file
    #[arg(long, value_name = "FILE")]
    cluster: PathBuf,
    /// Another host by which clients of other languages reach the node; may be repeated
    #[arg(long = "host", value_name = "HOST")]
    hosts: Vec<String>,
    #[command(flatten)]
    valid: Valid,
}

#[derive(Clone, Debug, Args)]
struct CreateClientArgs {
    /// Its name, under which its rights stand
    name: ClientName,
    /// Units it may read, separated by commas; * for all
    #[arg(long, value_name = "UNIT,...", value_delimiter = ',')]
    read: Vec<String>,
    /// Units it may write and read
    #[arg(long, value_name = "UNIT,...", value_delimiter = ',')]
    write: Vec<String>,
    /// Units whose leaders and transactions in doubt it may look after
    #[arg(long, value_name = "UNIT,...", value_delimiter = ',')]
    admin: Vec<String>,
    #[command(flatten)]
    valid: Valid,
}

#[derive(Clone, Debug, Args)]
#[command(group = ArgGroup::new("what").required(true).multiple(true))]
struct RotateArgs {
    /// A node whose certificate and key are replaced; may be repeated
    #[arg(long = "node", value_name = "NODE", group = "what")]
    nodes: Vec<String>,
    /// A client whose certificate and key are replaced; may be repeated
    #[arg(long = "client", value_name = "NAME", group = "what")]
    clients: Vec<ClientName>,
    /// Every node and every client of the folder
    #[arg(long, group = "what")]
    all: bool,
    /// Make another authority; the old one is trusted too, until --forget-old-ca
    #[arg(long, group = "what", conflicts_with_all = ["nodes", "clients", "all", "forget_old_ca"])]
    new_ca: bool,
    /// Trust only the newest authority
    #[arg(long, group = "what", conflicts_with_all = ["nodes", "clients", "all"])]
    forget_old_ca: bool,
    /// How many days the new ones are valid [default: 365, an authority 3650]
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=36500))]
    days: Option<u32>,
}

#[derive(Clone, Debug, Args)]
struct ShowArgs {
    /// Files; all certificates of the folder if none is named
    files: Vec<PathBuf>,
}

#[derive(Clone, Debug, Args)]
struct Valid {
    /// How many days it is valid
    #[arg(
        long, default_value_t = 365, value_name = "DAYS",
        value_parser = clap::value_parser!(u32).range(1..=36500)
    )]
    days: u32,
}

#[derive(Clone, Debug, Args)]
struct ValidLong {
    /// How many days it is valid
    #[arg(
        long, default_value_t = 3650, value_name = "DAYS",
        value_parser = clap::value_parser!(u32).range(1..=36500)
    )]
    days: u32,
}

/// Runs `quorate cert`.
pub(crate) fn run(args: CertArgs, global: &Global, out: &Output) -> Result<(), Failure> {
    let dir = global.tls.dir().unwrap_or_else(|| Path::new(FOLDER));
    let folder = Folder::new(dir);
    let made = match args.command {
        CertCommand::CreateCa(args) => create_ca(&args, dir, &folder)?,
        CertCommand::CreateNode(args) => create_nodes(&args, &folder)?,
        CertCommand::CreateClient(args) => create_client(&args, dir, &folder)?,
        CertCommand::Rotate(args) => rotate(&args, dir, &folder)?,
        CertCommand::Show(args) if args.files.is_empty() => show::certificates_of(dir)?,
        CertCommand::Show(args) => args.files,
    };
    show::show(&made, out)
}

fn days(days: u32) -> Duration {
    Duration::from_secs(u64::from(days) * 24 * 3600)
}

fn read_topology(path: &Path) -> Result<Topology, Failure> {
    let text = super::server::read_text(path)?;
    Ok(Topology::parse_named(&path.display().to_string(), &text)?)
}

fn create_ca(args: &CreateCaArgs, dir: &Path, folder: &Folder) -> Result<Vec<PathBuf>, Failure> {
    let topology = read_topology(&args.cluster)?;
    folder.create_authority(topology.cluster_id(), days(args.valid.days)).map_err(exists)?;
    rights::write_first(dir)?;
    Ok(vec![folder.ca()])
}

fn create_nodes(args: &CreateNodeArgs, folder: &Folder) -> Result<Vec<PathBuf>, Failure> {
    let topology = read_topology(&args.cluster)?;
    let nodes: Vec<&Node> = if args.all {
        topology.nodes().collect()
    } else {
        args.nodes.iter().map(|name| find(&topology, name)).collect::<Result<_, _>>()?
    };
    let mut made = Vec::new();
    for node in nodes {
        let hosts = hosts_of(node, &args.hosts);
        let names = NodeNames { id: node.id, name: &node.name, hosts: &hosts };
        let paths = folder.create_node(&names, days(args.valid.days)).map_err(exists)?;
        made.push(paths.certificate);
    }
    Ok(made)
}

fn find<'t>(topology: &'t Topology, name: &str) -> Result<&'t Node, Failure> {
    topology.node_by_name(name).ok_or_else(|| {
        let known = topology.nodes().map(|node| node.name.as_str());
        let message =
            format!("the cluster file has no node {name:?}; {}", args::did_you_mean(name, known));
        Failure::new(Code::ConfigInvalid, message).with_fix("name a node of the cluster file")
    })
}

/// The hosts of a node's addresses and others, each once.
fn hosts_of(node: &Node, others: &[String]) -> Vec<String> {
    let addresses = [&node.client, &node.peer, &node.admin];
    let hosts = addresses.into_iter().map(|address| {
        let host = address.rsplit_once(':').map_or(address.as_str(), |(host, _)| host);
        host.trim_start_matches('[').trim_end_matches(']').to_owned()
    });
    let mut found: Vec<String> = Vec::new();
    for host in hosts.chain(others.iter().cloned()) {
        if !found.contains(&host) {
            found.push(host);
        }
    }
    found
}

fn create_client(
    args: &CreateClientArgs,
    dir: &Path,
    folder: &Folder,
) -> Result<Vec<PathBuf>, Failure> {
    let given = rights::Given { read: &args.read, write: &args.write, admin: &args.admin };
    let text = rights::with(dir, &args.name, &given)?;
    let paths = folder.create_client(&args.name, days(args.valid.days)).map_err(exists)?;
    rights::write(dir, &text)?;
    Ok(vec![paths.certificate])
}

fn rotate(args: &RotateArgs, dir: &Path, folder: &Folder) -> Result<Vec<PathBuf>, Failure> {
    if args.new_ca {
        folder.rotate_authority(days(args.days.unwrap_or(3650)))?;
        return Ok(vec![folder.ca()]);
    }
    if args.forget_old_ca {
        folder.forget_old_authorities()?;
        return Ok(vec![folder.ca()]);
    }
    let nodes = args.nodes.iter().map(|name| Paths::of_node(dir, name));
    let clients = args.clients.iter().map(|name| Paths::of_client(dir, name));
    let mut all: Vec<Paths> = nodes.chain(clients).collect();
    if args.all {
        all = show::members_of(dir)?;
    }
    for paths in &all {
        folder.rotate(paths, days(args.days.unwrap_or(365)))?;
    }
    Ok(all.into_iter().map(|paths| paths.certificate).collect())
}

/// What exists is not written over.
fn exists(error: quorate_types::Error) -> Failure {
    let exists = error.code == Code::ConfigInvalid;
    let failure = Failure::from(error);
    if exists {
        return failure.with_fix(
            "`quorate cert rotate` replaces it by a new one; --tls-dir names another folder",
        );
    }
    failure
}
