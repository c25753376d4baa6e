//! A data folder that begins with the rows of a backup: what `quorate backup restore` leaves behind for the
//! start of a node. Called by the command line, never by a node.
//!
//! ```text
//!  RESTORING          marks the folder until everything is in it; no node starts before
//!  rows/              each group's records, installed and switched to as of slot s
//!  promises.a, .b     a fresh record of this node; of each group the promise of the ballot below
//!  log/               of each group one batch: slot s, ballot 1 of the member with the lowest number
//! ```
//!
//! Every replica of a group begins with the same batch, byte for byte: so all their logs are one log. It
//! holds the empty entry that a leader begins its work with, at the slot after the last one that any record is of.
//! Its chain hash begins from the new cluster's id and the digest of the records: logs that were begun from
//! different backups differ at once.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use quorate_log::{Disk, Frame, GroupRecord, Log, LogMark, Opened, PromiseFile, RealDisk};
use quorate_paxos::{Batch, BatchKind, Tail};
use quorate_store::{Base, Engine, Installer, Rocks, RocksOptions, Store, StoreError};
use quorate_topology::{Group, Topology};
use quorate_types::{Ballot, Code, EntryId, Error, GroupId, LogTime, NodeId, Slot};
use tracing::info;

use crate::folder::FILLING;
use crate::node::{fresh_record, log_error};
use crate::options::Profile;

/// Names that may be in an empty folder: the lock, and what a file system puts at its root.
const NOTHING: [&str; 2] = ["LOCK", "lost+found"];
/// The round of the ballot that every log begins with.
const FIRST_ROUND: u64 = 1;

/// What the log of a group begins from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beginning {
    /// No record of the group is of a later slot.
    pub upto: Slot,
    /// Log time at that slot.
    pub log_time: LogTime,
    /// The digest of its records.
    pub digest: String,
}

/// A data folder that is being filled. Dropped before [`Fill::finish`] it stays unusable.
pub struct Fill {
    topology: Topology,
    node: NodeId,
    disk: Arc<dyn Disk>,
    store: Arc<Store>,
    random: [u64; 2],
    /// What is installed, in the order of its coming.
    begun: Vec<(GroupId, Beginning)>,
}

impl Fill {
    /// Takes an empty folder for a node; makes it if it is not there. Nobody else may use it meanwhile.
    /// `random` becomes the incarnation of the folder and the number of its log.
    ///
    /// # Errors
    /// `DATA_FOLDER_NOT_EMPTY`, `DATA_FOLDER_LOCKED`, `DISK_FAILED`, `CONFIG_INVALID` for a node that the
    /// cluster file does not have.
    pub fn begin(
        data: &Path,
        topology: Topology,
        node: NodeId,
        random: [u64; 2],
    ) -> Result<Fill, Error> {
        if topology.node(node).is_none() {
            let message = format!("the cluster file has no node {node}");
            return Err(Error::new(Code::ConfigInvalid, message));
        }
        check_empty(data)?;
        let disk = RealDisk::open(data).map_err(|error| log_error(&error))?;
        let marked = disk.create(FILLING).and_then(|file| file.sync_data());
        marked.and_then(|()| disk.sync_dir("")).map_err(|error| failed("mark", data, &error))?;
        let engine = Rocks::open(&data.join("rows"), &RocksOptions::normal());
        let engine: Arc<dyn Engine> = Arc::new(engine.map_err(|error| stored(&error))?);
        let groups = topology.groups_of_node(node).map(|group| group.id);
        let store = Store::open(engine, groups).map_err(|error| stored(&error))?;
        let (disk, store): (Arc<dyn Disk>, _) = (Arc::new(disk), Arc::new(store));
        Ok(Fill { topology, node, disk, store, random, begun: Vec::new() })
    }

    /// The groups of the node, which must all be installed.
    pub fn groups(&self) -> impl Iterator<Item = GroupId> + '_ {
        self.topology.groups_of_node(self.node).map(|group| group.id)
    }

    /// Begins with the records of a group.
    ///
    /// # Errors
    /// `DISK_FAILED`, `STORE_DAMAGED`.
    pub fn install(&self, group: GroupId) -> Result<Installer, Error> {
        self.store.begin_install(group, 0).map_err(|error| stored(&error))
    }

    /// All records of a group are written: they become its rows, durably.
    ///
    /// # Errors
    /// `DISK_FAILED`, `STORE_DAMAGED`.
    pub fn installed(
        &mut self,
        group: GroupId,
        installer: &Installer,
        beginning: Beginning,
    ) -> Result<(), Error> {
        let base = Base { incarnation: installer.incarnation() };
        let at = beginning.upto.next();
        self.store.switch(group, at, base).map_err(|error| stored(&error))?;
        self.begun.push((group, beginning));
        Ok(())
    }

    /// Writes promises and log, and takes the mark away: a node can start now.
    ///
    /// # Errors
    /// `DISK_FAILED`; `INTERNAL` if a group is not installed.
    pub fn finish(self) -> Result<(), Error> {
        let Fill { topology, node, disk, store, random, begun } = self;
        drop(store); // Flushed with the last switch.
        let mut record = fresh_record(&topology, node, random[0]);
        let mut frames = Vec::new();
        for group in topology.groups_of_node(node) {
            let beginning = begun.iter().find(|(id, _)| *id == group.id).ok_or_else(|| {
                Error::new(Code::Internal, format!("{} was not installed", group.id))
            })?;
            let batch = first_batch(&topology, group, &beginning.1);
            let replica = quorate_types::ReplicaId(u64::from(node.0));
            let promised = batch.ballot();
            record.groups.insert(group.id, GroupRecord { replica, promised });
            frames.push(Frame {
                group: group.id,
                first: batch.first(),
                last: batch.last(),
                body: batch.encoded().clone(),
            });
        }
        let (mut promises, opened) =
            PromiseFile::open(Arc::clone(&disk)).map_err(|error| log_error(&error))?;
        if opened != Opened::Fresh {
            return Err(Error::new(Code::DataFolderNotEmpty, "the folder holds promises"));
        }
        // Before there is a log beside them.
        promises.store(&record).map_err(|error| log_error(&error))?;
        let options = Profile::Small.log();
        let (mut writer, _, _) =
            Log::open_from(Arc::clone(&disk), options, random[1], LogMark::default())
                .map_err(|error| log_error(&error))?;
        writer.set_floors(quorate_replica::log_thread::floors(&record));
        let written = writer.append(&frames).and_then(|_end| writer.sync());
        // The seal says that the batches were durable: a start believes it.
        written.and_then(|_end| writer.seal()).map_err(|error| log_error(&error))?;
        writer.sync().map_err(|error| log_error(&error))?;
        record.log = writer.mark();
        promises.store(&record).map_err(|error| log_error(&error))?;
        drop(writer);
        let unmarked = disk.remove(FILLING).and_then(|()| disk.sync_dir(""));
        unmarked.map_err(|error| failed("unmark", Path::new("the data folder"), &error))?;
        info!(%node, groups = record.groups.len(), "the data folder is filled");
        Ok(())
    }
}

/// The batch that every log of a group begins with: the same on all nodes.
fn first_batch(topology: &Topology, group: &Group, beginning: &Beginning) -> Batch {
    let replica = group.members.iter().map(|member| member.replica).min();
    let replica = replica.expect("a group has members");
    let ballot = Ballot { round: FIRST_ROUND, replica };
    let cluster = topology.cluster_id().to_string();
    let chain =
        crc32c::crc32c_append(crc32c::crc32c(cluster.as_bytes()), beginning.digest.as_bytes());
    let tail = Tail {
        id: EntryId { ballot, slot: beginning.upto },
        chain,
        log_bytes: 0,
        log_time: beginning.log_time,
    };
    Batch::new(BatchKind::StartWork, ballot, tail, beginning.log_time, &[Bytes::new()])
}

fn check_empty(data: &Path) -> Result<(), Error> {
    let entries = match std::fs::read_dir(data) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(|error| failed("read", data, &error))?,
    };
    for entry in entries {
        let name = entry.map_err(|error| failed("read", data, &error))?.file_name();
        if !NOTHING.iter().any(|nothing| name == **nothing) {
            let message = format!("{} holds {}", data.display(), name.display());
            return Err(Error::new(Code::DataFolderNotEmpty, message));
        }
    }
    Ok(())
}

fn failed(verb: &str, path: &Path, error: &std::io::Error) -> Error {
    Error::new(Code::DiskFailed, format!("cannot {verb} {}: {error}", path.display()))
}

fn stored(error: &StoreError) -> Error {
    Error::new(error.code(), error.to_string())
}
