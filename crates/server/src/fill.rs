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
use quorate_log::{
    Disk, Frame, GroupRecord, Log, LogMark, LogTrust, Opened, PromiseFile, RealDisk,
};
use quorate_paxos::{Batch, BatchKind, Tail};
use quorate_store::{Engine, Installer, Rocks, RocksOptions, Store, StoreError};
use quorate_topology::{Group, Topology};
use quorate_types::{Ballot, Code, EntryId, Error, GroupId, LogTime, NodeId, ReplicaKind, Slot};
use tracing::info;

use crate::directory::kind_on;
use crate::folder::FILLING;
use crate::node::{born_with, fresh_record, log_error};
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
        self.store.begin_install(group, 0, 0).map_err(|error| stored(&error))
    }

    /// What the node holds of a group.
    #[must_use]
    pub fn kind(&self, group: GroupId) -> ReplicaKind {
        self.topology.group(group).map_or_else(ReplicaKind::default, |it| kind_on(it, self.node))
    }

    /// The group of a replica that keeps no rows begins from here too.
    pub fn installed_without_rows(&mut self, group: GroupId, beginning: Beginning) {
        self.begun.push((group, beginning));
    }

    /// All records of a group are written: they become its rows, durably.
    ///
    /// # Errors
    /// `DISK_FAILED`, `STORE_DAMAGED`.
    pub fn installed(
        &mut self,
        group: GroupId,
        installer: Installer,
        beginning: Beginning,
    ) -> Result<(), Error> {
        let base = installer.end().map_err(|error| stored(&error))?;
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
            let replica = quorate_types::ReplicaId::first_on(node);
            let promised = batch.ballot();
            let (kind, membership) = (kind_on(group, node), born_with(group));
            let began = GroupRecord {
                replica,
                kind,
                promised,
                pinned: false,
                log: LogTrust::default(),
                membership,
            };
            record.groups.insert(group.id, began);
            if !kind.keeps_log() {
                continue;
            }
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

#[cfg(test)]
mod tests {
    use quorate_topology::presets::{Options, one_city_three_idcs};
    use quorate_types::ClusterId;

    use super::*;

    fn topology(cluster: u128) -> Topology {
        let text = one_city_three_idcs(&Options::demo(ClusterId(cluster)));
        Topology::parse(&text).expect("the preset is valid")
    }

    fn beginning(digest: &str) -> Beginning {
        Beginning { upto: Slot(40), log_time: LogTime(7), digest: digest.to_owned() }
    }

    /// Fills a folder with groups that have no records.
    fn fill(data: &Path, topology: &Topology, node: NodeId, digest: &str) {
        let random = [u64::from(node.0), 9 + u64::from(node.0)];
        let mut fill = Fill::begin(data, topology.clone(), node, random).expect("it is empty");
        for group in fill.groups().collect::<Vec<_>>() {
            let installer = fill.install(group).expect("there is room");
            fill.installed(group, installer, beginning(digest)).expect("there is room");
        }
        fill.finish().expect("all groups are installed");
    }

    /// The log of a group as a start finds it.
    fn log_of(data: &Path, group: GroupId) -> Vec<Bytes> {
        let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(data).expect("nobody uses it"));
        let (_, opened) = PromiseFile::open(Arc::clone(&disk)).expect("it is read");
        let Opened::Valid(record) = opened else { panic!("{opened:?}") };
        let options = Profile::Normal.log();
        let opened = Log::open_from(disk, options, 5, record.log).expect("it is whole");
        let (_, reader, recovered) = opened;
        assert!(recovered.damage.is_empty(), "{:?}", recovered.damage);
        let frames = reader.read(group, Slot::ZERO, 1 << 20).expect("it is read");
        frames.into_iter().map(|frame| frame.body).collect()
    }

    #[test]
    fn all_replicas_of_a_group_begin_with_the_same_batch() {
        // Goal: their logs are one log from the first byte on, and those of another backup or of another
        // cluster are not.
        let dir = tempfile::tempdir().expect("a folder");
        let nodes = [1, 2, 3].map(NodeId);
        let folder = |node: NodeId, name: &str| dir.path().join(format!("{name}{}", node.0));
        for node in nodes {
            fill(&folder(node, "a"), &topology(7), node, "digest");
        }
        fill(&folder(nodes[0], "b"), &topology(7), nodes[0], "other");
        fill(&folder(nodes[0], "c"), &topology(8), nodes[0], "digest");
        let group = GroupId(2);
        let [first, second, third] = nodes.map(|node| log_of(&folder(node, "a"), group));
        assert_eq!((first.len(), &first, &first), (1, &second, &third));
        let batch = Batch::decode(first[0].clone()).expect("a batch");
        assert_eq!((batch.first(), batch.last()), (Slot(41), Slot(41)));
        assert_eq!((batch.kind(), batch.log_time()), (BatchKind::StartWork, LogTime(7)));
        assert_ne!(log_of(&folder(nodes[0], "b"), group), first);
        assert_ne!(log_of(&folder(nodes[0], "c"), group), first);
    }

    #[test]
    fn only_empty_folders_are_filled_and_only_whole_ones_are_used() {
        // Goal: a node's data is never written over, and half a backup never passes for an empty node.
        let dir = tempfile::tempdir().expect("a folder");
        let begin = |data: &Path| Fill::begin(data, topology(7), NodeId(1), [1, 2]);
        let half = dir.path().join("half");
        drop(begin(&half).expect("it is empty"));
        let error = crate::folder::look_into(&half, &topology(7), NodeId(1)).unwrap_err();
        assert_eq!(error.code, Code::RestoreUnfinished);
        assert_eq!(begin(&half).err().map(|error| error.code), Some(Code::DataFolderNotEmpty));

        let locked = dir.path().join("locked");
        let disk = RealDisk::open(&locked).expect("it is new");
        assert_eq!(begin(&locked).err().map(|error| error.code), Some(Code::DataFolderLocked));
        drop(disk);
        let unfinished = begin(&locked).expect("a lock that nobody holds is nothing");
        assert_eq!(unfinished.finish().unwrap_err().code, Code::Internal, "no group is installed");
        let unknown = Fill::begin(&dir.path().join("x"), topology(7), NodeId(9), [1, 2]);
        assert_eq!(unknown.err().map(|error| error.code), Some(Code::ConfigInvalid));
    }
}
