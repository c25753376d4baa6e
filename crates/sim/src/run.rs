//! One run: start, safety phase with faults and load, liveness phase, last reads, verdict.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use madsim::runtime::{Handle, NodeHandle};
use quorate_client::Client;
use quorate_topology::Topology;
use quorate_types::GroupId;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::beside::{Beside, Closed};
use crate::churn::{Churn, OPERATORS};
use crate::cluster::Cluster;
use crate::failover::Failover;
use crate::faults::schedule;
use crate::history::{History, Outcome};
use crate::last_reads::{Found, LastReads};
use crate::nemesis::Nemesis;
use crate::options::{Options, Scenario};
use crate::places::{Place, client_ip, places};
use crate::resender::Resender;
use crate::serializability::Transactions;
use crate::trace::Trace;
use crate::verdict::judge;
use crate::windows::{self, Window};
use crate::workload::{Ending, Recorder, Worker};

/// Fewer acknowledged calls than this prove nothing.
const APPLIED_MIN: u64 = 100;
/// How often making a client is tried.
const BUILDS_MAX: usize = 20;

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Report {
    /// Everything that is wrong; empty if the run passed.
    pub wrong: Vec<String>,
    /// Numbers to print.
    pub counts: Vec<(&'static str, u64)>,
    /// The hash of what happened.
    pub trace: u64,
    /// What was asked and answered.
    pub history: History,
    /// The transactions over lists, and the names of these.
    pub lists: (Transactions, Vec<String>),
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, count) in &self.counts {
            write!(f, "{name}={count} ")?;
        }
        write!(f, "trace={:016x}", self.trace)
    }
}

/// Runs a seed inside the simulator. `is_shown` prints what happens.
pub async fn run(options: Options, topology: Arc<Topology>, is_shown: bool) -> Report {
    let trace = Trace::new(is_shown);
    let recorder = Recorder::new(trace.clone());
    let places = Arc::new(places(&topology, options.registers));
    let mut cluster = Cluster::start(&options, &topology);
    let admin = machine("admin", client_ip(options.clients));
    let admin_client = client(&admin, &topology, &options).await;

    let ending = Ending::default();
    let beside = Beside::new(&topology, &places, &trace);
    let beside = open(beside, options.scenario, &admin, &admin_client).await;
    let load = Load {
        beside: beside.clone(),
        options: options.clone(),
        topology: Arc::clone(&topology),
        recorder: recorder.clone(),
        places: Arc::clone(&places),
        ending: ending.clone(),
    };
    let mut machines = Vec::new();
    let mut workers = Vec::new();
    for number in 0..options.clients {
        let machine = machine(&format!("client-{}", number + 1), client_ip(number));
        workers.push(machine.spawn(load.clone().run(number)));
        machines.push(machine);
    }
    let again = machine("resender", client_ip(options.clients + 1));
    let resender = Resender::new(options.seed, Arc::clone(&topology), recorder.clone(), &places);
    let resending = again.spawn(resender.run(ending.clone()));
    machines.push(again);
    let watching = admin.spawn(windows::watch(admin_client.clone(), trace.clone(), ending.clone()));
    let stage = Stage { options: &options, admin: &admin, client: &admin_client, trace: &trace };
    let (faults, mut wrong) = if options.scenario == Scenario::Failover {
        stage.fail_over(&mut cluster, recorder.clone(), &places).await
    } else {
        (stage.break_things(&mut cluster, &machines, &ending).await, Vec::new())
    };
    ending.set();
    let resent = resending.await.unwrap_or_else(|error| panic!("the resender ended: {error}"));

    let last = LastReads::new(&admin_client, recorder.clone(), &options);
    let looking = look(&admin, last, workers, Arc::clone(&places), options.clone(), trace.clone());
    // Damage that nobody met before is met now: everything is read.
    let found = cluster.supervise(looking).await;
    let mut found = found.unwrap_or_else(|error| panic!("the last reads ended: {error}"));

    let seen = watching.await.unwrap_or_else(|error| panic!("the watch ended: {error}"));
    stage.judge_windows(seen, &mut found).await;
    let history = recorder.history();
    let judged = judge(&history, &places, &found.ledgers);
    wrong.append(&mut found.wrong);
    wrong.extend(judged.wrong);
    wrong.extend(resent.wrong);
    let closed = close(beside, &options, &admin, &admin_client).await;
    wrong.extend(closed.wrong);
    let mut counts = count(&history);
    let applied = counts.iter().find(|(name, _)| *name == "applied").map_or(0, |(_, count)| *count);
    if applied < APPLIED_MIN {
        wrong.push(format!("only {applied} calls were acknowledged: nothing was tested"));
    }
    counts.push(("checks-agreed", judge_checks(&cluster, &mut wrong)));
    counts.push(("starts", cluster.starts()));
    let (logs, rows) = cluster.repaired();
    counts.extend([("repaired-logs", logs), ("repaired-rows", rows)]);
    counts.push(("repeated", resent.repeated));
    counts.extend(closed.counts);
    counts.extend(faults);
    counts.extend(cluster.network().counts());
    counts.extend(found.counts());
    counts.push(("events", trace.events()));
    counts.push(("virtual-ms", trace.now() / 1_000_000));
    let report = Report { wrong, counts, trace: trace.hash(), history, lists: closed.lists };
    drop(admin_client);
    // Tasks that are alive when the runtime ends are never dropped.
    for machine in machines.iter().chain([&admin]) {
        Handle::current().kill(machine.id());
    }
    cluster.end().await;
    report
}

/// Who breaks things, and where from.
struct Stage<'a> {
    options: &'a Options,
    /// The machine of the administrator.
    admin: &'a NodeHandle,
    /// A client made on it.
    client: &'a Client,
    trace: &'a Trace,
}

/// How often each kind of thing happened.
type Counts = Vec<(&'static str, u64)>;

impl Stage<'_> {
    /// One fault after the other, with the gap of each, and what is wrong.
    async fn fail_over(
        &self,
        cluster: &mut Cluster,
        recorder: Recorder,
        places: &[Place],
    ) -> (Counts, Vec<String>) {
        let (client, trace) = (self.client.clone(), self.trace.clone());
        let failover = Failover { cluster, machine: self.admin, client, recorder, trace };
        let gaps = failover.run(self.options, places).await;
        (gaps.gaps, gaps.wrong)
    }

    /// The faults of the schedule, while operators change members.
    async fn break_things(
        &self,
        cluster: &mut Cluster,
        machines: &[NodeHandle],
        ending: &Ending,
    ) -> Counts {
        let Stage { options, admin, client, trace } = *self;
        let groups: Vec<GroupId> = client.topology().groups().map(|group| group.id).collect();
        let schedule = schedule(options, cluster.size(), &groups);
        let (interrupt, interruptions) = mpsc::unbounded_channel();
        let mut operators = Vec::new();
        for number in 0..if options.has_churn { OPERATORS } else { 0 } {
            let (client, interrupt) = (client.clone(), interrupt.clone());
            let churn = Churn::new(number, options, client, interrupt, trace.clone());
            operators.push(admin.spawn(churn.run(ending.clone())));
        }
        let nemesis = Nemesis::new(cluster, machines, admin, client.clone(), trace, interruptions);
        let faults = nemesis.run(schedule, options.safety).await;
        ending.set();
        let mut changes: BTreeMap<&'static str, u64> = BTreeMap::new();
        for operator in operators {
            let began = operator.await.unwrap_or_else(|error| panic!("an operator ended: {error}"));
            for (what, count) in began {
                *changes.entry(what).or_default() += count;
            }
        }
        faults.into_iter().chain(changes).collect()
    }

    /// Compares the windows that were seen with the loss ledgers, if all groups are whole again.
    async fn judge_windows(&self, seen: BTreeSet<Window>, found: &mut Found) {
        if !found.wrong.is_empty() {
            return;
        }
        let judging = windows::judge(self.client.clone(), seen, self.options.recovery_max);
        let windows = self.admin.spawn(judging).await;
        let windows = windows.unwrap_or_else(|error| panic!("the windows ended: {error}"));
        found.windows = windows.recorded;
        found.wrong.extend(windows.wrong);
    }
}

fn machine(name: &str, ip: IpAddr) -> NodeHandle {
    Handle::current().create_node().name(name).ip(ip).build()
}

/// A client that lives on a machine.
async fn client(machine: &NodeHandle, topology: &Arc<Topology>, options: &Options) -> Client {
    let making = machine.spawn(make_client(Arc::clone(topology), options.clone(), 0));
    making.await.unwrap_or_else(|error| panic!("no client: {error}"))
}

/// A client beside the node of this number, or beside the first ones again.
async fn make_client(topology: Arc<Topology>, options: Options, number: u32) -> Client {
    let endpoints: Vec<&str> = topology.nodes().map(|node| node.client.as_str()).collect();
    let builder = Client::builder(endpoints.join(","))
        .connect_timeout(Duration::from_secs(1))
        .request_timeout(options.request_timeout)
        .attempt_timeout(options.attempt_timeout);
    let beside = topology.nodes().cycle().nth(number as usize).expect("a cluster has nodes");
    let builder = builder.near(beside.idc.clone());
    let mut last = None;
    for _ in 0..BUILDS_MAX {
        match builder.clone().build().await {
            Ok(client) => return client,
            Err(error) => last = Some(error),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    panic!("a client cannot be made although nothing is broken: {last:?}");
}

/// What runs beside, with money in it. Failover is measured without: it waits for nobody's locks.
async fn open(
    beside: Beside,
    scenario: Scenario,
    admin: &NodeHandle,
    client: &Client,
) -> Option<Beside> {
    if scenario == Scenario::Failover {
        return None;
    }
    let (opened, client) = (beside.clone(), client.clone());
    let opening = admin.spawn(async move {
        for _ in 0..BUILDS_MAX {
            if opened.open(&client).await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        panic!("a bank cannot be opened although nothing is broken");
    });
    opening.await.unwrap_or_else(|error| panic!("no bank: {error}"));
    Some(beside)
}

/// What it says at the end.
async fn close(
    beside: Option<Beside>,
    options: &Options,
    admin: &NodeHandle,
    client: &Client,
) -> Closed {
    let Some(beside) = beside else { return Closed::default() };
    let (client, patience) = (client.clone(), options.recovery_max);
    let closing = admin.spawn(async move { beside.close(&client, patience).await });
    closing.await.unwrap_or_else(|error| panic!("closing ended: {error}"))
}

/// What every client machine is told.
#[derive(Clone)]
struct Load {
    beside: Option<Beside>,
    options: Options,
    topology: Arc<Topology>,
    recorder: Recorder,
    places: Arc<Vec<Place>>,
    ending: Ending,
}

impl Load {
    /// Runs the workers of client machine `number`; ends with the last of them.
    async fn run(self, number: u32) {
        let Load { beside, options, topology, recorder, places, ending } = self;
        let client = make_client(Arc::clone(&topology), options.clone(), number).await;
        let mut workers = Vec::new();
        if let Some(beside) = beside {
            let clients =
                [client.clone(), make_client(topology, options.clone(), number + 1).await];
            let running = beside.run(options.clone(), number, clients, ending.clone());
            workers.push(tokio::spawn(running));
        }
        for worker in 0..options.workers {
            let process = number * options.workers + worker + 1;
            let (client, recorder) = (client.clone(), recorder.clone());
            let worker = Worker::new(&options, process, client, recorder, Arc::clone(&places));
            workers.push(tokio::spawn(worker.run(ending.clone())));
        }
        for worker in workers {
            worker.await.unwrap_or_else(|error| panic!("a worker ended: {error}"));
        }
    }
}

/// The liveness phase and the last reads, on the machine of the administrator.
fn look(
    admin: &NodeHandle,
    last: LastReads,
    workers: Vec<JoinHandle<()>>,
    places: Arc<Vec<Place>>,
    options: Options,
    trace: Trace,
) -> JoinHandle<Found> {
    admin.spawn(async move {
        let mut found = Found::default();
        last.recovered(&places, &mut found).await;
        for worker in workers {
            worker.await.unwrap_or_else(|error| panic!("a client ended: {error}"));
        }
        if found.wrong.is_empty() {
            last.settled(&options, &trace, &mut found).await;
        }
        if found.wrong.is_empty() {
            last.agreed(&options, &mut found).await;
            last.read_every_replica(&places, &mut found).await;
        }
        found
    })
}

/// Says how many checks found the same everywhere; one that did not is wrong.
fn judge_checks(cluster: &Cluster, wrong: &mut Vec<String>) -> u64 {
    let checks = cluster.checks();
    if 0 < checks.differed {
        wrong.push(format!("{} checks found replicas with different rows", checks.differed));
    }
    checks.agreed
}

fn count(history: &History) -> Vec<(&'static str, u64)> {
    let mut counts: BTreeMap<&'static str, u64> = BTreeMap::new();
    for operation in history.operations() {
        let word = match operation.outcome {
            Outcome::Applied(_) => "applied",
            Outcome::NotApplied { is_refusal: true, .. } => "conditions-failed",
            Outcome::NotApplied { .. } => "not-applied",
            Outcome::Unknown => "unknown",
        };
        *counts.entry(word).or_default() += 1;
    }
    let asked = ("asked", history.operations().len() as u64);
    std::iter::once(asked).chain(counts).collect()
}
