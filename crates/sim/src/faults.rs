//! The schedule of faults of a run: what breaks when, and when it is mended. Drawn before the run starts.

use std::time::Duration;

use quorate_types::GroupId;
use rand::Rng;
use rand::rngs::SmallRng;

use crate::cluster::Death;
use crate::options::{Options, Scenario};
use crate::random::{Draw, pick, random};

/// Times a sync takes longer on a disk that hangs.
pub const STALLED: u32 = 100_000;

/// Nothing breaks before this: the first leaders are elected.
const FIRST: Duration = Duration::from_millis(1_500);

/// Something that happens to the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A process ends.
    Stop(usize, Death),
    /// It starts again.
    Start(usize),
    /// It ends, and its rows are lost.
    LoseRows(usize),
    /// It ends, and its disk is emptied.
    Wipe(usize),
    /// It ends, and bytes of its log change.
    DamageLog(usize),
    /// Bytes of its rows change while it runs.
    DamageRows(usize),
    /// A process freezes.
    Pause(usize),
    /// It goes on.
    Resume(usize),
    /// Directions of links between servers lose everything.
    Cut(Vec<(usize, usize)>),
    /// They are mended.
    Mend(Vec<(usize, usize)>),
    /// They hold back what they are given, and refuse new connections.
    Hold(Vec<(usize, usize)>),
    /// They let it go.
    Release(Vec<(usize, usize)>),
    /// Clients cannot reach a server.
    HideFromClients(usize),
    /// They can again.
    ShowToClients(usize),
    /// Syncs take this many times as long.
    SlowDisk(usize, u32),
    /// A leader is asked to hand over, to a node or to the best one.
    HandOver(GroupId, Option<usize>),
}

impl Step {
    /// The word in counts and traces.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Step::Stop(_, Death::Kill) => "kill",
            Step::Stop(_, Death::PowerCut) => "power-cut",
            Step::LoseRows(_) => "lose-rows",
            Step::Wipe(_) => "wipe",
            Step::DamageLog(_) => "damage-log",
            Step::DamageRows(_) => "damage-rows",
            Step::Start(_) => "start",
            Step::Pause(_) => "pause",
            Step::Resume(_) => "resume",
            Step::Cut(_) => "cut",
            Step::Mend(_) => "mend",
            Step::Hold(_) => "hold",
            Step::Release(_) => "release",
            Step::HideFromClients(_) => "hide",
            Step::ShowToClients(_) => "show",
            Step::SlowDisk(..) => "slow-disk",
            Step::HandOver(..) => "hand-over",
        }
    }
}

/// The steps of a run in order of time.
#[must_use]
pub fn schedule(options: &Options, nodes: usize, groups: &[GroupId]) -> Vec<(Duration, Step)> {
    let rng = random(options.seed, Draw::Faults);
    let mut maker = Maker { rng, nodes, groups, steps: Vec::new() };
    if options.has_slow_disk {
        let at = maker.millis(0..5_000);
        maker.slow_disk(at);
    }
    if options.loses_rows && options.scenario != Scenario::Failover {
        maker.lose(options.safety, Step::LoseRows);
    }
    if options.wipes {
        maker.lose(options.safety, Step::Wipe);
    }
    if options.damages && options.scenario != Scenario::Failover {
        maker.damage(options.safety);
    }
    if options.has_arbiter {
        maker.long_absences(options);
    }
    let mut at = FIRST;
    while at < options.safety {
        maker.fault(at, options.scenario);
        at += maker.gap(options.scenario);
    }
    maker.steps.sort_by_key(|(at, _)| *at); // Stable: what was drawn first comes first.
    maker.steps
}

struct Maker<'a> {
    rng: SmallRng,
    nodes: usize,
    groups: &'a [GroupId],
    steps: Vec<(Duration, Step)>,
}

impl Maker<'_> {
    fn fault(&mut self, at: Duration, scenario: Scenario) {
        match scenario {
            Scenario::Kill => match self.rng.random_range(0..6) {
                0 => self.stop_all(at, Death::Kill),
                1 => self.stop_two(at, Death::Kill),
                2 => self.usurp(at),
                _ => self.stop_one(at, Death::Kill),
            },
            Scenario::PowerCut => match self.rng.random_range(0..6) {
                0 => self.stop_two(at, Death::PowerCut),
                _ => self.stop_one(at, Death::PowerCut),
            },
            Scenario::AllPowerCut => self.stop_all(at, Death::PowerCut),
            Scenario::Partition => self.partition(at),
            Scenario::Handover => self.hand_over(at),
            // Its faults follow what they find: `failover.rs`.
            Scenario::Failover => {}
            Scenario::Mixed => match self.rng.random_range(0..12) {
                0 => self.stop_one(at, Death::Kill),
                1 => self.usurp(at),
                2 | 3 => self.stop_one(at, Death::PowerCut),
                4 => self.stop_all(at, Death::PowerCut),
                5 => self.stop_two(at, Death::PowerCut),
                6..9 => self.partition(at),
                9 => self.slow_disk(at),
                _ => self.hand_over(at),
            },
        }
    }

    fn node(&mut self) -> usize {
        self.rng.random_range(0..self.nodes)
    }

    fn millis(&mut self, range: std::ops::Range<u64>) -> Duration {
        Duration::from_millis(self.rng.random_range(range))
    }

    /// How long a fault lasts: often a moment, sometimes several leases.
    fn span(&mut self) -> Duration {
        match self.rng.random_range(0..3) {
            0 => self.millis(5..300),
            1 => self.millis(300..1_500),
            _ => self.millis(1_500..4_000),
        }
    }

    fn gap(&mut self, scenario: Scenario) -> Duration {
        match scenario {
            Scenario::Handover => self.millis(50..800),
            Scenario::AllPowerCut => self.millis(1_500..4_000),
            _ => self.millis(200..3_000),
        }
    }

    fn stop(&mut self, node: usize, at: Duration, death: Death) {
        let end = at + self.span();
        self.away(at, end, node, death);
    }

    /// Once in a run: what the others hold must make it good.
    fn lose(&mut self, safety: Duration, what: fn(usize) -> Step) {
        let node = self.node();
        self.lose_of(node, safety, what);
    }

    fn lose_of(&mut self, node: usize, safety: Duration, what: fn(usize) -> Step) {
        let span = self.span();
        let at = self.in_the_run(safety);
        self.steps.push((at, what(node)));
        self.steps.push((at + span, Step::Start(node)));
    }

    /// When there is something to lose.
    fn in_the_run(&mut self, safety: Duration) -> Duration {
        let last = u64::try_from(safety.as_millis()).unwrap_or(u64::MAX).max(2_001);
        self.millis(2_000..last)
    }

    /// Bytes on one disk, once or several times: what the others hold must make it good.
    fn damage(&mut self, safety: Duration) {
        let node = self.node();
        for _ in 0..self.rng.random_range(1..=3) {
            if self.rng.random_bool(0.5) {
                let at = self.in_the_run(safety);
                self.steps.push((at, Step::DamageRows(node)));
            } else {
                self.lose_of(node, safety, Step::DamageLog);
            }
        }
    }

    /// Nodes that are away for so long that a group with an arbiter goes on without them: one after the other, or
    /// the one that goes on as soon as the first is back.
    fn long_absences(&mut self, options: &Options) {
        let mut at = FIRST + self.millis(0..2_000);
        while at < options.safety {
            let node = self.node();
            let end = at + options.suspend_after + self.millis(500..4_000);
            match options.scenario {
                Scenario::Kill => self.away(at, end, node, Death::Kill),
                Scenario::PowerCut | Scenario::AllPowerCut => {
                    self.away(at, end, node, Death::PowerCut);
                }
                Scenario::Partition => self.cut(at, end, self.around(node)),
                Scenario::Mixed => match self.rng.random_range(0..3) {
                    0 => self.away(at, end, node, Death::Kill),
                    1 => self.away(at, end, node, Death::PowerCut),
                    _ => self.cut(at, end, self.around(node)),
                },
                Scenario::Handover | Scenario::Failover => return,
            }
            at = end + self.millis(0..2_000);
        }
    }

    fn away(&mut self, at: Duration, end: Duration, node: usize, death: Death) {
        self.steps.push((at, Step::Stop(node, death)));
        self.steps.push((end, Step::Start(node)));
    }

    fn stop_one(&mut self, at: Duration, death: Death) {
        let node = self.node();
        self.stop(node, at, death);
    }

    fn stop_two(&mut self, at: Duration, death: Death) {
        let (first, second) = (self.node(), self.node());
        self.stop(first, at, death);
        let later = at + self.millis(0..50);
        self.stop(second, later, death);
    }

    fn stop_all(&mut self, at: Duration, death: Death) {
        for node in 0..self.nodes {
            let end = at + self.millis(10..1_000);
            self.steps.push((at, Step::Stop(node, death)));
            self.steps.push((end, Step::Start(node)));
        }
    }

    /// One node is cut off from the others, which then forget in a restart what they promised it. It
    /// may still lead for the clients.
    fn usurp(&mut self, at: Duration) {
        let node = self.node();
        let end = at + self.millis(1_000..3_000);
        self.cut(at, end, self.around(node));
        for other in (0..self.nodes).filter(|it| *it != node) {
            let stopped = at + self.millis(0..50);
            self.steps.push((stopped, Step::Stop(other, Death::Kill)));
            let started = stopped + self.millis(5..50);
            self.steps.push((started, Step::Start(other)));
        }
    }

    /// All links of a node to other servers.
    fn around(&self, node: usize) -> Vec<(usize, usize)> {
        let others = (0..self.nodes).filter(|it| *it != node);
        others.flat_map(|it| [(it, node), (node, it)]).collect()
    }

    /// Mostly a cut that loses, as a missing route does; sometimes one that holds back, as a full
    /// buffer does.
    fn cut(&mut self, at: Duration, end: Duration, links: Vec<(usize, usize)>) {
        if self.rng.random_bool(0.2) {
            self.steps.push((at, Step::Hold(links.clone())));
            self.steps.push((end, Step::Release(links)));
        } else {
            self.steps.push((at, Step::Cut(links.clone())));
            self.steps.push((end, Step::Mend(links)));
        }
    }

    fn partition(&mut self, at: Duration) {
        let end = at + self.span();
        let (node, other) = (self.node(), self.node());
        let nodes = 0..self.nodes;
        let links = match self.rng.random_range(0..7) {
            // One node hears and reaches none of the others; sometimes no client either.
            0 | 1 => {
                if self.rng.random_bool(0.3) {
                    self.steps.push((at, Step::HideFromClients(node)));
                    self.steps.push((end, Step::ShowToClients(node)));
                }
                self.around(node)
            }
            // It hears them and is not heard.
            2 => nodes.filter(|it| *it != node).map(|it| (node, it)).collect(),
            3 => vec![(node, other)],
            // Only the hub reaches everybody.
            4 => {
                let pairs = nodes.clone().flat_map(|a| nodes.clone().map(move |b| (a, b)));
                pairs.filter(|(a, b)| a != b && *a != node && *b != node).collect()
            }
            5 => return self.flap(at, end, node),
            _ => {
                self.steps.push((at, Step::Pause(node)));
                self.steps.push((end, Step::Resume(node)));
                return;
            }
        };
        self.cut(at, end, links);
    }

    /// A member that comes and goes.
    fn flap(&mut self, at: Duration, end: Duration, node: usize) {
        let mut gone = at;
        while gone < end {
            let back = gone + self.millis(20..400);
            let links = self.around(node);
            self.steps.push((gone, Step::Cut(links.clone())));
            self.steps.push((back, Step::Mend(links)));
            gone = back + self.millis(20..400);
        }
    }

    fn slow_disk(&mut self, at: Duration) {
        let (node, times) = (self.node(), pick(&mut self.rng, &[5, 20, 100, STALLED]));
        let end = at + self.span();
        self.steps.push((at, Step::SlowDisk(node, times)));
        self.steps.push((end, Step::SlowDisk(node, 1)));
    }

    fn hand_over(&mut self, at: Duration) {
        let group = pick(&mut self.rng, self.groups);
        let to = self.rng.random_bool(0.7).then(|| self.node());
        self.steps.push((at, Step::HandOver(group, to)));
    }
}
