//! What happens to the cluster while the load runs: a script is played, and what people ask for meanwhile.

use std::time::Duration;

use tokio::time::Instant;

use super::control::{Order, Orders};
use super::hands::Hands;
use super::load::Load;
use super::money::{Audited, Money};
use super::plan::{Act, Kind};
use super::script::Step;
use super::timeline::{Window, impact, whole_ms};
use super::verbs::Verb;
use crate::exit::Failure;
use crate::output::Output;

/// How long the cluster may take to serve again.
pub(super) const SERVE_LIMIT: Duration = Duration::from_secs(20);
/// How long leaders may take to come home at the end.
const HOME_LIMIT: Duration = Duration::from_secs(10);
/// Between two looks where leaders are.
const HOME_INTERVAL: Duration = Duration::from_millis(250);

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) kind: Kind,
    /// What it happened to, in words.
    pub(super) target: String,
    /// The units that were led there.
    pub(super) led: Vec<String>,
    pub(super) window: Window,
    /// How long after it the cluster was as it should be, or what was still missing at the limit.
    pub(super) healthy_after: Result<Duration, String>,
    /// The nodes ended as they should.
    pub(super) in_order: bool,
    /// Every group had a majority of nodes that ran.
    pub(super) all_can_serve: bool,
    /// What could still be lost after it, in words.
    pub(super) survives: String,
}

/// Everything that happened.
#[derive(Debug, Default)]
pub(super) struct Played {
    pub(super) events: Vec<Event>,
    pub(super) audits: Vec<Audited>,
    /// Groups that were not led where they are wanted at the end, in words.
    pub(super) not_home: Vec<String>,
}

/// Where things happen.
pub(super) struct Stage<'a> {
    pub(super) hands: Hands<'a>,
    pub(super) load: &'a Load,
    pub(super) money: &'a Money,
    pub(super) out: &'a Output,
    /// How long the load is watched before the first and after the last event.
    pub(super) watch: Duration,
    pub(super) played: Played,
}

/// An event whose window is not over yet.
struct Open {
    event: Event,
    settled_at: Duration,
}

impl Stage<'_> {
    /// Plays a script. All accounts are added up after each event, while payments go on.
    ///
    /// # Errors
    /// If a node cannot be started, or ends by itself.
    pub(super) async fn play(
        mut self,
        steps: &[Step],
        orders: &mut Orders,
    ) -> Result<Played, Failure> {
        let from = self.load.now();
        let event = Event {
            kind: Kind::Steady,
            target: "no fault".to_owned(),
            led: Vec::new(),
            window: Window { from, until: from },
            healthy_after: Ok(Duration::ZERO),
            in_order: true,
            all_can_serve: true,
            survives: self.hands.survives(),
        };
        let mut open = Open { event, settled_at: from };
        for (index, step) in steps.iter().enumerate() {
            let after = if index == 0 { step.after.max(self.watch) } else { step.after };
            open = self.wait(open, after, orders).await?;
            self.close(open).await;
            let act = match Box::pin(self.hands.plan(&step.verb)).await {
                Ok(act) => act,
                Err(reason) => {
                    self.out.warn(format_args!("left out: {reason}"));
                    Act::nothing()
                }
            };
            open = self.begin(&act).await?;
        }
        open = self.wait(open, self.watch, orders).await?;
        self.close(open).await;
        self.come_home().await;
        Ok(self.played)
    }

    /// Waits until it is time for the next event: `after` from the last one, and a quarter of that from the
    /// moment all was well. Orders are carried out meanwhile; time counts from them, then.
    async fn wait(
        &mut self,
        mut open: Open,
        after: Duration,
        orders: &mut Orders,
    ) -> Result<Open, Failure> {
        loop {
            let due = (open.event.window.from + after).max(open.settled_at + after / 4);
            let left = due.saturating_sub(self.load.now());
            let order = tokio::select! {
                biased;
                () = tokio::time::sleep(left) => return Ok(open),
                order = orders.next() => order,
            };
            open = self.obey(open, order).await?;
        }
    }

    async fn obey(&mut self, open: Open, order: Order) -> Result<Open, Failure> {
        if order.verb == Verb::Status {
            order.answer(Ok(self.hands.status().await));
            return Ok(open);
        }
        let act = match Box::pin(self.hands.plan(&order.verb)).await {
            Ok(act) => act,
            Err(reason) => {
                order.answer(Err(reason));
                return Ok(open);
            }
        };
        self.close(open).await;
        let open = self.begin(&act).await?;
        let well = match &open.event.healthy_after {
            Ok(after) => format!("what can serve serves after {} ms", whole_ms(*after)),
            Err(missing) => format!("not well yet: {missing}"),
        };
        order.answer(Ok(vec![act.words, well, open.event.survives.clone()]));
        Ok(open)
    }

    /// Lets it happen and waits until the cluster is as it should be.
    async fn begin(&mut self, act: &Act) -> Result<Open, Failure> {
        self.announce(&act.words);
        let from = self.load.now();
        let in_order = Box::pin(self.hands.act(act)).await?;
        let survives = self.hands.survives();
        self.out.say(format_args!("          {survives}"));
        let healthy = Box::pin(self.hands.settle(SERVE_LIMIT)).await?;
        let settled_at = self.load.now();
        if let Err(missing) = &healthy {
            self.out.warn(format_args!("after {} s: {missing}", SERVE_LIMIT.as_secs()));
        }
        let event = Event {
            kind: act.kind,
            target: act.target.clone(),
            led: act.led.clone(),
            window: Window { from, until: from },
            healthy_after: healthy.map(|()| settled_at.saturating_sub(from)),
            in_order,
            all_can_serve: self.hands.all_can_serve(),
            survives,
        };
        Ok(Open { event, settled_at })
    }

    /// Notes the event, says what the load felt, and adds up all accounts.
    async fn close(&mut self, open: Open) {
        let mut event = open.event;
        event.window.until = self.load.now();
        if event.kind == Kind::RestartAll
            && let Some(before) = self.played.events.last_mut()
            && before.kind == Kind::KillAll
        {
            // The load stands still until all nodes are back: both are one event to it.
            let apart = event.window.from.saturating_sub(before.window.from);
            before.window.until = event.window.until;
            before.healthy_after = event.healthy_after.clone().map(|after| after + apart);
            let before = before.clone();
            self.say_felt(&before);
        }
        if event.kind != Kind::KillAll {
            self.say_felt(&event);
        }
        let kind = event.kind;
        self.played.events.push(event);
        // An audit asks every group as of one moment, which it learns of from another group.
        if self.hands.all_can_serve() && !self.hands.has_cuts() {
            self.audit(kind.word()).await;
        }
    }

    fn say_felt(&self, event: &Event) {
        let logs = self.load.requests();
        let logs: Vec<&[_]> = logs.iter().map(Vec::as_slice).collect();
        let felt = impact(&logs, event.window);
        let healthy = match &event.healthy_after {
            Ok(after) if after.is_zero() => String::new(),
            Ok(after) => format!(", healthy after {} ms", whole_ms(*after)),
            Err(_) => ", not healthy".to_owned(),
        };
        self.out.say(format_args!(
            "          {}: {} requests, {} failed, {} unknown, longest stall {} ms{healthy}",
            event.kind.word(),
            felt.requests,
            felt.failed,
            felt.unknown,
            felt.stall_ms.max
        ));
    }

    /// Adds up all accounts as of one moment.
    async fn audit(&mut self, after: &str) {
        let audited = self.money.audit(after).await;
        match &audited.problem {
            Some(problem) => self.out.warn(format_args!("no audit after {after}: {problem}")),
            None => self.out.say(format_args!(
                "          audit: {} accounts of all units add up to {}, {} below a floor ({} ms)",
                audited.accounts, audited.sum, audited.below_floor, audited.took_ms
            )),
        }
        self.played.audits.push(audited);
    }

    /// Gives leaders time to come home, if all nodes run.
    async fn come_home(&mut self) {
        let limit = if self.hands.is_complete() { HOME_LIMIT } else { Duration::ZERO };
        let deadline = Instant::now() + limit;
        loop {
            self.played.not_home = self.hands.not_home().await;
            if self.played.not_home.is_empty() {
                self.announce("every unit is led from its first choice");
                return;
            }
            if deadline <= Instant::now() {
                let away = self.played.not_home.join(", ");
                self.announce(&format!("not home after {} s: {away}", limit.as_secs()));
                return;
            }
            tokio::time::sleep(HOME_INTERVAL).await;
        }
    }

    fn announce(&self, what: &str) {
        self.out.say(format_args!("{:>6.1} s  {what}", self.load.now().as_secs_f64()));
    }
}
