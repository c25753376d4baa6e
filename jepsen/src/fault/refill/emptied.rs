//! A node whose data folder is emptied fetches gigabytes of rows again, and callers should hardly notice.
//!
//! One group is filled. A load of small requests at a fixed rate is measured while nothing else happens, while
//! a node is down, and from its start with an empty folder until its replicas of all groups vote and have
//! everything. How much longer the slowest hundredth of requests takes meanwhile is what the run is judged by.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use quorate_client::{GroupId, Slot};
use serde_json::{Value, json};

use super::FAULT;
use crate::Failure;
use crate::cluster::{Cluster, Node};
use crate::fault::Order;
use crate::fill::{Fill, gigabytes, mb_per_s};
use crate::foreground::{self, Foreground, Measured, p99_ratio};
use crate::health::{connect, leaders};
use crate::output::Arrival;
use crate::report::{Outcome, ms, seconds};
use crate::room::{self, Folders, Peak, Sizes};
use crate::trial::{Setup, Trial};
use crate::verify::verify;
use crate::workload::Load;

/// The group that is filled; its leader order begins with the first node.
const FILLED: u32 = 1;
/// The p99 may be so many times longer while a node is filled again.
const RATIO_MAX: f64 = 2.0;
/// How long the node is down.
const DOWN: Duration = Duration::from_secs(5);
/// How long the load is measured once all is over.
const AFTER: Duration = Duration::from_secs(10);
/// Under the load nodes flush what they hold in memory within this, and rewrite files because of that: what the filling
/// has left behind must not pass for what they do by themselves.
const SETTLES: Duration = Duration::from_secs(70);
/// Nodes are quiet whose files grow by less than this a second, all together,
const QUIET_BYTES_PER_S: u64 = 1_000_000;
/// for so many seconds.
const QUIET_S: u32 = 3;
/// They may take so long for it.
const QUIET_PATIENCE: Duration = Duration::from_secs(300);
/// For a leadership to be where the cluster file wants it.
const HOME_PATIENCE: Duration = Duration::from_secs(60);
/// The emptied node may take so long, and as much longer as its rows take at the rate below.
const PATIENCE: Duration = Duration::from_secs(120);
const SLOWEST_BYTES_PER_S: u64 = 2_000_000;
/// Between two looks at the emptied node.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// No checks of rows by themselves; one is asked for at the end. A machine of its own for each node, as far as
/// memory goes.
const ARGUMENTS: [&str; 2] = ["--check-interval", "never"];
/// How long replicas may take to compare their rows.
const CHECK_WAIT: &str = "280s";

/// Fills, empties, measures.
pub(super) async fn run(order: Order<'_>, wanted: f64) -> Result<Outcome, Failure> {
    let Order { options, folder, seed } = order;
    let bytes = (wanted * 1e9) as u64;
    let mut setup = Setup::new(options, folder)?;
    room::check(folder, bytes)?;
    setup.cluster.set_profile("normal");
    setup.cluster.set_arguments(&ARGUMENTS);
    let data = if options.keep { Vec::new() } else { setup.cluster.data_folders() };
    let _folders = Folders(data); // Dropped after the trial.
    let peak = Peak::watch(folder.to_owned());
    let none = Load { writers: 0, adders: 0, counters: 0, pause_max: Duration::ZERO };
    let mut trial = Trial::start(setup, none, seed).await?;

    let fill = Fill::new(&trial.client, FILLED, bytes, seed);
    let filling = Instant::now();
    fill.write(&trial.client).await?;
    let filled = filling.elapsed();
    println!(
        "  {} GB in {} rows written in {} s, {:.0} MB/s",
        gigabytes(fill.bytes()),
        fill.rows(),
        seconds(filled),
        mb_per_s(fill.bytes(), filled)
    );
    wait_quiet(&trial.cluster).await?;
    let node = node_that_leads_nothing(&trial).await?;

    let (client, ledger) = (trial.client.clone(), &trial.ledger);
    let load = Foreground::start(&client, ledger, options.rate, "settling").await?;
    tokio::time::sleep(SETTLES).await;
    wait_quiet(&trial.cluster).await?;
    load.turn_to("before")?;
    tokio::time::sleep(Duration::from_secs(options.measure_s)).await;
    load.turn_to("down")?;
    trial.cluster.kill(&[node])?;
    trial.struck(false);
    std::fs::remove_dir_all(trial.cluster.data(node))?;
    tokio::time::sleep(DOWN).await;
    load.turn_to("during")?;
    trial.cluster.start(&[node])?;
    let refilled = wait_refilled(&mut trial, node, fill.bytes()).await?;
    let written = trial.cluster.written_bytes(node)?;
    load.turn_to("after")?;
    tokio::time::sleep(AFTER).await;
    let spans = load.end().await?;

    println!("  {}", refilled.words(node));
    println!("  {}", foreground::TITLES);
    spans.iter().for_each(|span| println!("  {}", span.line()));
    let ratios = Ratios::of(&spans)?;
    println!("  {}", ratios.words());
    if let Some(wrong) = ratios.wrong() {
        trial.note_wrong(wrong);
    }
    if let Some(wrong) = replicas_that_differ(&trial.cluster).await? {
        trial.note_wrong(wrong);
    }
    let checker = connect(&trial.cluster).await?;
    let found = fill.compare(&checker).await?;
    let mut random = trial.random.clone();
    let others =
        verify(&checker, &trial.ledger, foreground::uids(), std::iter::empty(), &mut random)
            .await?;
    [found, others].iter().for_each(|found| trial.note_compared(found));
    checker.close().await;
    client.close().await;
    println!("  at most {} GB on the disk", gigabytes(peak.most()));
    let facts = json!({
        "gigabytes": fill.bytes() as f64 / 1e9, "rows": fill.rows(),
        "filled_ms": ms(filled), "rate_per_s": options.rate, "node": node.to_string(),
        "refilled": refilled.json(), "node_written_bytes": written,
        "spans": spans.iter().map(|span| (span.name.to_owned(), span.json())).collect::<serde_json::Map<_, _>>(),
        "p99_ratio": { "writes": ratios.writes, "reads": ratios.reads },
        "peak_disk_bytes": peak.most(),
    });
    trial.finish(FAULT, 1, facts).await
}

/// How many times longer the p99s are while the node is filled again.
struct Ratios {
    writes: f64,
    reads: f64,
}

impl Ratios {
    fn of(spans: &[Measured]) -> Result<Ratios, Failure> {
        let span = |name| spans.iter().find(|span| span.name == name).ok_or("a span is missing");
        let (before, during) = (span("before")?, span("during")?);
        Ok(Ratios {
            writes: p99_ratio(&before.writes, &during.writes),
            reads: p99_ratio(&before.reads, &during.reads),
        })
    }

    fn words(&self) -> String {
        let Ratios { writes, reads } = self;
        format!("p99 during is that of before times {writes:.2} for writes, {reads:.2} for reads")
    }

    fn wrong(&self) -> Option<String> {
        let is_wrong = RATIO_MAX < self.writes.max(self.reads);
        is_wrong.then(|| format!("{}; more than {RATIO_MAX} is too much", self.words()))
    }
}

/// What became of the emptied node, in time from its start.
#[derive(Default)]
struct Refilled {
    /// The first rows of the filled group are asked for.
    begun: Duration,
    /// All are there.
    arrived: Duration,
    /// They count.
    switched: Duration,
    /// All groups have everything, and vote.
    whole: Duration,
    /// Bytes of the rows of the filled group, as they were sent.
    bytes: u64,
}

impl Refilled {
    fn words(&self, node: Node) -> String {
        let took = self.arrived.saturating_sub(self.begun);
        format!(
            "{node} was sent {} GB in {} s, {:.0} MB/s; they counted after {} s, and it was whole {} s after \
             its start",
            gigabytes(self.bytes),
            seconds(took),
            mb_per_s(self.bytes, took),
            seconds(self.switched.saturating_sub(self.arrived)),
            seconds(self.whole)
        )
    }

    fn json(&self) -> Value {
        let took = self.arrived.saturating_sub(self.begun);
        json!({
            "bytes": self.bytes, "stream_ms": ms(took), "mb_per_s": mb_per_s(self.bytes, took),
            "began_after_ms": ms(self.begun), "switch_ms": ms(self.switched.saturating_sub(self.arrived)),
            "whole_after_ms": ms(self.whole),
        })
    }
}

/// Waits until the replicas of all groups on a node vote and have what their leaders have.
async fn wait_refilled(trial: &mut Trial, node: Node, bytes: u64) -> Result<Refilled, Failure> {
    let began = Instant::now();
    let patience = PATIENCE + Duration::from_secs(bytes / SLOWEST_BYTES_PER_S);
    let mut refilled = Refilled::default();
    let mut steps = BTreeSet::new();
    loop {
        if let Some(ended) = trial.cluster.ended()? {
            return Err(ended.into());
        }
        for (group, arrival) in trial.cluster.arrivals(node)? {
            if group != FILLED || !steps.insert(arrival.number()) {
                continue;
            }
            let after = began.elapsed();
            match arrival {
                Arrival::Begun => refilled.begun = after,
                Arrival::Here { bytes } => (refilled.arrived, refilled.bytes) = (after, bytes),
                Arrival::Counts => refilled.switched = after,
            }
        }
        let why = match steps.contains(&Arrival::Counts.number()) {
            false => Some("its rows are on their way".to_owned()),
            true => lacking(trial, node).await,
        };
        let Some(why) = why else {
            refilled.whole = began.elapsed();
            return Ok(refilled);
        };
        if patience < began.elapsed() {
            return Err(format!("{node} is not whole within {patience:?}: {why}").into());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// What a node lacks to be a member of all groups again that has what its leaders have.
async fn lacking(trial: &Trial, node: Node) -> Option<String> {
    let committed = match voting(trial, node).await {
        Ok(committed) => committed,
        Err(why) => return Some(why),
    };
    // What leaders had logged above is applied by now, or a moment later.
    let client = &trial.client;
    let status = client.node_status(&trial.cluster.address(node)).await;
    let applied = |group: GroupId| {
        let groups = &status.as_ref().ok()?.groups;
        groups.iter().find(|it| it.group == group).map(|it| it.slot_applied)
    };
    let behind = committed.into_iter().find(|(group, slot)| applied(*group) < Some(*slot));
    behind.map(|(group, slot)| format!("{group} has not applied slot {slot}"))
}

/// How far the logs of all groups went a moment ago, if a node votes in all and has their rows; otherwise why not.
pub(super) async fn voting(trial: &Trial, node: Node) -> Result<Vec<(GroupId, Slot)>, String> {
    let (client, mut committed) = (&trial.client, Vec::new());
    let groups: Vec<GroupId> = client.topology().groups().map(|group| group.id).collect();
    for group in groups {
        let members = client.members(group).await.map_err(|error| error.to_string())?;
        let is_settled = members.chosen && !members.changing && members.members.len() == 3;
        let here = members.on(node.id());
        let votes = here.is_some_and(|it| it.role.word() == "voter" && it.fit && !it.refilling);
        if !is_settled || !votes {
            return Err(format!("{group} has the members {:?}", members.members));
        }
        committed.push((group, members.slot_last));
    }
    Ok(committed)
}

/// The node whose death moves no leadership.
async fn node_that_leads_nothing(trial: &Trial) -> Result<Node, Failure> {
    let deadline = Instant::now() + HOME_PATIENCE;
    loop {
        let leaders = leaders(&trial.client).await;
        let is_led = leaders.len() == trial.client.topology().groups().count();
        let idle = Node::ALL.into_iter().rfind(|node| !leaders.values().any(|it| it == node));
        match idle {
            Some(node) if is_led => return Ok(node),
            _ if deadline < Instant::now() => return Err("every node leads a group".into()),
            _ => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
}

/// Waits until files are rewritten no more: what the load meets then is what it brings about itself.
async fn wait_quiet(cluster: &Cluster) -> Result<(), Failure> {
    let (deadline, mut quiet) = (Instant::now() + QUIET_PATIENCE, 0);
    let folders = cluster.data_folders();
    let mut before = Sizes::of(&folders);
    while quiet < QUIET_S {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = Sizes::of(&folders);
        quiet = if now.since(&before) < QUIET_BYTES_PER_S { quiet + 1 } else { 0 };
        before = now;
        if deadline < Instant::now() {
            return Err(format!("nodes still write files after {QUIET_PATIENCE:?}").into());
        }
    }
    Ok(())
}

/// Has all replicas compare their rows, as an operator does. Says what is not as it should be.
async fn replicas_that_differ(cluster: &Cluster) -> Result<Option<String>, Failure> {
    let command = cluster.operator();
    let check = move || {
        let words = ["group", "check", "--all", "--wait", CHECK_WAIT, "-o", "json"];
        command().args(words).output()
    };
    let output = tokio::task::spawn_blocking(check).await??;
    let document: Value = serde_json::from_slice(&output.stdout)?;
    let mut wrong = String::new();
    for group in document["items"].as_array().into_iter().flatten() {
        let replicas = group["replicas"].as_array().map_or(&[][..], Vec::as_slice);
        let agree = replicas.iter().filter(|replica| replica["state"] == "agrees").count();
        if agree != Node::ALL.len() || group["has_majority"] != true {
            let _written = write!(wrong, "; {}: {}", group["label"], group["replicas"]);
        }
    }
    if !output.status.success() {
        let _written = write!(wrong, "; {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok((!wrong.is_empty())
        .then(|| format!("replicas were found to differ, or not compared{wrong}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_ratio_fails_a_run() {
        // Goal: reads that suffer are not hidden behind writes that do not, and the limit itself is fine.
        let ratios = |writes, reads| Ratios { writes, reads }.wrong();
        assert_eq!(ratios(2.0, 1.1), None);
        assert!(ratios(2.1, 1.0).is_some_and(|wrong| wrong.contains("2.10 for writes")));
        assert!(ratios(1.0, 3.0).is_some_and(|wrong| wrong.contains("3.00 for reads")));
    }
}
