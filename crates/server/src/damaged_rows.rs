//! Damaged rows of a real node: they are moved aside, and the node starts without any, votes and logs, and
//! fetches others. Called by `serve.rs`.
//!
//! Rows can be replaced, the log and the promises cannot; so this is about the folder `rows` alone. What a
//! process finds while it runs it cannot repair in place: it leaves a mark, durably, and ends; the next
//! start does the rest. Full disks, locks and permissions are no damage.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::sync::Arc;

use quorate_log::{Disk, GroupRecord, Opened, PromiseFile};
use quorate_paxos::Membership;
use quorate_replica::force::membership_of;
use quorate_topology::Topology;
use quorate_types::{Code, Error, GroupId, NodeId};
use tracing::{error, warn};

use crate::directory::genesis;
use crate::node::log_error;
use crate::repair::Repaired;

/// The folder of the rows in the data folder.
pub(crate) const ROWS: &str = "rows";
/// What damaged rows are called, before a number.
const DAMAGED: &str = "rows.damaged-";
/// The file that says that the rows are damaged, and why.
const MARK: &str = "rows-damaged";
/// So many folders of damaged rows are kept, the newest.
const KEPT: usize = 2;

/// Says durably that the rows are damaged. The node must end.
pub(crate) fn mark(data: &Path, reason: &str) {
    let marking = || -> io::Result<()> {
        let mut file = File::create(data.join(MARK))?;
        file.write_all(reason.as_bytes())?;
        file.sync_all()?;
        sync(data)
    };
    // Without the mark the next start finds the damage as this one did, or does not meet it.
    if let Err(error) = marking() {
        error!(%error, "cannot write down that the rows are damaged");
    }
}

/// Why an earlier process said that the rows are damaged, if one did.
///
/// # Errors
/// `DISK_FAILED` if that cannot be read.
pub(crate) fn marked(data: &Path) -> Result<Option<String>, Error> {
    match fs::read(data.join(MARK)) {
        Ok(reason) => Ok(Some(String::from_utf8_lossy(&reason).into_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read", &data.join(MARK), &error)),
    }
}

/// Refuses what cannot be repaired, because nobody else has the rows, or because it was not wanted. `members` are
/// those of each group of which the node has a replica, as it knows them.
///
/// # Errors
/// `STORE_DAMAGED` with the reason.
pub(crate) fn may_repair(
    members: &BTreeMap<GroupId, Membership>,
    node: NodeId,
    is_wanted: bool,
    reason: &str,
) -> Result<(), Error> {
    let refused = |why: String| Err(Error::new(Code::StoreDamaged, format!("{reason}; {why}")));
    if !is_wanted {
        return refused("this node was told not to repair its rows".to_owned());
    }
    let is_alone = |members: &Membership| {
        let rows = || members.members().filter(|(_, member)| member.kind.keeps_rows());
        // Rows of a group that this node is no member of are of use to nobody; those of a learner may be few yet.
        let is_here = rows().any(|(id, _)| id.node() == node);
        is_here && rows().all(|(id, member)| id.node() == node || !member.role.votes())
    };
    match members.iter().find(|(_, members)| is_alone(members)) {
        Some((group, _)) => refused(format!("no other node has the rows of {group}")),
        None => Ok(()),
    }
}

/// Who takes part in the groups of a node: as its promise file has it, or as the cluster file does if it has made
/// no promises yet. Nobody may have the folder open.
///
/// # Errors
/// `PROMISES_UNREADABLE`, `DISK_FULL`, `DISK_FAILED`.
pub(crate) fn known_members(
    disk: &Arc<dyn Disk>,
    topology: &Topology,
    node: NodeId,
) -> Result<BTreeMap<GroupId, Membership>, Error> {
    let (_, opened) = PromiseFile::open(Arc::clone(disk)).map_err(|error| log_error(&error))?;
    match opened {
        Opened::Fresh => {
            let groups = topology.groups_of_node(node);
            Ok(groups.map(|group| (group.id, genesis(group))).collect())
        }
        Opened::Valid(record) => {
            let members = |(group, record): (&GroupId, &GroupRecord)| {
                membership_of(&record.membership).map(|(at, _)| (*group, at.membership))
            };
            record.groups.iter().map(members).collect()
        }
        Opened::Unreadable { reason } => Err(Error::new(
            Code::PromisesUnreadable,
            format!("the promise file is unreadable: {reason}"),
        )),
    }
}

/// Moves the rows aside, takes the mark away, and removes older ones. Nobody may have them open.
///
/// # Errors
/// `DISK_FAILED` if they cannot be moved.
pub(crate) fn move_aside(data: &Path, reason: String) -> Result<Repaired, Error> {
    let before = folders(data).map_err(|error| failed("list", data, &error))?;
    let number = before.last().map_or(1, |last| last + 1);
    let folder = format!("{DAMAGED}{number}");
    let (rows, aside) = (data.join(ROWS), data.join(&folder));
    match fs::rename(&rows, &aside) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {} // They are gone already.
        Err(error) => return Err(failed("move", &rows, &error)),
    }
    sync(data).map_err(|error| failed("sync", data, &error))?;
    // Only now: whoever crashes in between moves what has come meanwhile once more.
    match fs::remove_file(data.join(MARK)) {
        Ok(()) => sync(data).map_err(|error| failed("sync", data, &error))?,
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(failed("remove", &data.join(MARK), &error)),
    }
    warn!(
        folder,
        reason,
        code = Code::StoreDamaged.name(),
        "the rows are damaged and were moved aside: others are fetched from other nodes"
    );
    let is_old = (before.len() + 1).saturating_sub(KEPT);
    for old in before.iter().take(is_old) {
        let old = data.join(format!("{DAMAGED}{old}"));
        // What stays takes room on the disk and harms nobody.
        if let Err(error) = fs::remove_dir_all(&old) {
            warn!(folder = %old.display(), %error, "older damaged rows cannot be removed");
        }
    }
    Ok(Repaired { folder, reason })
}

/// The numbers of the folders of damaged rows, in order.
fn folders(data: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(data)? {
        let name = entry?.file_name();
        let number: Option<u64> =
            name.to_str().and_then(|name| name.strip_prefix(DAMAGED)?.parse().ok());
        numbers.extend(number);
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn failed(verb: &str, path: &Path, error: &io::Error) -> Error {
    Error::new(Code::DiskFailed, format!("cannot {verb} {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use quorate_log::SimDisk;
    use quorate_paxos::MembershipAt;
    use quorate_replica::force::{Fate, record_of};
    use quorate_topology::presets;
    use quorate_types::{Ballot, ClusterId, EntryId, ReplicaId, Slot};

    use super::*;
    use crate::node::fresh_record;

    /// Goal: whether somebody else has the rows is for the members to say that the node has learned of, not for the
    /// cluster file: the last voter keeps its rows, and whoever was taken in later may repair.
    #[test]
    fn rows_are_given_up_only_if_members_have_them() {
        let text = presets::one_city_three_idcs(&presets::Options::demo(ClusterId(7)));
        let topology = Topology::parse(&text).expect("the preset is valid");
        let (node, other) = (NodeId(1), NodeId(2));
        let [own, others] = [node, other].map(|node| ReplicaId::later_on(node, 5));
        let groups: Vec<GroupId> = topology.groups().map(|group| group.id).collect();
        let may = |members: &BTreeMap<_, _>| may_repair(members, node, true, "bits").is_ok();

        let disk: Arc<dyn Disk> = SimDisk::new().mount();
        let fresh = known_members(&disk, &topology, node).expect("readable");
        assert_eq!((fresh.len(), may(&fresh)), (groups.len(), true), "as the cluster file says");

        let (mut promises, _) = PromiseFile::open(Arc::clone(&disk)).expect("it works");
        let known = |voters: &[ReplicaId]| {
            let ballot = Ballot { round: 4, replica: own };
            let id = EntryId { ballot, slot: Slot(9) };
            let membership = Membership::of_voters(voters.iter().map(|id| (*id, 0)));
            let at = MembershipAt { id, membership };
            let membership = record_of(&at, Fate::Present);
            GroupRecord {
                replica: own,
                kind: quorate_types::ReplicaKind::Full,
                promised: ballot,
                pinned: false,
                log: quorate_log::LogTrust::default(),
                membership,
            }
        };
        let mut store = |voters: &[ReplicaId]| {
            let mut record = fresh_record(&topology, node, 3);
            record.groups.insert(groups[0], known(voters));
            promises.store(&record).expect("it works");
            known_members(&disk, &topology, node).expect("readable")
        };
        assert!(!may(&store(&[own])), "nobody else is left");
        assert!(may(&store(&[own, others])));
        assert!(may(&store(&[others])), "it has left");
        assert!(may_repair(&store(&[own, others]), node, false, "bits").is_err(), "not wanted");
    }

    /// Goal: damaged rows are kept for people, but never more than two of them; a mark is honoured once.
    #[test]
    fn the_newest_two_are_kept_and_a_mark_counts_once() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path();
        assert_eq!(marked(data).unwrap(), None);
        for round in 1..=4_u64 {
            fs::create_dir(data.join(ROWS)).unwrap();
            fs::write(data.join(ROWS).join("CURRENT"), round.to_string()).unwrap();
            mark(data, "a bit was flipped");
            assert_eq!(marked(data).unwrap().as_deref(), Some("a bit was flipped"));
            let repaired = move_aside(data, "why".to_owned()).unwrap();
            assert_eq!(repaired.folder, format!("rows.damaged-{round}"));
            assert_eq!(marked(data).unwrap(), None);
            assert!(!data.join(ROWS).exists());
        }
        assert_eq!(folders(data).unwrap(), [3, 4]);
        assert_eq!(fs::read_to_string(data.join("rows.damaged-4/CURRENT")).unwrap(), "4");
        // Rows that are gone are moved by nobody, and the node starts without them all the same.
        move_aside(data, "why".to_owned()).unwrap();
    }
}
