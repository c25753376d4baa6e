//! One fault from beginning to end: a cluster, a client, load, checks. Every fault in `fault/` uses
//! one; what is common to them is here.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use quorate_client::Client;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use crate::Failure;
use crate::cluster::{Cluster, Node};
use crate::health::{Lead, connect, make_leader, wait_healthy};
use crate::ledger::{Ledger, Tally};
use crate::options::Options;
use crate::report::{self, Outcome, Round};
use crate::verify::{Findings, verify};
use crate::volume::Volume;
use crate::workload::{Load, Running, group_of};

/// For how long a cluster may take to stop when asked.
const STOP_PATIENCE: Duration = Duration::from_secs(60);
/// For how long nothing may be acknowledged when something should be.
const PROGRESS_PATIENCE: Duration = Duration::from_secs(60);

/// A cluster that is not started yet.
pub(crate) struct Setup {
    /// Its processes.
    pub(crate) cluster: Cluster,
    /// Disks of some of its nodes.
    pub(crate) volumes: Vec<(Node, Volume)>,
    /// Where everything of this fault is.
    pub(crate) folder: PathBuf,
}

impl Setup {
    /// A cluster with its data in folders.
    pub(crate) fn new(options: &Options, folder: &Path) -> Result<Setup, Failure> {
        std::fs::create_dir_all(folder)?;
        let cluster = Cluster::new(&options.server, folder, options.base_port)?;
        Ok(Setup { cluster, volumes: Vec::new(), folder: folder.to_owned() })
    }

    /// The same with nodes to spare.
    pub(crate) fn with_spares(options: &Options, folder: &Path) -> Result<Setup, Failure> {
        std::fs::create_dir_all(folder)?;
        let cluster = Cluster::with_spares(&options.server, folder, options.base_port)?;
        Ok(Setup { cluster, volumes: Vec::new(), folder: folder.to_owned() })
    }

    /// Gives a node a disk of its own.
    pub(crate) fn add_volume(&mut self, node: Node, bytes: u64) -> Result<(), Failure> {
        let volume = Volume::create(&self.folder, &node.to_string(), bytes)?;
        self.cluster.set_data(node, volume.data());
        self.volumes.push((node, volume));
        Ok(())
    }
}

/// A cluster at work. Fields are dropped in this order: processes end before their disks go.
pub(crate) struct Trial {
    /// Its processes.
    pub(crate) cluster: Cluster,
    /// Disks of some of its nodes.
    pub(crate) volumes: Vec<(Node, Volume)>,
    /// The client of the load.
    pub(crate) client: Client,
    /// What clients were told.
    pub(crate) ledger: Arc<Ledger>,
    /// The source of moments and nodes.
    pub(crate) random: SmallRng,
    /// Where everything of this fault is.
    pub(crate) folder: PathBuf,
    /// True if what is wrong is counted and not printed.
    pub(crate) is_quiet: bool,
    load: Load,
    running: Option<Running>,
    round: u64,
    tally_before: Tally,
    struck_at: Instant,
    /// Compared by others than `verify`.
    compared_besides: u64,
    missing: u64,
    wrong: Vec<String>,
}

impl Trial {
    /// Starts the cluster and waits until it is healthy.
    pub(crate) async fn start(setup: Setup, load: Load, seed: u64) -> Result<Trial, Failure> {
        // Dropped in the opposite order: processes end before their disks go.
        let Setup { folder, volumes, mut cluster } = setup;
        let ledger = Arc::new(Ledger::create(&folder.join("acknowledged.log"))?);
        cluster.check_ports()?;
        let nodes = cluster.nodes();
        cluster.start(&nodes)?;
        wait_healthy(&mut cluster, &nodes).await?;
        let client = connect(&cluster).await?;
        Ok(Trial {
            cluster,
            volumes,
            client,
            ledger,
            random: SmallRng::seed_from_u64(seed),
            folder,
            is_quiet: false,
            load,
            running: None,
            round: 0,
            tally_before: Tally::default(),
            struck_at: Instant::now(),
            compared_besides: 0,
            missing: 0,
            wrong: Vec::new(),
        })
    }

    /// Makes the load of later rounds lighter or heavier. Returns how it was.
    pub(crate) fn set_pause_max(&mut self, pause_max: Duration) -> Duration {
        std::mem::replace(&mut self.load.pause_max, pause_max)
    }

    /// Starts the load of the next round and returns its number.
    pub(crate) fn begin_round(&mut self) -> u64 {
        assert!(self.running.is_none(), "a round is under way");
        self.round += 1;
        let (client, ledger) = (&self.client, &self.ledger);
        let running = Running::start(self.load, self.round, client, ledger, &mut self.random);
        self.running = Some(running);
        self.round
    }

    /// Lets the load run for a time drawn.
    pub(crate) async fn run_load(&mut self, options: &Options) -> Duration {
        let span = self.random.random_range(options.load_ms_min..=options.load_ms_max);
        let span = Duration::from_millis(span);
        tokio::time::sleep(span).await;
        span
    }

    /// Lets every call of the load end, and returns how they ended.
    pub(crate) async fn end_load(&mut self) -> Result<Tally, Failure> {
        if let Some(running) = self.running.take()
            && !running.stop().await
        {
            return Err("a task of the load panicked".into());
        }
        let now = self.ledger.book().tally;
        let before = std::mem::replace(&mut self.tally_before, now);
        Ok(Tally {
            done: now.done - before.done,
            not_done: now.not_done - before.not_done,
            unknown: now.unknown - before.unknown,
        })
    }

    /// Notes that a fault has begun; `all_died` as in `Ledger::struck`.
    pub(crate) fn struck(&mut self, all_died: bool) {
        self.struck_at = Instant::now();
        self.ledger.struck(all_died);
    }

    /// Starts these nodes again, waits until all is well, lets the load go on for a moment, ends it
    /// and checks what it wrote.
    pub(crate) async fn recover(
        &mut self,
        struck: &[Node],
        load: Duration,
    ) -> Result<Round, Failure> {
        self.cluster.start(struck)?;
        let nodes = self.cluster.nodes();
        wait_healthy(&mut self.cluster, &nodes).await?;
        let healthy = self.struck_at.elapsed();
        self.wait_done(1).await?;
        let span = Duration::from_millis(self.random.random_range(300..800));
        tokio::time::sleep(span).await;
        let tally = self.end_load().await?;
        let back = self.ledger.book().back_at.map(|at| at.duration_since(self.struck_at));
        let findings = self.check_recent().await?;
        let nodes = names(struck);
        let (number, compared, wrong) = (self.round, findings.compared, findings.wrong.len());
        Ok(Round { number, nodes, tally, load, back, healthy, compared, wrong })
    }

    /// Waits until so many more calls were acknowledged.
    pub(crate) async fn wait_done(&self, more: u64) -> Result<(), Failure> {
        let mut done = self.ledger.book().tally.done;
        let want = done + more;
        let mut since = Instant::now();
        while done < want {
            if PROGRESS_PATIENCE < since.elapsed() {
                let text = format!("nothing was acknowledged within {PROGRESS_PATIENCE:?}");
                return Err(text.into());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
            // A machine that is busy takes its time for many of them.
            let now = self.ledger.book().tally.done;
            if done < now {
                (done, since) = (now, Instant::now());
            }
        }
        Ok(())
    }

    /// Waits until a group has acknowledged so many calls since its pulse was reset.
    pub(crate) async fn wait_done_in(
        &self,
        group: u32,
        count: u64,
        deadline: Instant,
    ) -> Result<(), Failure> {
        while self.ledger.pulse(group).done < count {
            if deadline < Instant::now() {
                return Err(format!("g{group} did not acknowledge {count} calls in time").into());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// A counter of each group that has one: group and user.
    pub(crate) fn counter_of_each_group(&self) -> Vec<(u32, u64)> {
        let mut found = BTreeMap::new();
        for uid in self.load.counter_uids() {
            found.entry(group_of(&self.client, uid)).or_insert(uid);
        }
        found.into_iter().collect()
    }

    /// Makes a node the leader of every group, or fails.
    pub(crate) async fn lead(&mut self, node: Node) -> Result<(), Failure> {
        match make_leader(&mut self.cluster, &self.client, node).await? {
            Lead::Leads => Ok(()),
            other => Err(format!("{node} could not be made leader: {other:?}").into()),
        }
    }

    /// Checks the rows of this round and the one before, and every counter.
    pub(crate) async fn check_recent(&mut self) -> Result<Findings, Failure> {
        let first = self.load.writer_uids(self.round.saturating_sub(1).max(1)).start;
        self.check(first..self.load.writer_uids(self.round).end).await
    }

    /// Checks everything.
    pub(crate) async fn check_all(&mut self) -> Result<Findings, Failure> {
        self.check(self.load.writer_uids(1).start..self.load.writer_uids(self.round).end).await
    }

    async fn check(&mut self, uids: Range<u64>) -> Result<Findings, Failure> {
        let checker = connect(&self.cluster).await?;
        let counters = self.load.counter_uids();
        let found = verify(&checker, &self.ledger, uids, counters, &mut self.random).await?;
        checker.close().await;
        self.note_findings(&found);
        Ok(found)
    }

    fn note_findings(&mut self, found: &Findings) {
        self.missing += found.missing;
        self.wrong.extend(found.wrong.iter().cloned());
        if !self.is_quiet {
            report::print_wrong(&found.wrong);
        }
    }

    /// Takes over what a comparison found that is no part of the load of rounds.
    pub(crate) fn note_compared(&mut self, found: &Findings) {
        self.compared_besides += found.compared;
        self.note_findings(found);
    }

    /// Notes something wrong that no check finds.
    pub(crate) fn note_wrong(&mut self, what: String) {
        report::print_wrong(std::slice::from_ref(&what));
        self.wrong.push(what);
    }

    /// Stops every node in good order.
    pub(crate) fn stop_all(&mut self) -> Result<(), Failure> {
        Ok(self.cluster.stop(STOP_PATIENCE)?)
    }

    /// Checks everything once more, stops the cluster in good order and removes its disks.
    pub(crate) async fn finish(
        mut self,
        fault: &'static str,
        rounds: u64,
        facts: Value,
    ) -> Result<Outcome, Failure> {
        self.end_load().await?;
        let last = self.check_all().await?;
        self.client.close().await;
        if let Err(error) = self.stop_all() {
            self.note_wrong(error.to_string());
        }
        let done = self.ledger.book().tally.done;
        if done == 0 {
            self.note_wrong("nothing was acknowledged, so nothing was proven".to_owned());
        }
        let ledger = Arc::get_mut(&mut self.ledger).ok_or("a task still has the ledger")?;
        ledger.close()?;
        if self.wrong.is_empty() {
            for (_, volume) in std::mem::take(&mut self.volumes) {
                volume.remove()?;
            }
        }
        let compared = last.compared + self.compared_besides;
        let (missing, wrong) = (self.missing, self.wrong);
        println!("  {done} acknowledged, {compared} compared, {missing} missing");
        Ok(Outcome { fault, skipped: None, rounds, done, compared, missing, wrong, facts })
    }
}

/// The nodes of a round in a column.
pub(crate) fn names(nodes: &[Node]) -> String {
    if nodes.len() == Node::ALL.len() {
        return "all".to_owned();
    }
    nodes.iter().map(Node::to_string).collect::<Vec<_>>().join("+")
}

/// The rounds for the report.
pub(crate) fn rounds_json(rounds: &[Round]) -> Value {
    json!({ "rounds": rounds.iter().map(Round::json).collect::<Vec<_>>() })
}
