//! What happens to the cluster while the load runs: nodes are killed, stopped and started again.

use std::time::Duration;

use quorate_client::{Client, GroupId, NodeId};
use serde::Serialize;

use super::load::Load;
use super::money::{Audited, Money};
use super::timeline::{Window, impact, whole_ms};
use crate::exit::Failure;
use crate::local::cluster::Cluster;
use crate::local::health::{self, Wanted};
use crate::output::Output;

/// How long the cluster may take to serve again.
const SERVE_LIMIT: Duration = Duration::from_secs(15);
/// Between two looks whether a node has ended by itself.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// How long all nodes stay dead.
const DEAD_TIME: Duration = Duration::from_secs(1);

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Kind {
    /// Nothing: the load before the first event.
    Steady,
    /// `kill -9` of the leader of a unit.
    KillLeader,
    /// The dead node starts again.
    Restart,
    /// SIGTERM to a node.
    GracefulStop,
    /// The stopped node starts again.
    StartStopped,
    /// `kill -9` of all nodes at once.
    KillAll,
    /// All nodes start again.
    RestartAll,
}

impl Kind {
    /// The name in tables and the report.
    pub(super) fn word(self) -> &'static str {
        match self {
            Kind::Steady => "steady",
            Kind::KillLeader => "kill-leader",
            Kind::Restart => "restart",
            Kind::GracefulStop => "graceful-stop",
            Kind::StartStopped => "start-stopped",
            Kind::KillAll => "kill-all",
            Kind::RestartAll => "restart-all",
        }
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) kind: Kind,
    /// The nodes it happened to and what they led, in words.
    pub(super) target: String,
    pub(super) window: Window,
    /// How long after it the cluster was as it should be, or what was still missing at the limit.
    pub(super) healthy_after: Result<Duration, String>,
    /// The nodes ended as they should.
    pub(super) in_order: bool,
}

/// Where things happen.
pub(super) struct Stage<'a> {
    pub(super) cluster: &'a mut Cluster,
    pub(super) client: &'a Client,
    pub(super) load: &'a Load,
    pub(super) money: &'a Money,
    pub(super) out: &'a Output,
    /// How long the load is watched before the first and after each event.
    pub(super) watch: Duration,
    events: Vec<Event>,
    audits: Vec<Audited>,
}

impl<'a> Stage<'a> {
    /// A stage on which nothing has happened.
    pub(super) fn new(
        cluster: &'a mut Cluster,
        client: &'a Client,
        (load, money): (&'a Load, &'a Money),
        out: &'a Output,
        watch: Duration,
    ) -> Stage<'a> {
        let (events, audits) = (Vec::new(), Vec::new());
        Stage { cluster, client, load, money, out, watch, events, audits }
    }

    /// Everything that happens, `rounds` times; the units take turns. All accounts are added up after
    /// each event, while payments go on.
    ///
    /// # Errors
    /// If a node cannot be started, or ends by itself.
    pub(super) async fn play(mut self, rounds: u32) -> Result<(Vec<Event>, Vec<Audited>), Failure> {
        let from = self.load.now();
        tokio::time::sleep(self.watch).await;
        let window = self.window_from(from);
        self.end(Kind::Steady, "no fault".to_owned(), window, Ok(Duration::ZERO), true);
        self.audit().await;

        let sharded = self.client.topology();
        let groups: Vec<GroupId> = sharded
            .groups()
            .filter(|group| !group.slices.is_empty())
            .map(|group| group.id)
            .collect();
        for round in 0..rounds {
            let at = |turn: u32| groups.get((round + turn) as usize % groups.len().max(1)).copied();
            if let Some(group) = at(0) {
                self.kill_leader(group).await?;
                self.audit().await;
                self.restart(Kind::Restart).await?;
                self.audit().await;
            }
            if let Some(group) = at(1) {
                self.stop_leader(group).await?;
                self.audit().await;
                self.restart(Kind::StartStopped).await?;
                self.audit().await;
            }
            self.kill_all().await?;
            self.audit().await;
        }
        Ok((self.events, self.audits))
    }

    /// Adds up all accounts as of one moment.
    async fn audit(&mut self) {
        let after = self.events.last().map_or("the start", |event| event.kind.word());
        let audited = self.money.audit(after).await;
        match &audited.problem {
            Some(problem) => self.out.warn(format_args!("no audit after {after}: {problem}")),
            None => self.out.say(format_args!(
                "          audit: {} accounts of all units add up to {}, {} below a floor ({} ms)",
                audited.accounts, audited.sum, audited.below_floor, audited.took_ms
            )),
        }
        self.audits.push(audited);
    }

    async fn kill_leader(&mut self, group: GroupId) -> Result<(), Failure> {
        let node = self.leader(group).await?;
        let target = self.describe(node);
        self.announce(format_args!("kill -9 of {target}"));
        let from = self.load.now();
        self.cluster.kill([node]).await;
        let healthy = self.settle(from, SERVE_LIMIT).await?;
        let window = self.window_from(from);
        self.end(Kind::KillLeader, target, window, healthy, true);
        Ok(())
    }

    async fn stop_leader(&mut self, group: GroupId) -> Result<(), Failure> {
        let node = self.leader(group).await?;
        let target = self.describe(node);
        self.announce(format_args!("graceful stop (SIGTERM) of {target}"));
        let from = self.load.now();
        let in_order = self.cluster.stop(node).await;
        let healthy = self.settle(from, SERVE_LIMIT).await?;
        let window = self.window_from(from);
        self.end(Kind::GracefulStop, target, window, healthy, in_order);
        Ok(())
    }

    async fn restart(&mut self, kind: Kind) -> Result<(), Failure> {
        let up = self.cluster.up();
        let down = self.client.topology();
        let down = down.nodes().map(|node| node.id).find(|node| !up.contains(node));
        let target = down.map(|node| self.cluster.name(node)).unwrap_or_default();
        self.announce(format_args!("start of {target}"));
        let from = self.load.now();
        self.cluster.start_missing()?;
        let healthy = self.settle(from, SERVE_LIMIT).await?;
        let window = self.window_from(from);
        self.end(kind, target, window, healthy, true);
        Ok(())
    }

    async fn kill_all(&mut self) -> Result<(), Failure> {
        let nodes = self.cluster.up();
        self.announce(format_args!("kill -9 of all {} nodes at once", nodes.len()));
        let killed = self.load.now();
        self.cluster.kill(nodes).await;
        tokio::time::sleep(DEAD_TIME).await;
        self.announce(format_args!("start of all nodes"));
        let from = self.load.now();
        self.cluster.start_missing()?;
        let healthy = self.settle(from, 2 * SERVE_LIMIT).await?;
        let healthy_from_kill = healthy.clone().map(|after| after + (from - killed));
        let target = "all nodes".to_owned();
        let window = self.window_from(from);
        let whole = Window { from: killed, ..window };
        self.end(Kind::KillAll, target.clone(), whole, healthy_from_kill, true);
        self.end(Kind::RestartAll, target, window, healthy, true);
        Ok(())
    }

    /// Waits until the cluster is as it should be, and until the event was watched long enough.
    async fn settle(
        &mut self,
        from: Duration,
        limit: Duration,
    ) -> Result<Result<Duration, String>, Failure> {
        let up = self.cluster.up();
        let is_complete = up.len() == self.cluster.topology().nodes().len();
        let wanted = Wanted { up, leaders_at_home: false };
        let deadline = self.load.now() + limit;
        let mut healthy = loop {
            // In between, a node that ended by itself is noticed; nothing gets better without it.
            match health::wait(self.client, &wanted, CHECK_INTERVAL).await {
                Ok(_) => break Ok(self.load.now().saturating_sub(from)),
                Err(missing) if deadline <= self.load.now() => break Err(missing),
                Err(_) => self.cluster.check_running()?,
            }
        };
        self.cluster.check_running()?;
        if is_complete && healthy.is_ok() {
            match health::send_leaders_home(self.client, &wanted, limit).await {
                Ok(moved) if moved.is_empty() => {}
                Ok(moved) => {
                    self.announce(format_args!("leaders of {} handed back", moved.join(", ")));
                }
                Err(missing) => healthy = Err(missing),
            }
        }
        if let Err(missing) = &healthy {
            self.out.warn(format_args!("after {} s: {missing}", limit.as_secs()));
        }
        let watched = self.load.now().saturating_sub(from);
        tokio::time::sleep(self.watch.saturating_sub(watched).max(self.watch / 4)).await;
        Ok(healthy)
    }

    /// Notes the event and says what the load felt.
    fn end(
        &mut self,
        kind: Kind,
        target: String,
        window: Window,
        healthy_after: Result<Duration, String>,
        in_order: bool,
    ) {
        let logs = self.load.requests();
        let logs: Vec<&[_]> = logs.iter().map(|(_, requests)| requests.as_slice()).collect();
        let felt = impact(&logs, window);
        let healthy = match &healthy_after {
            Ok(after) if after.is_zero() => String::new(),
            Ok(after) => format!(", healthy after {} ms", whole_ms(*after)),
            Err(_) => ", not healthy".to_owned(),
        };
        self.out.say(format_args!(
            "          {}: {} requests, {} failed, {} unknown, longest stall {} ms{healthy}",
            kind.word(),
            felt.requests,
            felt.failed,
            felt.unknown,
            felt.stall_ms.max
        ));
        self.events.push(Event { kind, target, window, healthy_after, in_order });
    }

    fn window_from(&self, from: Duration) -> Window {
        Window { from, until: self.load.now() }
    }

    async fn leader(&self, group: GroupId) -> Result<NodeId, Failure> {
        let asked = health::leader(self.client, group).await;
        asked.ok_or_else(|| {
            let message = format!("group {group} has no leader although the cluster is healthy");
            Failure::new(quorate_types::Code::NoQuorum, message)
        })
    }

    /// `n1 (leads RZ00, RZ03)`.
    fn describe(&self, node: NodeId) -> String {
        let (name, units) = (self.cluster.name(node), self.cluster.units_led_by(node));
        if units.is_empty() { name } else { format!("{name} (leads {})", units.join(", ")) }
    }

    fn announce(&self, what: std::fmt::Arguments<'_>) {
        self.out.say(format_args!("{:>6.1} s  {what}", self.load.now().as_secs_f64()));
    }
}
