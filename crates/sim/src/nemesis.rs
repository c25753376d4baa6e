//! Carries the schedule of faults out, and mends everything at the end.

use std::collections::BTreeMap;
use std::time::Duration;

use madsim::runtime::NodeHandle;
use quorate_client::Client;
use quorate_types::{GroupId, NodeId};
use tokio::time::Instant;

use crate::cluster::Cluster;
use crate::faults::Step;
use crate::trace::Trace;

/// What breaks and mends.
pub struct Nemesis<'a> {
    cluster: &'a mut Cluster,
    clients: &'a [NodeHandle],
    /// The machine that asks for hand-overs.
    admin: &'a NodeHandle,
    admin_client: Client,
    trace: &'a Trace,
    /// How many faults want a link cut, or a server hidden.
    cuts: BTreeMap<(usize, usize), u32>,
    hidden: BTreeMap<usize, u32>,
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
    ) -> Nemesis<'a> {
        Nemesis {
            cluster,
            clients,
            admin,
            admin_client,
            trace,
            cuts: BTreeMap::new(),
            hidden: BTreeMap::new(),
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
            tokio::time::sleep_until(started + at).await;
            self.step(step).await;
        }
        tokio::time::sleep_until(started + end).await;
        self.mend_all().await;
        self.counts
    }

    async fn step(&mut self, step: Step) {
        let word = step.word();
        let text = format!("{step:?}");
        let happened = match step {
            Step::Stop(node, death) => self.cluster.stop(node, death),
            Step::Start(node) => self.cluster.restart(node).await,
            Step::Pause(node) => self.cluster.pause(node),
            Step::Resume(node) => self.cluster.resume(node),
            Step::Cut(links) => {
                for link in links.into_iter().filter(|(from, to)| from != to) {
                    *self.cuts.entry(link).or_default() += 1;
                    self.cluster.cut(link.0, link.1, true);
                }
                true
            }
            Step::Mend(links) => {
                for link in links {
                    if lower(&mut self.cuts, link) {
                        self.cluster.cut(link.0, link.1, false);
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
        for (from, to) in std::mem::take(&mut self.cuts).into_keys() {
            self.cluster.cut(from, to, false);
        }
        for node in std::mem::take(&mut self.hidden).into_keys() {
            self.hide(node, false);
        }
        for node in 0..self.cluster.size() {
            self.cluster.slow_disk(node, 1);
            self.cluster.resume(node);
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
