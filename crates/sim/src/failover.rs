//! How long is a group without writes when one thing fails? One fault after the other, each at the
//! leader of a group on an otherwise healthy cluster, and the longest gap between acknowledged writes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use madsim::runtime::NodeHandle;
use quorate_client::Client;
use quorate_types::{GroupId, NodeId, ReplicaKind};
use rand::Rng;
use rand::rngs::SmallRng;
use tokio::time::Instant;

use crate::cluster::{Cluster, Death};
use crate::faults::STALLED;
use crate::history::Outcome;
use crate::options::Options;
use crate::places::Place;
use crate::random::{Draw, random};
use crate::settle::is_settled;
use crate::trace::Trace;
use crate::workload::{Recorder, append};

/// How long a fault lasts, at least.
const FAULT: Duration = Duration::from_secs(6);
/// A disk hangs long enough for its node to give up.
const STALL: Duration = Duration::from_secs(24);
/// Longest wait for a group to be led by a healthy cluster.
const CALM_MAX: Duration = Duration::from_secs(20);
/// What a group may take beyond its lease, and half of it once more, after its leader was killed.
const KILL_SLACK: Duration = Duration::from_secs(1);
/// What it may take beyond three leases when its leader only half works.
const GRAY_SLACK: Duration = Duration::from_secs(2);
/// Between two writes of the prober.
const PROBE_EVERY: Duration = Duration::from_millis(10);
/// Numbers of the prober.
const PROCESS: u32 = 800;

/// What happens to the leader of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Kill,
    PowerCut,
    Pause,
    DiskStall,
    /// Nobody hears it.
    CutOut,
    /// It hears nobody.
    CutIn,
    /// Only one other node reaches everybody.
    HubOnly,
    /// A follower comes and goes.
    Flap,
    /// Its disk has less room than the reserve.
    DiskFull,
}

impl Fault {
    const ALL: [Fault; 9] = [
        Fault::Kill,
        Fault::PowerCut,
        Fault::Pause,
        Fault::DiskStall,
        Fault::CutOut,
        Fault::CutIn,
        Fault::HubOnly,
        Fault::Flap,
        Fault::DiskFull,
    ];

    fn word(self) -> &'static str {
        match self {
            Fault::Kill => "kill-gap-ms",
            Fault::PowerCut => "power-cut-gap-ms",
            Fault::Pause => "pause-gap-ms",
            Fault::DiskStall => "disk-stall-gap-ms",
            Fault::CutOut => "cut-out-gap-ms",
            Fault::CutIn => "cut-in-gap-ms",
            Fault::HubOnly => "hub-only-gap-ms",
            Fault::Flap => "flap-gap-ms",
            Fault::DiskFull => "disk-full-gap-ms",
        }
    }

    /// The longest gap that is no violation: 2.5 s and 5 s with the lease of 1 s of the profile `lan`.
    fn limit(self, lease: Duration) -> Duration {
        match self {
            Fault::Kill | Fault::PowerCut => lease * 3 / 2 + KILL_SLACK,
            Fault::Pause
            | Fault::DiskStall
            | Fault::CutOut
            | Fault::CutIn
            | Fault::HubOnly
            | Fault::Flap
            | Fault::DiskFull => lease * 3 + GRAY_SLACK,
        }
    }
}

/// Gaps by fault, and what is wrong.
#[derive(Clone, Debug, Default)]
pub struct Gaps {
    /// The gap of each fault, in milliseconds.
    pub gaps: Vec<(&'static str, u64)>,
    /// Gaps above the limit, groups without a leader.
    pub wrong: Vec<String>,
}

/// Who makes things fail and looks.
pub struct Failover<'a> {
    /// The servers.
    pub cluster: &'a mut Cluster,
    /// The machine of the prober.
    pub machine: &'a NodeHandle,
    /// A client made on it.
    pub client: Client,
    /// Where its writes are noted.
    pub recorder: Recorder,
    /// The trace.
    pub trace: Trace,
}

impl Failover<'_> {
    /// Every fault once, in the order of the seed.
    pub async fn run(mut self, options: &Options, places: &[Place]) -> Gaps {
        let lease = self.client.topology().lease().length().unwrap_or(Duration::from_secs(1));
        // Two replicas and an arbiter wait for the one that is away before they go on without it.
        let aside = if options.has_arbiter { options.suspend_after } else { Duration::ZERO };
        let mut rng = random(options.seed, Draw::Faults);
        let ledgers: Vec<Place> = places.iter().filter(|it| it.is_ledger).cloned().collect();
        let mut faults = Fault::ALL.to_vec();
        let mut gaps = Gaps::default();
        let mut row = u64::from(PROCESS) * 1_000_000;
        while !faults.is_empty() {
            let fault = faults.swap_remove(rng.random_range(0..faults.len()));
            let place = ledgers[rng.random_range(0..ledgers.len())].clone();
            let Some(leader) = self.calm_leader(place.group).await else {
                gaps.wrong.push(format!("{} has no leader before {fault:?}", place.group));
                return gaps;
            };
            row += 100_000;
            self.trace.event(&format!("{fault:?} at leader {leader} of {}", place.group));
            let probe = self.probe(&place, row);
            tokio::time::sleep(Duration::from_millis(rng.random_range(300..800))).await;
            self.fail(fault, leader, place.group, &mut rng, &mut gaps).await;
            let gap = probe.end().await;
            gaps.gaps.push((fault.word(), u64::try_from(gap.as_millis()).unwrap_or(u64::MAX)));
            if fault.limit(lease) + aside < gap {
                let group = place.group;
                gaps.wrong.push(format!("{group} took no write for {gap:?} after {fault:?}"));
            }
        }
        gaps
    }

    /// The server that leads a group, once every server is up and serves or follows.
    async fn calm_leader(&mut self, group: GroupId) -> Option<usize> {
        let started = Instant::now();
        while started.elapsed() < CALM_MAX {
            tokio::time::sleep(Duration::from_millis(200)).await;
            let nodes: Vec<NodeId> =
                (0..self.cluster.size()).map(|index| self.cluster.node(index)).collect();
            let client = self.client.clone();
            let asking = self.machine.spawn(async move { client.cluster_status().await });
            let reports = asking.await.unwrap_or_default();
            let statuses: Vec<_> =
                reports.into_iter().filter_map(|report| report.status.ok()).collect();
            let logs =
                statuses.iter().filter(|it| self.has(it.node, group, ReplicaKind::keeps_log));
            let all = logs.flat_map(|status| &status.groups);
            let slots: Vec<_> =
                all.filter(|it| it.group == group).map(|it| it.slot_committed).collect();
            // All are there and none is far behind: the fault meets a healthy group.
            let lag = slots
                .iter()
                .max()
                .map_or(0, |most| most.0 - slots.iter().min().map_or(0, |least| least.0));
            let serves = |status: &&quorate_client::NodeStatus| {
                status.groups.iter().any(|it| it.group == group && it.serving)
            };
            let leader = statuses.iter().find(serves).map(|status| status.node);
            let is_calm = statuses.len() == nodes.len()
                && lag < 100
                && Duration::from_secs(3) < started.elapsed()
                && self.is_settled(group).await;
            if let Some(leader) = leader.filter(|_| is_calm) {
                return nodes.iter().position(|node| *node == leader);
            }
        }
        None
    }

    async fn is_settled(&self, group: GroupId) -> bool {
        let client = self.client.clone();
        let asking = self.machine.spawn(async move { client.members(group).await });
        let answer = asking.await.unwrap_or_else(|error| panic!("the prober ended: {error}"));
        answer.is_ok_and(|members| is_settled(&members))
    }

    async fn fail(
        &mut self,
        fault: Fault,
        leader: usize,
        group: GroupId,
        rng: &mut SmallRng,
        gaps: &mut Gaps,
    ) {
        let size = self.cluster.size();
        let other = (leader + rng.random_range(1..size)) % size;
        let others = |of: usize| (0..size).filter(move |it| *it != of);
        match fault {
            Fault::Kill | Fault::PowerCut => {
                let death = if fault == Fault::Kill { Death::Kill } else { Death::PowerCut };
                self.cluster.stop(leader, death);
                tokio::time::sleep(FAULT).await;
                self.cluster.restart(leader).await;
            }
            Fault::Pause => {
                self.cluster.pause(leader);
                tokio::time::sleep(FAULT).await;
                self.cluster.resume(leader);
            }
            Fault::DiskStall => {
                self.cluster.slow_disk(leader, STALLED);
                tokio::time::sleep(STALL).await;
                self.cluster.slow_disk(leader, 1);
                // By now it has given up, as its supervisor sees.
                if self.cluster.restart_those_that_gave_up().await == 0 {
                    panic!("a node whose disk hung for {STALL:?} still runs");
                }
            }
            Fault::CutOut => {
                self.cut_for(FAULT, others(leader).map(|it| (leader, it)).collect()).await;
            }
            Fault::CutIn => {
                self.cut_for(FAULT, others(leader).map(|it| (it, leader)).collect()).await;
            }
            Fault::HubOnly => {
                // A hub that keeps only the log cannot lead, and nobody else reaches a majority.
                let candidates = (0..size).map(|n| (other + n) % size).filter(|it| *it != leader);
                let hub = candidates.into_iter().find(|it| self.may_lead(*it, group));
                let hub = hub.expect("a group has more than one that may lead");
                let pairs = others(hub).flat_map(|a| others(hub).map(move |b| (a, b)));
                self.cut_for(FAULT, pairs.filter(|(a, b)| a != b).collect()).await;
            }
            Fault::DiskFull => {
                self.cluster.fill_disk(leader, true);
                tokio::time::sleep(FAULT).await;
                // No gap alone would also be seen where nobody notices that a disk is full.
                if self.serves(leader, group).await {
                    let node = self.cluster.node(leader);
                    gaps.wrong.push(format!("{node} leads {group} without room"));
                }
                self.cluster.fill_disk(leader, false);
            }
            Fault::Flap => {
                let links: Vec<_> =
                    others(other).flat_map(|it| [(it, other), (other, it)]).collect();
                for _ in 0..10 {
                    self.cut_for(Duration::from_millis(rng.random_range(100..900)), links.clone())
                        .await;
                    tokio::time::sleep(Duration::from_millis(rng.random_range(50..500))).await;
                }
            }
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
    }

    fn may_lead(&self, node: usize, group: GroupId) -> bool {
        self.has(self.cluster.node(node), group, ReplicaKind::may_lead)
    }

    /// True if a node has a member of a group, of a kind that does this.
    fn has(&self, node: NodeId, group: GroupId, does: fn(ReplicaKind) -> bool) -> bool {
        let topology = self.client.topology();
        let group = topology.group(group).expect("it is one of the cluster's");
        group.member_on(node).is_some_and(|member| does(member.kind))
    }

    async fn serves(&self, node: usize, group: GroupId) -> bool {
        let node = self.cluster.node(node);
        let client = self.client.clone();
        let asking = self.machine.spawn(async move { client.cluster_status().await });
        let reports = asking.await.unwrap_or_default();
        let mut statuses = reports.into_iter().filter_map(|report| report.status.ok());
        let status = statuses.find(|status| status.node == node);
        status.is_some_and(|it| it.groups.iter().any(|it| it.group == group && it.serving))
    }

    async fn cut_for(&mut self, span: Duration, links: Vec<(usize, usize)>) {
        for (from, to) in &links {
            self.cluster.cut(*from, *to, true);
        }
        tokio::time::sleep(span).await;
        for (from, to) in &links {
            self.cluster.cut(*from, *to, false);
        }
    }

    /// Writes one row after the other until told to end.
    fn probe(&self, place: &Place, first_row: u64) -> Probe {
        let (client, recorder, place) = (self.client.clone(), self.recorder.clone(), place.clone());
        let state = Arc::new(ProbeState::new());
        let shared = Arc::clone(&state);
        let task = self.machine.spawn(async move {
            let mut row = first_row;
            while !shared.is_over() {
                row += 1;
                let written = append(&recorder, PROCESS, &client, &place, row).await;
                if matches!(written, Outcome::Applied(_)) {
                    shared.acknowledged();
                }
                tokio::time::sleep(PROBE_EVERY).await;
            }
        });
        Probe { state, task }
    }
}

/// The time of the last acknowledged write, the longest gap so far, and whether it is over.
struct ProbeState(Mutex<(Instant, Duration, bool)>);

impl ProbeState {
    fn new() -> ProbeState {
        ProbeState(Mutex::new((Instant::now(), Duration::ZERO, false)))
    }

    fn lock(&self) -> MutexGuard<'_, (Instant, Duration, bool)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_over(&self) -> bool {
        self.lock().2
    }

    fn acknowledged(&self) {
        let (last, gap, _) = &mut *self.lock();
        let now = Instant::now();
        *gap = (*gap).max(now - *last);
        *last = now;
    }
}

/// A prober at work.
struct Probe {
    state: Arc<ProbeState>,
    task: tokio::task::JoinHandle<()>,
}

impl Probe {
    /// Ends it and says the longest time between two acknowledged writes.
    async fn end(self) -> Duration {
        self.state.lock().2 = true;
        self.task.await.unwrap_or_else(|error| panic!("the prober ended: {error}"));
        let (last, gap, _) = *self.state.lock();
        gap.max(last.elapsed())
    }
}
