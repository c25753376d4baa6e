//! `quorate backup create`: a cut through all groups, and the records of each as of it.

use std::cell::Cell;
use std::cell::RefCell;
use std::convert::Infallible;
use std::time::{Duration, SystemTime};

use clap::Args;
use futures::{StreamExt, TryStreamExt};
use quorate_backup::{
    BackupId, Books, Cluster as Origin, GroupPart, GroupWriter, Manifest, Place, publish,
};
use quorate_client::{Client, Cut, GroupId};
use quorate_topology::Topology;
use quorate_types::Code;

use super::{failure, show};
use crate::cli::Global;
use crate::cluster::{self, Cluster};
use crate::exit::{Exit, Failure};
use crate::output::{Output, thousands};
use crate::signals::Interrupts;

/// A backup whose cut is lost begins again, so often.
const ATTEMPTS: usize = 5;
/// Groups that are read at the same time. Each keeps an object in memory.
const GROUPS_AT_ONCE: usize = 4;
/// How often groups that wait are told to keep their views: well within the time that one is kept unread.
const HOLD_INTERVAL: Duration = Duration::from_secs(30);
/// A page may take this long at least: nodes send no faster than they may.
const PAGE_TIMEOUT: Duration = Duration::from_secs(60);

const CREATE_HELP: &str = "\
Nobody waits for a backup, but what is overwritten meanwhile takes room on the disks of the leaders. A group
that gets another leader loses the cut; the backup then begins again, five times. Takes at most two hours.
Where callers have certificates, the client needs the rights read and admin in all units.";

/// Copies all groups as of one cut.
#[derive(Clone, Debug, Args)]
#[command(after_help = CREATE_HELP)]
pub(super) struct CreateArgs {
    /// Where backups are kept: a folder, file://PATH or s3://BUCKET/PREFIX
    #[arg(long, value_name = "PLACE")]
    to: String,
}

/// Runs `quorate backup create`.
pub(super) async fn run(args: &CreateArgs, global: &Global, out: &Output) -> Result<(), Failure> {
    let place = Place::make(&args.to).map_err(failure)?;
    let cluster = Cluster::open(global).await?;
    let client = cluster.client().with_timeout(global.timeout.max(PAGE_TIMEOUT));
    let interrupts = Interrupts::listen()?;
    let mut attempt = 1;
    let manifest = loop {
        let id = BackupId::new(SystemTime::now(), rand::random());
        let making = Making { place: &place, id: &id, topology: cluster.topology(), out };
        let made = tokio::select! {
            made = Box::pin(making.make(&client)) => made,
            () = interrupts.first() => Err(Failure::quiet(Exit::Interrupted)),
        };
        match made {
            Ok(manifest) => break manifest,
            Err(failed) => {
                clean_up(&place, &id, out).await;
                let is_lost = failed.error().is_some_and(|error| error.code == Code::CutLost);
                if !is_lost || ATTEMPTS <= attempt {
                    return Err(failed);
                }
                attempt += 1;
                out.note("the cut was lost with the leader of a group; the backup begins again");
            }
        }
    };
    show::created(&manifest, &place, out);
    Ok(())
}

/// Removes what was written of a backup that will never be whole, or says how that is done.
async fn clean_up(place: &Place, id: &BackupId, out: &Output) {
    if let Err(error) = place.remove(id).await {
        let how = place.how_to_remove(id);
        out.warn(format_args!("what was written of backup {id} is left over: {error}; {how}"));
    }
}

/// One attempt at a backup.
struct Making<'a> {
    place: &'a Place,
    id: &'a BackupId,
    topology: &'a Topology,
    out: &'a Output,
}

/// What all groups together have brought.
struct Progress<'o> {
    bytes: Cell<u64>,
    groups: Cell<usize>,
    lines: RefCell<show::Lines<'o>>,
}

impl Making<'_> {
    async fn make(&self, client: &Client) -> Result<Manifest, Failure> {
        let cut = client.cut().await.map_err(|error| cluster::failure(&error))?;
        let copied = tokio::select! {
            copied = Box::pin(self.copy(&cut)) => copied,
            lost = keep(&cut) => lost.map(|never| match never {}),
        };
        let number = cut.id();
        cut.release().await;
        let (parts, books) = copied?;
        let origin = Origin {
            id: self.topology.cluster_id().to_string(),
            name: self.topology.name().to_owned(),
            file: self.topology.text().to_owned(),
        };
        let manifest = Manifest::new(self.id, origin, number.0, parts, &books);
        publish(self.place, self.id, &manifest).await.map_err(failure)?;
        Ok(manifest)
    }

    /// The records of all groups.
    async fn copy(&self, cut: &Cut) -> Result<(Vec<GroupPart>, Books), Failure> {
        let lines = RefCell::new(show::Lines::new(self.out));
        let progress = Progress { bytes: Cell::new(0), groups: Cell::new(0), lines };
        let copies = futures::stream::iter(cut.groups().to_vec())
            .map(|group| self.copy_group(cut, group, &progress))
            .buffer_unordered(GROUPS_AT_ONCE);
        let mut copied: Vec<(GroupPart, Books)> = copies.try_collect().await?;
        copied.sort_by_key(|(part, _)| part.group);
        let mut books = Books::default();
        copied.iter().for_each(|(_, theirs)| books.join(theirs));
        Ok((copied.into_iter().map(|(part, _)| part).collect(), books))
    }

    async fn copy_group(
        &self,
        cut: &Cut,
        group: GroupId,
        progress: &Progress<'_>,
    ) -> Result<(GroupPart, Books), Failure> {
        let mut writer = GroupWriter::new(self.place, self.id, group);
        let mut after = None;
        loop {
            let page = cut.records(group, after).await.map_err(|error| cluster::failure(&error))?;
            if page.next.is_none() {
                let unit = self.topology.group(group).map_or("", |entry| entry.unit.as_str());
                progress.groups.update(|groups| groups + 1);
                return writer.finish(unit, page.upto, page.log_time).await.map_err(failure);
            }
            progress.bytes.update(|bytes| bytes + page.records.len() as u64);
            writer.write(page.records).await.map_err(failure)?;
            progress.lines.borrow_mut().tell(|| {
                let (bytes, groups) = (progress.bytes.get(), progress.groups.get());
                let all = cut.groups().len();
                format!("{} MiB are copied, {groups} of {all} groups", thousands(bytes >> 20))
            });
            after = page.next;
        }
    }
}

/// Has all views kept until somebody stops it, or one is lost.
async fn keep(cut: &Cut) -> Result<Infallible, Failure> {
    loop {
        cut.hold().await.map_err(|error| cluster::failure(&error))?;
        tokio::time::sleep(HOLD_INTERVAL).await;
    }
}
