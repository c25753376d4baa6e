//! `quorate backup restore`: fills empty data folders from a backup, for a cluster that does not run yet.

use std::path::{Path, PathBuf};

use clap::Args;
use quorate_backup::{GroupPart, GroupReader, Manifest, Place, check_layout};
use quorate_server::fill::{Beginning, Fill};
use quorate_topology::{Node, Topology};
use quorate_types::{ClusterId, Code, Error, GroupId};
use serde_json::json;

use super::{Source, failure, show};
use crate::commands::server::find_node;
use crate::commands::topology;
use crate::exit::Failure;
use crate::output::{Document, Output, thousands};

/// Records that are written to the engine at once.
const RECORDS_AT_ONCE: usize = 4096;

const RESTORE_HELP: &str = "\
Restore every node before the first one is started: a majority of empty nodes would begin an empty cluster,
and the restored ones would be the ones that are wrong. A node that is restored by nobody gets its rows from
the others once a majority of restored ones runs.";

/// Fills the data folder of a node.
#[derive(Clone, Debug, Args)]
#[command(after_help = RESTORE_HELP)]
pub(super) struct RestoreArgs {
    #[command(flatten)]
    source: Source,
    /// The cluster file of the new cluster, with a cluster id of its own
    #[arg(long, value_name = "FILE")]
    cluster: PathBuf,
    /// The name of the node in the cluster file
    #[arg(long, value_name = "NAME", required_unless_present = "all_nodes")]
    node: Option<String>,
    /// All nodes, for a cluster on this machine: each gets the folder of its name below --data
    #[arg(long, conflicts_with = "node")]
    all_nodes: bool,
    /// The data folder, new or empty
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
}

/// Writes the cluster file of a backup.
#[derive(Clone, Debug, Args)]
pub(super) struct ClusterFileArgs {
    #[command(flatten)]
    source: Source,
    /// The file to write
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
}

/// Runs `quorate backup restore`.
pub(super) async fn run(args: &RestoreArgs, out: &Output) -> Result<(), Failure> {
    let place = Place::open(&args.source.from).map_err(failure)?;
    let manifest = quorate_backup::open(&place, &args.source.id).await.map_err(failure)?;
    let topology = topology::read(&args.cluster)?;
    check_layout(&manifest, &topology).map_err(failure)?;
    let nodes: Vec<(Node, PathBuf)> = match &args.node {
        Some(name) => {
            vec![(find_node(&topology, &args.cluster, name)?.clone(), args.data.clone())]
        }
        None => topology.nodes().map(|node| (node.clone(), args.data.join(&node.name))).collect(),
    };
    let restoring = Restoring { place: &place, args, manifest: &manifest, out };
    let mut document = Document::new("restore").of_cluster(topology.cluster_id());
    for (node, data) in &nodes {
        let records = Box::pin(restoring.node(&topology, node, data)).await?;
        let (name, data) = (&node.name, data.display().to_string());
        if !out.is_json() {
            out.say(format_args!("{name}: {} records are in {data}", thousands(records)));
        }
        document = document.item(json!({
            "node": name,
            "data": data,
            "backup": manifest.id,
            "records": records.to_string(),
        }));
    }
    out.note("start the nodes when all of them are restored");
    out.document(&document);
    Ok(())
}

struct Restoring<'a> {
    place: &'a Place,
    args: &'a RestoreArgs,
    manifest: &'a Manifest,
    out: &'a Output,
}

impl Restoring<'_> {
    /// Fills the folder of one node. Says how many records are in it.
    async fn node(&self, topology: &Topology, node: &Node, data: &Path) -> Result<u64, Failure> {
        let random = rand::random();
        let begun = blocking(|| Fill::begin(data, topology.clone(), node.id, random));
        let mut fill = begun?;
        let groups: Vec<GroupId> = fill.groups().collect();
        let (mut records, mut lines) = (0, show::Lines::new(self.out));
        for part in &self.manifest.groups {
            if groups.contains(&part.id()) {
                let told = |so_far: u64| {
                    let all = records + so_far;
                    lines.tell(|| format!("{}: {} records", node.name, thousands(all)));
                };
                if fill.kind(part.id()).keeps_rows() {
                    self.group(&mut fill, part, told).await?;
                    records += part.records;
                } else {
                    fill.installed_without_rows(part.id(), beginning_of(part));
                }
            }
        }
        blocking(|| fill.finish())?;
        Ok(records)
    }

    async fn group(
        &self,
        fill: &mut Fill,
        part: &GroupPart,
        mut told: impl FnMut(u64),
    ) -> Result<(), Failure> {
        let group = part.id();
        let mut installer = blocking(|| fill.install(group))?;
        let mut reader = GroupReader::new(self.place, &self.args.source.id, part);
        while let Some(mut records) = reader.next().await.map_err(failure)? {
            while !records.is_empty() {
                let rest = records.split_off(records.len().min(RECORDS_AT_ONCE));
                let some = std::mem::replace(&mut records, rest);
                blocking(|| {
                    let written = installer.write(some);
                    written.map_err(|error| Error::new(error.code(), error.to_string()))
                })?;
                told(installer.tally().records);
            }
        }
        blocking(|| fill.installed(group, installer, beginning_of(part)))
    }
}

/// What the log of a group begins from.
fn beginning_of(part: &GroupPart) -> Beginning {
    let (upto, log_time, digest) = (part.upto(), part.log_time(), part.sha256.clone());
    Beginning { upto, log_time, digest }
}

/// Work that waits for the disk.
fn blocking<T>(work: impl FnOnce() -> Result<T, Error>) -> Result<T, Failure> {
    tokio::task::block_in_place(work).map_err(Failure::from)
}

/// Runs `quorate backup cluster-file`.
pub(super) async fn write_cluster_file(
    args: &ClusterFileArgs,
    out: &Output,
) -> Result<(), Failure> {
    let place = Place::open(&args.source.from).map_err(failure)?;
    let manifest = quorate_backup::open(&place, &args.source.id).await.map_err(failure)?;
    let id = ClusterId(rand::random());
    let text = with_id(&manifest.cluster.file, id)?;
    let path = &args.output;
    if path.exists() {
        return Err(Failure::usage(
            format!("{} exists already", path.display()),
            "name another file",
        ));
    }
    std::fs::write(path, text).map_err(|error| Failure::file("write", path, &error))?;
    let file = path.display().to_string();
    if !out.is_json() {
        out.say(format_args!("wrote {file} with cluster id {id}"));
        out.note("change nodes, addresses and places in it; tables, slices and groups must stay");
    }
    out.document(&Document::new("cluster-file").of_cluster(id).item(json!({
        "file": file,
        "backup": manifest.id,
    })));
    Ok(())
}

/// A cluster file with another cluster id; everything else stays as people wrote it.
fn with_id(text: &str, id: ClusterId) -> Result<String, Failure> {
    let mut is_cluster = false;
    let lines = text.lines().map(|line| {
        let trimmed = line.trim();
        if trimmed.starts_with('[') {
            is_cluster = trimmed.starts_with("[cluster]");
        }
        let key = trimmed.split_once('=').map(|(key, _)| key.trim());
        match key {
            Some("id") if is_cluster => format!("id = \"{id}\"\n"),
            _ => format!("{line}\n"),
        }
    });
    let changed: String = lines.collect();
    let parsed = Topology::parse_named("the cluster file of the backup", &changed)?;
    if parsed.cluster_id() != id {
        let message = "the cluster file of the backup has its id where it is not looked for";
        return Err(Failure::new(Code::Internal, message).with_fix(
            "copy the cluster file by hand and draw a new id with `openssl rand -hex 16`",
        ));
    }
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use quorate_topology::presets::{Options, one_city_three_idcs};

    use super::*;

    #[test]
    fn only_the_id_of_a_cluster_file_changes() {
        // Goal: what people wrote into their file, comments too, is in the file of the restored cluster.
        let old = format!("# ours\n{}", one_city_three_idcs(&Options::demo(ClusterId(7))));
        let new = with_id(&old, ClusterId(8)).unwrap();
        assert_eq!(Topology::parse(&new).unwrap().cluster_id(), ClusterId(8));
        assert_eq!(new.replace(&ClusterId(8).to_string(), &ClusterId(7).to_string()), old);
    }
}
