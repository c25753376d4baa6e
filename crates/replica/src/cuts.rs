//! Views at cuts. A leader keeps one at every cut that its log passes, until nobody reads it any more:
//! whoever makes a cut means to read all groups, and by the time he asks for the view of this one, what
//! groups say to each other has often made its log pass the cut already.
//!
//! Called by `group.rs`, `carry_out.rs` and `cross.rs`. The rules stand in `quorate_txn::cross::cut`,
//! the views in `quorate_store`. What a view holds is applied, so it needs no leadership to be true:
//! a leader that becomes a follower keeps its views, and what was open in them is settled by the entries
//! that it applies as one. Once nothing is open a view changes no more: its pages are read off the shard
//! task, and `handle.rs` finds it in [`Ready`] without asking the shard, whose rounds are long under load.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quorate_store::{Keyspace, Pinned, StoreError};
use quorate_txn::cross::{CrossEvent, CutEnd, CutView};
use quorate_txn::{Context, read_at_cut};
use quorate_types::{
    BootTime, Code, CutId, CutRange, EntryId, Error, GroupId, LogTime, Reply, ReplyBody,
    RequestBody, limits,
};
use tracing::{debug, warn};

use crate::cross::Asked;
use crate::event::{Answer, CutStatus, ReplyTo};
use crate::group::{Effects, Fatal, GroupDriver, SliceRule};
use crate::log_thread::Stop;
use crate::refuse;
use crate::shard::off_task;

/// A view lives at most this long: what is overwritten meanwhile takes room on the disk.
const VIEW_TIME_MAX: Duration = Duration::from_secs(60);
/// A view that a backup reads lives at most this long.
const HELD_TIME_MAX: Duration = Duration::from_secs(2 * 3600);
/// And no longer than this after its last page.
const HELD_IDLE_MAX: Duration = Duration::from_secs(120);
/// A view that nobody has asked for goes after this.
const UNCLAIMED_MAX: Duration = Duration::from_secs(10);
/// Whoever waits for a cut, or for what was in doubt at one, waits no longer than this.
const WAIT_MAX: Duration = Duration::from_secs(3);
/// Pages of one group that are read at the same time.
const READS_MAX: usize = 16;

/// A view at a cut.
struct Kept {
    base: Arc<Pinned>,
    /// Shared with readers once it is settled.
    view: Arc<CutView>,
    /// The entry that the view stands at.
    at: EntryId,
    since: BootTime,
    /// When it goes.
    until: BootTime,
    /// A backup has read it since it was last looked after. Shared with the way into the shard.
    held: Arc<AtomicBool>,
    /// It is kept for a backup.
    is_held: bool,
    /// Pages that wait for transactions that were open at the cut.
    parked: Vec<(BootTime, Asked)>,
}

/// The part of a group that cuts take.
#[derive(Default)]
pub(crate) struct CutDriver {
    /// Made by this replica as leader, under whichever ballot.
    views: BTreeMap<CutId, Kept>,
    /// Who waits for the log to pass a cut. Belongs to one ballot.
    waiting: Vec<(BootTime, CutId, Asked)>,
    /// Pages that are being read.
    reading: Arc<AtomicUsize>,
    /// Where views stand in which nothing is open. Shared with the way into the shard.
    pub(crate) ready: Ready,
}

impl CutDriver {
    /// What is kept, and who waits.
    pub(crate) fn status(&self, now: BootTime) -> CutStatus {
        let oldest = self.views.values().map(|kept| now.since(kept.since)).max();
        let oldest_ms = oldest.map_or(0, |age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
        let parked: usize = self.views.values().map(|kept| kept.parked.len()).sum();
        CutStatus { views: self.views.len(), oldest_ms, waiting: self.waiting.len() + parked }
    }
}

/// The views of a node's groups that anybody may read. Invariant: each is kept by its group.
#[derive(Clone, Default)]
pub(crate) struct Ready(Arc<Mutex<BTreeMap<(GroupId, CutId), ReadyView>>>);

/// What reading a view takes.
#[derive(Clone)]
struct ReadyView {
    keyspace: Keyspace,
    base: Arc<Pinned>,
    view: Arc<CutView>,
    at: EntryId,
    slice_of: SliceRule,
    reading: Arc<AtomicUsize>,
    held: Arc<AtomicBool>,
}

impl Ready {
    /// A page of a view, to be read; hands the reply back if there is no such view here.
    pub(crate) fn read(
        &self,
        group: GroupId,
        cut: CutId,
        range: &CutRange,
        reply: ReplyTo,
    ) -> Result<Option<CutRead>, ReplyTo> {
        let found = self.lock().get(&(group, cut)).cloned();
        let Some(ReadyView { keyspace, base, view, at, slice_of, reading, held }) = found else {
            return Err(reply);
        };
        if READS_MAX <= reading.fetch_add(1, Ordering::AcqRel) {
            reading.fetch_sub(1, Ordering::AcqRel);
            reply.answer(Err(too_many_wait(group)));
            return Ok(None);
        }
        if matches!(range, CutRange::Records { .. }) {
            held.store(true, Ordering::Release);
        }
        let range = range.clone();
        Ok(Some(CutRead { group, keyspace, base, view, at, range, slice_of, reply, reading }))
    }

    /// The groups are gone.
    pub(crate) fn clear(&self) {
        let views = std::mem::take(&mut *self.lock());
        drop(views); // Without the lock: a view may wait for whoever reads its snapshot.
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(GroupId, CutId), ReadyView>> {
        // Every change is a single insertion or removal.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A page to be read off the shard task.
pub(crate) struct CutRead {
    group: GroupId,
    keyspace: Keyspace,
    base: Arc<Pinned>,
    view: Arc<CutView>,
    at: EntryId,
    range: CutRange,
    slice_of: SliceRule,
    reply: ReplyTo,
    reading: Arc<AtomicUsize>,
}

impl std::fmt::Debug for CutRead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CutRead({}, {})", self.group, self.view.cut())
    }
}

impl CutRead {
    /// Reads the page where it keeps nobody. A store that cannot be read stops the node.
    pub(crate) fn run_off_task(self, stop: Stop) {
        off_task(move || {
            if let Err(error) = self.run() {
                stop.stop(&error);
            }
        });
    }

    /// Reads the page and answers.
    pub(crate) fn run(self) -> Result<(), Fatal> {
        let slice_of = |table, uid| (self.slice_of)(table, uid);
        let context = Context { keyspace: self.keyspace, slice_of: &slice_of };
        let view = self.view.over(self.base.as_ref());
        let read = read_at_cut(&self.range, &context, &view, self.view.end());
        self.reading.fetch_sub(1, Ordering::AcqRel);
        match read {
            Ok(body) => {
                self.reply.answer(Ok(Reply { at: self.at, replayed: false, body }));
                Ok(())
            }
            Err(source) => {
                let error = Error::new(source.code(), "the view cannot be read");
                self.reply.answer(Err(refuse::of_group(error, self.group)));
                Err(Fatal::Store { group: self.group, source })
            }
        }
    }
}

impl GroupDriver {
    /// Why no cut can be made here now; `None` if one can.
    pub(crate) fn refuses_new_cut(&self) -> Option<Error> {
        if self.options.numbering != self.group {
            let numbering = self.options.numbering;
            let error = Error::new(Code::WrongUnit, format!("{numbering} makes the cuts"));
            return Some(error.with("group", numbering.0));
        }
        if limits::GROUP_CUTS_MAX <= self.cuts.views.len() {
            let message = format!("{} cuts are being read", self.cuts.views.len());
            let error = Error::new(Code::Overloaded, message).after(Duration::from_secs(1));
            return Some(refuse::of_group(error, self.group));
        }
        None
    }

    /// Whether this is about a view that is kept here. Whoever leads may not have it.
    pub(crate) fn has_view_for(&self, body: &RequestBody) -> bool {
        match body {
            RequestBody::PinCut(cut)
            | RequestBody::ReadCut(cut, _)
            | RequestBody::UnpinCut(cut) => self.cuts.views.contains_key(cut),
            _ => false,
        }
    }

    /// A request about the view at a cut.
    pub(crate) fn at_cut(
        &mut self,
        now: BootTime,
        asked: Asked,
        fx: &mut Effects,
    ) -> Result<(), Fatal> {
        match &asked.request.body {
            RequestBody::PinCut(cut) => {
                let cut = *cut;
                self.pin_cut(now, cut, asked, fx)
            }
            RequestBody::ReadCut(cut, range) => {
                let (cut, range) = (*cut, range.clone());
                self.read_cut(now, cut, range, asked, fx);
                Ok(())
            }
            RequestBody::UnpinCut(cut) => {
                let cut = *cut;
                let kept = self.take_view(cut);
                let at = kept.as_ref().map_or_else(|| self.applied_at(), |kept| kept.at);
                self.drop_view(cut, kept, "it was released");
                asked.reply.answer(Ok(Reply { at, replayed: false, body: ReplyBody::Cut(cut) }));
                Ok(())
            }
            _ => unreachable!("only requests about views at cuts come here"),
        }
    }

    fn pin_cut(
        &mut self,
        now: BootTime,
        cut: CutId,
        asked: Asked,
        fx: &mut Effects,
    ) -> Result<(), Fatal> {
        if let Some(kept) = self.cuts.views.get_mut(&cut) {
            kept.until = kept.until.max(kept.since + VIEW_TIME_MAX);
            let body = ReplyBody::Cut(cut);
            asked.reply.answer(Ok(Reply { at: kept.at, replayed: false, body }));
            return Ok(());
        }
        if cut <= self.cross.rules.table().cut() {
            asked.reply.answer(Err(lost(self.group, cut, "the group keeps no view at it")));
            return Ok(());
        }
        if limits::CUT_WAITING_MAX <= self.cuts.waiting.len() {
            asked.reply.answer(Err(too_many_wait(self.group)));
            return Ok(());
        }
        self.cuts.waiting.push((now, cut, asked));
        let out = self.cross.rules.ask_cut(self.options.numbering);
        self.carry_out_cross(now, out, fx)
    }

    fn read_cut(
        &mut self,
        now: BootTime,
        cut: CutId,
        range: CutRange,
        asked: Asked,
        fx: &mut Effects,
    ) {
        let group = self.group;
        let Some(kept) = self.cuts.views.get_mut(&cut) else {
            return asked.reply.answer(Err(lost(group, cut, "the group keeps no view at it")));
        };
        if !kept.view.is_settled() {
            if limits::CUT_WAITING_MAX <= kept.parked.len() {
                return asked.reply.answer(Err(too_many_wait(group)));
            }
            let since = asked.parked_at.unwrap_or(now);
            return kept.parked.push((since, Asked { parked_at: Some(since), ..asked }));
        }
        match self.cuts.ready.read(group, cut, &range, asked.reply) {
            Ok(read) => fx.cut_reads.extend(read),
            Err(_reply) => unreachable!("a settled view that is kept is ready"),
        }
    }

    /// The entry `at`, of this log time, was applied and did this; before it the log had passed `passed`. Views learn of it;
    /// at a new cut the leader makes one, before the next entry is applied.
    pub(crate) fn note_cut(
        &mut self,
        now: BootTime,
        passed: CutId,
        (at, log_time): (EntryId, LogTime),
        event: &CrossEvent,
    ) -> Result<(), Fatal> {
        let (group, keyspace) = (self.group, self.keyspace);
        let (mut too_large, mut settled) = (Vec::new(), Vec::new());
        for (cut, kept) in &mut self.cuts.views {
            if kept.view.is_settled() {
                continue;
            }
            let view = Arc::get_mut(&mut kept.view).expect("nobody reads what is not settled");
            let learned = view.learn(event, (at, log_time), kept.base.as_ref(), keyspace);
            learned.map_err(|source| Fatal::Apply { group, source })?;
            if limits::CUT_EFFECT_BYTES_MAX < kept.view.bytes() {
                too_large.push(*cut);
            } else if kept.view.is_settled() {
                settled.push(*cut);
            }
        }
        for cut in too_large {
            let kept = self.take_view(cut);
            self.drop_view(cut, kept, "too much was in doubt at it");
        }
        for cut in settled {
            if let Some(kept) = self.cuts.views.get(&cut) {
                self.publish(cut, kept);
            }
        }
        match event {
            CrossEvent::Cut(cut) if passed < *cut && self.cross.rules.leads() => {
                let kept = self.keep_view(now, *cut, (at, log_time));
                kept.map_err(|source| Fatal::Store { group, source })
            }
            _ => Ok(()),
        }
    }

    fn keep_view(
        &mut self,
        now: BootTime,
        cut: CutId,
        (at, log_time): (EntryId, LogTime),
    ) -> Result<(), StoreError> {
        while limits::GROUP_CUTS_MAX <= self.cuts.views.len() {
            // Fewer than there may be are held.
            let mut loose = self.cuts.views.iter().filter(|(_, kept)| !kept.is_held);
            let Some(oldest) = loose.next().map(|(cut, _)| *cut) else { break };
            let kept = self.take_view(oldest);
            self.drop_view(oldest, kept, "later cuts were made");
        }
        let Some(base) = self.store.pin()? else {
            warn!(group = %self.group, %cut, "no view at a cut: too many are kept on this node");
            return Ok(());
        };
        debug!(group = %self.group, %cut, bytes = base.bytes(), "keeps a view at a cut");
        let end = CutEnd { upto: at.slot, log_time };
        let kept = Kept {
            base: Arc::new(base),
            view: Arc::new(CutView::new(cut, self.cross.rules.table(), end)),
            at,
            since: now,
            until: now + UNCLAIMED_MAX,
            held: Arc::default(),
            is_held: false,
            parked: Vec::new(),
        };
        self.publish(cut, &kept);
        self.cuts.views.insert(cut, kept);
        Ok(())
    }

    /// Lets everybody read a view in which nothing is open.
    fn publish(&self, cut: CutId, kept: &Kept) {
        if !kept.view.is_settled() {
            return;
        }
        let view = ReadyView {
            keyspace: self.keyspace,
            base: Arc::clone(&kept.base),
            view: Arc::clone(&kept.view),
            at: kept.at,
            slice_of: Arc::clone(&self.options.slice_of),
            reading: Arc::clone(&self.cuts.reading),
            held: Arc::clone(&kept.held),
        };
        self.cuts.ready.lock().insert((self.group, cut), view);
    }

    /// Nobody finds the view any more.
    fn take_view(&mut self, cut: CutId) -> Option<Kept> {
        let ready = self.cuts.ready.lock().remove(&(self.group, cut));
        drop(ready); // Without the lock.
        self.cuts.views.remove(&cut)
    }

    /// Answers those whose cut or whose view has come so far. Called after an entry about cuts or
    /// attempts was applied.
    pub(crate) fn wake_cuts(&mut self, now: BootTime, fx: &mut Effects) -> Result<(), Fatal> {
        let passed = self.cross.rules.table().cut();
        if self.cuts.waiting.iter().any(|(_, cut, _)| *cut <= passed) {
            let waiting = std::mem::take(&mut self.cuts.waiting);
            let (ready, waiting) = waiting.into_iter().partition(|(_, cut, _)| *cut <= passed);
            self.cuts.waiting = waiting;
            let ready: Vec<(BootTime, CutId, Asked)> = ready;
            for (_, cut, asked) in ready {
                self.pin_cut(now, cut, asked, fx)?;
            }
        }
        let mut ready = Vec::new();
        for kept in self.cuts.views.values_mut().filter(|kept| kept.view.is_settled()) {
            ready.append(&mut kept.parked);
        }
        for (_, asked) in ready {
            self.at_cut(now, asked, fx)?;
        }
        Ok(())
    }

    /// Lets views go whose time is over, and refuses who has waited too long. Called now and then.
    pub(crate) fn clean_cuts(&mut self, now: BootTime, fx: &mut Effects) -> Result<(), Fatal> {
        self.hold_cuts(now);
        let over: Vec<CutId> = self
            .cuts
            .views
            .iter()
            .filter(|(_, kept)| kept.until <= now)
            .map(|(cut, _)| *cut)
            .collect();
        for cut in over {
            let kept = self.take_view(cut);
            self.drop_view(cut, kept, "its time was over");
        }
        let group = self.group;
        for kept in self.cuts.views.values_mut() {
            let (late, patient): (Vec<_>, Vec<_>) =
                kept.parked.drain(..).partition(|(since, _)| WAIT_MAX < now.since(*since));
            kept.parked = patient;
            for (_, asked) in late {
                let message = "a transaction that was open at the cut is still in doubt";
                let error = Error::new(Code::Locked, message);
                asked.reply.answer(Err(refuse::of_group(error, group)));
            }
        }
        let waiting = std::mem::take(&mut self.cuts.waiting);
        let (late, patient): (Vec<_>, Vec<_>) =
            waiting.into_iter().partition(|(since, ..)| WAIT_MAX < now.since(*since));
        self.cuts.waiting = patient;
        for (_, cut, asked) in late {
            asked.reply.answer(Err(lost(group, cut, "the group has not heard of it")));
        }
        if self.cuts.waiting.is_empty() {
            return Ok(());
        }
        let out = self.cross.rules.ask_cut(self.options.numbering); // It may not have arrived.
        self.carry_out_cross(now, out, fx)
    }

    /// Views that backups have read stay for a while longer.
    fn hold_cuts(&mut self, now: BootTime) {
        let mut count = self.cuts.views.values().filter(|kept| kept.is_held).count();
        for kept in self.cuts.views.values_mut() {
            let was_read = kept.held.swap(false, Ordering::AcqRel);
            if was_read && !kept.is_held && count < limits::GROUP_CUTS_HELD_MAX {
                kept.is_held = true;
                count += 1;
            }
            if was_read && kept.is_held {
                let last = kept.since + HELD_TIME_MAX;
                kept.until = kept.until.max((now + HELD_IDLE_MAX).min(last));
            }
        }
    }

    /// The ballot is over: whoever leads next will pass the cuts that somebody waits for here.
    pub(crate) fn refuse_cut_waiters(&mut self, refused: &Answer) {
        for (_, _, asked) in std::mem::take(&mut self.cuts.waiting) {
            asked.reply.answer(refused.clone());
        }
    }

    /// The rows of a snapshot replaced ours: how what was open at a cut ended is in entries that are
    /// never applied here.
    pub(crate) fn lose_open_views(&mut self) {
        let views = self.cuts.views.iter();
        let open = views.filter(|(_, kept)| !kept.view.is_settled()).map(|(cut, _)| *cut);
        for cut in open.collect::<Vec<CutId>>() {
            let kept = self.take_view(cut);
            self.drop_view(cut, kept, "a snapshot was installed");
        }
    }

    /// The rows here are not to be read any more, and no view of them either.
    pub(crate) fn lose_views(&mut self, why: &str) {
        for cut in self.cuts.views.keys().copied().collect::<Vec<CutId>>() {
            let kept = self.take_view(cut);
            self.drop_view(cut, kept, why);
        }
    }

    fn drop_view(&self, cut: CutId, kept: Option<Kept>, why: &str) {
        let Some(kept) = kept else { return };
        debug!(group = %self.group, %cut, why, "lets a view at a cut go");
        for (_, asked) in kept.parked {
            asked.reply.answer(Err(lost(self.group, cut, why)));
        }
    }
}

fn lost(group: GroupId, cut: CutId, why: &str) -> Error {
    let message = format!("the view of {group} at {cut} is lost: {why}");
    refuse::of_group(Error::new(Code::CutLost, message).with("cut", cut.0), group)
}

fn too_many_wait(group: GroupId) -> Error {
    let message = "too many wait for views at cuts";
    let error = Error::new(Code::Overloaded, message).after(Duration::from_millis(50));
    refuse::of_group(error, group)
}
