//! Carries the schedule of faults out, and mends everything at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use madsim::runtime::NodeHandle;
use quorate_client::Client;
use quorate_types::{GroupId, NodeId};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::churn::Interruption;
use crate::cluster::{Cluster, Death, SUPERVISED_EVERY};
use crate::faults::{STALLED, Step};
use crate::trace::Trace;

/// What breaks and mends.
pub struct Nemesis<'a> {
    cluster: &'a mut Cluster,
    clients: &'a [NodeHandle],
    /// The machine that asks for hand-overs.
    admin: &'a NodeHandle,
    admin_client: Client,
    trace: &'a Trace,
    /// How many faults want a link to hold back, or a server hidden.
    held: BTreeMap<(usize, usize), u32>,
    hidden: BTreeMap<usize, u32>,
    /// Servers whose disk hung once: the write that began then may still hang.
    stalled: BTreeSet<usize>,
    /// Who changes members wants a process killed, and when it is to start again.
    interruptions: mpsc::UnboundedReceiver<Interruption>,
    interrupted: Vec<(Instant, usize)>,
    counts: BTreeMap<&'static str, u64>,
}

impl<'a> Nemesis<'a> {
    /// A nemesis of a cluster. `admin_client` was made on `admin`.
    pub fn new(
        cluster: &'a mut Cluster,
        clients: &'a [NodeHandle],
        admin: &'a NodeHandle,
        admin_client: Client,
        trace: &'a Trace,
        interruptions: mpsc::UnboundedReceiver<Interruption>,
    ) -> Nemesis<'a> {
        Nemesis {
            cluster,
            clients,
            admin,
            admin_client,
            trace,
            held: BTreeMap::new(),
            hidden: BTreeMap::new(),
            stalled: BTreeSet::new(),
            interruptions,
            interrupted: Vec::new(),
            counts: BTreeMap::new(),
        }
    }

    /// Does everything in the schedule up to `end`, then mends what is broken. Says how often each
    /// kind of thing happened.
    pub async fn run(
        mut self,
        schedule: Vec<(Duration, Step)>,
        end: Duration,
    ) -> BTreeMap<&'static str, u64> {
        let started = Instant::now();
        for (at, step) in schedule {
            if end < at {
                break;
            }
            self.wait_until(started + at).await;
            self.step(step).await;
        }
        self.wait_until(started + end).await;
        self.mend_all().await;
        self.counts
    }

    /// Waits, and starts processes again that gave up meanwhile.
    async fn wait_until(&mut self, at: Instant) {
        loop {
            let gave_up = self.cluster.restart_those_that_gave_up().await;
            if 0 < gave_up {
                self.trace.event("a process gave up and was started again");
                *self.counts.entry("gave-up").or_default() += gave_up;
            }
            let now = Instant::now();
            self.start_interrupted(now).await;
            if at <= now {
                return;
            }
            tokio::select! {
                biased;
                Some(interruption) = self.interruptions.recv() => self.interrupt(interruption),
                () = tokio::time::sleep_until(at.min(now + SUPERVISED_EVERY)) => {}
            }
        }
    }

    /// Kills a process at the moment that somebody else has chosen.
    fn interrupt(&mut self, interruption: Interruption) {
        let Interruption { node, death, down } = interruption;
        let Some(index) = self.cluster.index_of(node) else { return };
        if self.cluster.stop(index, death) {
            self.trace.event(&format!("{node} is interrupted: {death:?}"));
            *self.counts.entry("interrupted").or_default() += 1;
            self.interrupted.push((Instant::now() + down, index));
        }
    }

    async fn start_interrupted(&mut self, now: Instant) {
        let due: Vec<(Instant, usize)> =
            self.interrupted.extract_if(.., |(at, _)| *at <= now).collect();
        for (_, index) in due {
            self.cluster.restart(index).await;
        }
    }

    async fn step(&mut self, step: Step) {
        let word = step.word();
        let text = format!("{step:?}");
        let happened = match step {
            Step::Stop(node, death) => self.cluster.stop(node, death),
            Step::LoseRows(node) => self.cluster.lose_rows(node),
            Step::Wipe(node) => self.cluster.wipe(node),
            Step::DamageLog(node) => self.cluster.damage_log(node),
            Step::DamageRows(node) => self.cluster.damage_rows(node),
            Step::Start(node) => self.cluster.restart(node).await,
            Step::Pause(node) => self.cluster.pause(node),
            Step::Resume(node) => self.cluster.resume(node),
            Step::Cut(links) => {
                for (from, to) in links.into_iter().filter(|(from, to)| from != to) {
                    self.cluster.cut(from, to, true);
                }
                true
            }
            Step::Mend(links) => {
                for (from, to) in links {
                    self.cluster.cut(from, to, false);
                }
                true
            }
            Step::Hold(links) => {
                for link in links.into_iter().filter(|(from, to)| from != to) {
                    *self.held.entry(link).or_default() += 1;
                    self.cluster.hold(link.0, link.1, true);
                }
                true
            }
            Step::Release(links) => {
                for link in links {
                    if lower(&mut self.held, link) {
                        self.cluster.hold(link.0, link.1, false);
                    }
                }
                true
            }
            Step::HideFromClients(node) => {
                *self.hidden.entry(node).or_default() += 1;
                self.hide(node, true);
                true
            }
            Step::ShowToClients(node) => {
                if lower(&mut self.hidden, node) {
                    self.hide(node, false);
                }
                true
            }
            Step::SlowDisk(node, times) => {
                self.cluster.slow_disk(node, times);
                if times == STALLED {
                    self.stalled.insert(node);
                }
                true
            }
            Step::HandOver(group, to) => {
                let to = to.map(|index| self.cluster.node(index));
                self.hand_over(group, to);
                true
            }
        };
        if happened {
            self.trace.event(&text);
            *self.counts.entry(word).or_default() += 1;
        }
    }

    fn hide(&self, node: usize, is_hidden: bool) {
        for client in self.clients {
            self.cluster.cut_client(node, client, is_hidden);
        }
    }

    /// Asks in a task: the next fault does not wait for the answer.
    fn hand_over(&self, group: GroupId, to: Option<NodeId>) {
        let (client, trace) = (self.admin_client.clone(), self.trace.clone());
        let _asking = self.admin.spawn(async move {
            let answer = client.transfer_leader(group, to).await;
            let answer = answer.map_err(|error| error.code());
            trace.event(&format!("hand-over of {group} to {to:?}: {answer:?}"));
        });
    }

    async fn mend_all(&mut self) {
        self.cluster.network().calm_down();
        for (from, to) in std::mem::take(&mut self.held).into_keys() {
            self.cluster.hold(from, to, false);
        }
        for node in std::mem::take(&mut self.hidden).into_keys() {
            self.hide(node, false);
        }
        for node in 0..self.cluster.size() {
            self.cluster.slow_disk(node, 1);
            self.cluster.resume(node);
            // A write that hangs goes on hanging: only a new process gets rid of it.
            if self.stalled.remove(&node) {
                self.cluster.stop(node, Death::Kill);
            }
            self.cluster.restart(node).await;
        }
        self.trace.event("mended");
    }
}

/// One fault less wants it. True if none does any more.
fn lower<K: Ord>(counts: &mut BTreeMap<K, u32>, key: K) -> bool {
    let Some(count) = counts.get_mut(&key) else {
        return false;
    };
    *count -= 1;
    let is_last = *count == 0;
    if is_last {
        counts.remove(&key);
    }
    is_last
}
