//! What a run is made of, drawn from its seed. Printed with every result.

use std::fmt;
use std::ops::Range;
use std::time::Duration;

use rand::Rng;
use rand::rngs::SmallRng;

use crate::network::LinkWeather;
use crate::random::{Draw, pick, random};

/// Which faults a run may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Scenario {
    /// All of them.
    #[default]
    Mixed,
    /// Processes are killed and started again.
    Kill,
    /// Links are cut, nodes are paused.
    Partition,
    /// One node after the other loses power.
    PowerCut,
    /// All nodes lose power at once.
    AllPowerCut,
    /// Leaderships are handed over, without a fault.
    Handover,
    /// One fault at a time, on a calm network: how long is a group without writes?
    Failover,
}

impl Scenario {
    /// The scenario of a seed when none is asked for: each in turn.
    #[must_use]
    pub fn of_seed(seed: u64) -> Scenario {
        let all = <Scenario as clap::ValueEnum>::value_variants();
        all[(seed % all.len() as u64) as usize]
    }

    /// The word on the command line.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Scenario::Mixed => "mixed",
            Scenario::Kill => "kill",
            Scenario::Partition => "partition",
            Scenario::PowerCut => "power-cut",
            Scenario::AllPowerCut => "all-power-cut",
            Scenario::Handover => "handover",
            Scenario::Failover => "failover",
        }
    }
}

/// The options of a run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The seed.
    pub seed: u64,
    /// The faults.
    pub scenario: Scenario,
    /// How long clients run and faults happen.
    pub safety: Duration,
    /// How long the groups have afterwards until all of them take writes. The simulator ignores
    /// keep-alive: a stream over a link that was cut is looked at again after up to 10 s.
    pub recovery_max: Duration,
    /// How long the replicas have until all hold the same. Long where links are cut: such a stream
    /// then delivers, one after the other, what it held back.
    pub agreement_max: Duration,
    /// Latency of a packet.
    pub latency: Range<Duration>,
    /// Share of packets that are sent again.
    pub loss: f64,
    /// What happens to single messages.
    pub links: LinkWeather,
    /// Five nodes in three cities, not three in one.
    pub is_wide: bool,
    /// Time a sync of a disk takes.
    pub sync: Duration,
    /// One node has a disk that is much slower for a while.
    pub has_slow_disk: bool,
    /// Largest error of a clock's rate, in parts in a million.
    pub clock_ppm: i64,
    /// Leases, or reads that ask a majority.
    pub has_leases: bool,
    /// Machines with a client. The callers of the last one only read: they stay with a leader that
    /// cannot write any more, and so would see what it must not say.
    pub clients: u32,
    /// Callers on each.
    pub workers: u32,
    /// Longest pause of a caller between two calls.
    pub think: Duration,
    /// Registers of each group.
    pub registers: u32,
    /// Bytes of a value.
    pub value_bytes: usize,
    /// Unflushed bytes at which an engine flushes by itself.
    pub write_buffer: usize,
    /// The deadline of calls.
    pub request_timeout: Duration,
    /// How long a client waits for one answer.
    pub attempt_timeout: Duration,
    /// Bytes of log that servers keep for members that lag; `None`: as much as they do by themselves,
    /// which is more than a run writes.
    pub log_keep: Option<u64>,
    /// The rows of a server are lost once.
    pub loses_rows: bool,
    /// There are nodes to spare, and the members of groups change all the time.
    pub has_churn: bool,
    /// The disk of a server is emptied once. Never together with `loses_rows`: what one of them takes, the
    /// other replicas must make good.
    pub wipes: bool,
    /// Bytes on the disk of a server change, once or several times, in its log and in its rows. Never together with
    /// `loses_rows` or `wipes`, for the same reason.
    pub damages: bool,
    /// Groups are two full replicas and an arbiter, not three. No disk is lost then: the one that is left may be
    /// the only copy.
    pub has_arbiter: bool,
    /// How long such a group waits for a voter that is silent.
    pub suspend_after: Duration,
}

impl Options {
    /// The options of a seed.
    #[must_use]
    pub fn draw(seed: u64, scenario: Scenario) -> Options {
        let mut rng = random(seed, Draw::Options);
        let micros =
            |rng: &mut SmallRng, range: Range<u64>| Duration::from_micros(rng.random_range(range));
        let slowest_ms = pick(&mut rng, &[2, 5, 10, 20]);
        let options = Options {
            seed,
            scenario,
            safety: Duration::from_millis(rng.random_range(12_000..20_000)),
            recovery_max: Duration::from_secs(20),
            agreement_max: match scenario {
                Scenario::Mixed | Scenario::Partition | Scenario::Kill => Duration::from_secs(45),
                Scenario::PowerCut
                | Scenario::AllPowerCut
                | Scenario::Handover
                | Scenario::Failover => Duration::from_secs(10),
            },
            latency: micros(&mut rng, 100..1_000)..Duration::from_millis(slowest_ms),
            loss: pick(&mut rng, &[0.0, 0.0, 0.002, 0.02]),
            links: LinkWeather::draw(&mut rng),
            is_wide: rng.random_bool(0.2),
            // Slow everywhere in some runs: what is acknowledged too early shows only while syncs run.
            sync: micros(&mut rng, 200..5_000) * pick(&mut rng, &[1, 1, 1, 10]),
            has_slow_disk: rng.random_bool(0.3),
            clock_ppm: pick(&mut rng, &[0, 50, 500, 5_000]),
            has_leases: rng.random_bool(0.75),
            clients: rng.random_range(2..=3),
            workers: rng.random_range(2..=4),
            think: Duration::from_millis(pick(&mut rng, &[10, 30, 60])),
            registers: rng.random_range(1..=3),
            value_bytes: pick(&mut rng, &[16, 16, 300, 4_000]),
            write_buffer: pick(&mut rng, &[32 * 1024, 512 * 1024, 8 * 1024 * 1024]),
            request_timeout: Duration::from_millis(pick(&mut rng, &[1_500, 3_000, 5_000])),
            attempt_timeout: Duration::from_millis(pick(&mut rng, &[300, 1_000])),
            log_keep: pick(&mut rng, &[None, Some(8 * 1024), Some(64 * 1024)]),
            loses_rows: rng.random_bool(0.3),
            has_churn: rng.random_bool(0.4),
            wipes: rng.random_bool(0.3),
            has_arbiter: rng.random_bool(0.2),
            suspend_after: Duration::from_millis(pick(&mut rng, &[1_500, 1_500, 5_000])),
            damages: rng.random_bool(0.5),
        };
        let wipes = options.wipes && !options.has_arbiter;
        let loses_rows = options.loses_rows && !options.has_arbiter && !wipes;
        let damages = options.damages && !options.has_arbiter && !wipes && !loses_rows;
        let is_wide = options.is_wide && !options.has_arbiter;
        let options = Options { wipes, loses_rows, damages, is_wide, ..options };
        let options = if options.has_arbiter { options.for_absences() } else { options };
        match scenario {
            Scenario::Failover => options.for_measuring(),
            // The cluster is down for a good part of the run: callers that hardly ask would prove nothing.
            Scenario::AllPowerCut => {
                Options { think: options.think.min(Duration::from_millis(30)), ..options }
            }
            _ => options,
        }
    }

    /// Nothing is written for a good part of the run, because one of two is away: it is longer, and many callers
    /// ask often.
    fn for_absences(self) -> Options {
        let think = self.think.min(Duration::from_millis(30));
        let (clients, workers) = (3, self.workers.max(3));
        Options { think, clients, workers, safety: self.safety + self.suspend_after, ..self }
    }

    /// A healthy data centre and a client as it is by default: what is measured is the failover alone.
    fn for_measuring(self) -> Options {
        Options {
            latency: Duration::from_micros(100)..Duration::from_millis(1),
            loss: 0.0,
            links: LinkWeather { city_ms: 1, ..LinkWeather::default() },
            is_wide: self.seed % 2 == 1 && !self.has_arbiter,
            sync: Duration::from_millis(1),
            has_slow_disk: false,
            clock_ppm: 50,
            has_leases: true,
            clients: 1,
            workers: 2,
            think: Duration::from_millis(60),
            request_timeout: Duration::from_secs(5),
            attempt_timeout: Duration::from_secs(1),
            has_churn: false,
            wipes: false,
            damages: false,
            suspend_after: Duration::from_millis(1_500),
            ..self
        }
    }

    /// Voters that a group keeps while its members change. Fewer than three cannot make good what one loses.
    #[must_use]
    pub fn voters_min(&self) -> usize {
        if self.loses_rows || self.wipes || self.damages { 3 } else { 1 }
    }

    /// The configuration of the simulator.
    #[must_use]
    pub fn simulator(&self) -> madsim::Config {
        let mut config = madsim::Config::default();
        config.net.packet_loss_rate = self.loss;
        config.net.send_latency = self.latency.clone();
        config
    }
}

impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Options { seed, scenario, safety, latency, loss, links, sync, clock_ppm, .. } = self;
        let Options { clients, workers, think, registers, value_bytes, write_buffer, .. } = self;
        write!(f, "seed={seed} scenario={} safety={safety:?} ", scenario.word())?;
        write!(f, "latency={:?}..{:?} loss={loss} {links} ", latency.start, latency.end)?;
        write!(f, "sync={sync:?} slow-disk={} ", self.has_slow_disk)?;
        write!(f, "clock-ppm={clock_ppm} leases={} ", self.has_leases)?;
        write!(f, "clients={clients}x{workers} think={think:?} registers={registers} ")?;
        write!(f, "value-bytes={value_bytes} write-buffer={write_buffer} ")?;
        let (request, attempt) = (self.request_timeout, self.attempt_timeout);
        write!(f, "request-timeout={request:?} attempt-timeout={attempt:?} ")?;
        let keeps = self.log_keep.map_or_else(|| "all".to_owned(), |bytes| bytes.to_string());
        let Options { loses_rows, has_churn, wipes, damages, has_arbiter, suspend_after, .. } =
            self;
        write!(f, "log-keep={keeps} loses-rows={loses_rows} churn={has_churn} wipes={wipes} ")?;
        write!(f, "damages={damages} ")?;
        write!(f, "arbiter={has_arbiter} suspend-after={suspend_after:?}")
    }
}
