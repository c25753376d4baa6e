//! A damaged log: which groups of the node have lost something by it, and whether others have it. Called by
//! `node.rs` while the log is opened, before anything is written.
//!
//! A group that may have lost something begins its log anew, from its leader. Until it has it again its replica
//! does not vote, and that is in the promise file before the node goes on: a crash on the way forgets nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use quorate_log::{
    DamageKind, Disk, GroupRecord, Log, LogOffset, LogOptions, LogReader, LogTrust, LogWriter,
    NodeRecord, PromiseFile, Recovered, check_floors,
};
use quorate_replica::force::{Fate, membership_of};
use quorate_replica::{Restore, is_whole};
use quorate_store::Store;
use quorate_types::{Code, Error, GroupId};
use tracing::{error, warn};

/// From where on the frames of each group count.
fn counts_from(record: &NodeRecord) -> BTreeMap<GroupId, LogOffset> {
    record.groups.iter().map(|(group, record)| (*group, record.log.counts_from)).collect()
}

/// What it takes to decide.
pub(crate) struct Judge<'a> {
    pub(crate) record: &'a mut NodeRecord,
    pub(crate) promises: &'a mut PromiseFile,
    pub(crate) store: &'a Store,
    /// The node may go on without what it has lost.
    pub(crate) is_wanted: bool,
}

impl Judge<'_> {
    /// Opens the log. What this start began is in the promise file when it returns.
    ///
    /// # Errors
    /// As [`Judge::give_up`]; `PROMISES_UNREADABLE` if the promises are older than the log.
    pub(crate) fn open_log(
        mut self,
        disk: &Arc<dyn Disk>,
        options: LogOptions,
        random: u64,
    ) -> Result<(LogWriter, LogReader, Recovered), Error> {
        let (mark, counts_from) = (self.record.log, counts_from(self.record));
        let judge = |found: &Recovered, log: &LogReader, end| self.give_up(found, log, end);
        let disk = Arc::clone(disk);
        let (mut writer, reader, recovered) =
            Log::open_judged(disk, options, random, mark, counts_from, judge)?;
        check_floors(self.record, &recovered.floors)?;
        writer.set_floors(quorate_replica::log_thread::floors(self.record));
        // The segment that this start began is durable, and from here on what is in it counts.
        self.record.log = writer.mark();
        self.promises.store(self.record)?;
        if self.record.groups.values().all(|group| !group.log.suspect) {
            writer.clear_damage()?; // Whatever there is to see, nothing is missing.
        }
        Ok((writer, reader, recovered))
    }

    /// The groups whose frames are given up, because something of them may be missing; `end` is where the log
    /// goes on. It is durable that they are suspect when this returns.
    ///
    /// (What only an earlier start has seen is no news: it has decided about it before it went on.)
    ///
    /// # Errors
    /// `LOG_DAMAGED` if nobody else could be relied on, or if that is not wanted; `DISK_FULL`, `DISK_FAILED`.
    fn give_up(
        &mut self,
        found: &Recovered,
        log: &LogReader,
        end: LogOffset,
    ) -> Result<BTreeSet<GroupId>, Error> {
        let news = |damage: &&quorate_log::Damage| damage.kind != DamageKind::Earlier;
        let Some(first) = found.damage.iter().find(news) else {
            return Ok(BTreeSet::new());
        };
        let what = format!(
            "the log is damaged in {} places, the first in segment {}: {:?}, {} bytes",
            found.damage.iter().filter(news).count(),
            first.segment,
            first.kind,
            first.bytes
        );
        let refused = |why: &str| {
            let error = Error::new(Code::LogDamaged, format!("{what}; {why}"));
            Err(error.with("segment", first.segment))
        };
        if !self.is_wanted {
            return refused("this node was told not to repair its log");
        }
        let mut given_up = BTreeSet::new();
        for (group, record) in &self.record.groups {
            let (membership, fate) = membership_of(&record.membership)?;
            if fate == Fate::Gone {
                continue; // Nothing of its log counts.
            }
            let from = Restore {
                group: *group,
                promised: record.promised,
                membership,
                is_outlived: fate == Fate::Outlived,
                lease_ns_max: 0,
                kind: record.kind,
                log_suspect: record.log.suspect,
                found: found.groups.get(group),
            };
            if is_whole(&from, found.end_lost, log, self.store) {
                continue;
            }
            if !can_do_without(record)? {
                return refused(&format!(
                    "without this node the voters of {group} are no majority"
                ));
            }
            given_up.insert(*group);
        }
        let code = Code::LogDamaged.name();
        if given_up.is_empty() {
            warn!(code, "{what}; no group has lost anything by it");
            return Ok(given_up);
        }
        for group in &given_up {
            let record = self.record.groups.get_mut(group).expect("it is one of them");
            record.log = LogTrust { suspect: true, counts_from: end };
        }
        self.promises.store(self.record)?;
        let groups: Vec<String> = given_up.iter().map(ToString::to_string).collect();
        error!(
            code,
            groups = groups.join(" "),
            "{what}; the log of these groups is fetched from other nodes"
        );
        Ok(given_up)
    }
}

/// True if others can lead the group without this node, by the members that it knows. Who is no voter may lose
/// anything.
fn can_do_without(record: &GroupRecord) -> Result<bool, Error> {
    let own = record.replica;
    let members = membership_of(&record.membership)?.0.membership;
    let votes = members.get(own).is_some_and(|member| member.role.votes());
    Ok(!votes || members.is_quorum(|id| id != own))
}
