//! The network between machines: for each message that reaches a server, whether it arrives, when, and
//! how often.
//!
//! The simulator's own network has one latency for all links, loses nothing of an open stream and holds
//! back what a cut link was given. This filter stands behind it, in the servers' `Links`: it loses,
//! doubles, delays and reorders single messages, has its own distance for each link, and a link that is
//! cut one way loses what it is given, as one without a route does.
//!
//! Between clients and servers nothing is doubled: a stream does not do that. Only clients send a request
//! twice, as ours does when an attempt gets no answer, and as `resender.rs` does all the time.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quorate_replica::PeerMessage;
use quorate_server::{Fate, Links};
use quorate_topology::Topology;
use quorate_types::{CheckMessage, CrossMessage, NodeId};
use rand::Rng;
use rand::rngs::SmallRng;

use crate::random::pick;

/// How bad the links are. Drawn per seed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LinkWeather {
    /// Share of messages between servers that are lost.
    pub loss: f64,
    /// Share that arrives twice.
    pub duplicates: f64,
    /// Share that is late by up to `late_max`, and so is overtaken by others.
    pub late: f64,
    /// See `late`.
    pub late_max: Duration,
    /// Share of client requests and of answers that are lost.
    pub client_loss: f64,
    /// Share of them that is late by up to `late_max`, so that a client asks again meanwhile.
    pub client_late: f64,
    /// One-way distance between cities, in milliseconds.
    pub city_ms: u64,
}

impl LinkWeather {
    /// The weather of a seed.
    pub fn draw(rng: &mut SmallRng) -> LinkWeather {
        LinkWeather {
            loss: pick(rng, &[0.0, 0.0, 0.01, 0.1]),
            duplicates: pick(rng, &[0.0, 0.02, 0.2]),
            late: pick(rng, &[0.0, 0.05, 0.3]),
            late_max: Duration::from_millis(pick(rng, &[3, 30, 200])),
            client_loss: pick(rng, &[0.0, 0.0, 0.02]),
            client_late: pick(rng, &[0.0, 0.05]),
            city_ms: rng.random_range(2..15),
        }
    }

    /// Nothing is lost, doubled or late; cities are where they were.
    #[must_use]
    pub fn calm(&self) -> LinkWeather {
        LinkWeather { city_ms: self.city_ms, ..LinkWeather::default() }
    }
}

impl fmt::Display for LinkWeather {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LinkWeather { loss, duplicates, late, late_max, client_loss, .. } = self;
        let LinkWeather { client_late, city_ms, .. } = self;
        write!(f, "link-loss={loss} link-duplicates={duplicates} link-late={late}/{late_max:?} ")?;
        write!(f, "client-loss={client_loss} client-late={client_late} ")?;
        write!(f, "city-ms={city_ms}")
    }
}

/// The network. Clones share it.
#[derive(Clone)]
pub struct SimNetwork(Arc<Mutex<State>>);

struct State {
    rng: SmallRng,
    weather: LinkWeather,
    /// How many faults want a direction of a link cut.
    cuts: BTreeMap<(NodeId, NodeId), u32>,
    /// Where each node stands.
    cities: BTreeMap<NodeId, String>,
    counts: BTreeMap<&'static str, u64>,
}

impl SimNetwork {
    /// A network for the nodes of a topology.
    #[must_use]
    pub fn new(topology: &Topology, weather: LinkWeather, rng: SmallRng) -> SimNetwork {
        let cities = topology.nodes().map(|node| (node.id, node.city.clone())).collect();
        let (cuts, counts) = (BTreeMap::new(), BTreeMap::new());
        SimNetwork(Arc::new(Mutex::new(State { rng, weather, cuts, cities, counts })))
    }

    /// The links of a node.
    #[must_use]
    pub fn links_of(&self, node: NodeId) -> Arc<dyn Links> {
        Arc::new(NodeLinks { node, network: self.clone() })
    }

    /// Cuts one direction of a link; each cut wants a mend.
    pub fn cut(&self, from: NodeId, to: NodeId) {
        *self.lock().cuts.entry((from, to)).or_default() += 1;
    }

    /// Takes one cut back.
    pub fn mend(&self, from: NodeId, to: NodeId) {
        let mut state = self.lock();
        if let Some(count) = state.cuts.get_mut(&(from, to)) {
            *count -= 1;
            if *count == 0 {
                state.cuts.remove(&(from, to));
            }
        }
    }

    /// Mends every link, and ends the bad weather.
    pub fn calm_down(&self) {
        let mut state = self.lock();
        state.cuts.clear();
        state.weather = state.weather.calm();
    }

    /// How often messages were lost, doubled or late.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.lock().counts.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    fn chance(&mut self, share: f64) -> bool {
        // No draw for what cannot happen: a calm network takes the same course whatever is asked.
        share > 0.0 && self.rng.random_bool(share)
    }

    fn between(&mut self, from: NodeId, to: NodeId) -> Fate {
        let LinkWeather { loss, duplicates, late, late_max, city_ms, .. } = self.weather;
        if self.cuts.contains_key(&(from, to)) {
            self.count("cut-messages");
            return Vec::new();
        }
        if self.chance(loss) {
            self.count("lost-messages");
            return Vec::new();
        }
        let is_far = self.cities.get(&from) != self.cities.get(&to);
        let distance = Duration::from_millis(if is_far { city_ms } else { 0 });
        let copies = if self.chance(duplicates) { 2 } else { 1 };
        if copies == 2 {
            self.count("doubled-messages");
        }
        let mut fate = Vec::with_capacity(copies);
        for _ in 0..copies {
            let mut delay = distance;
            if self.chance(late) {
                self.count("late-messages");
                delay += some_of(&mut self.rng, Duration::ZERO..late_max);
            }
            fate.push(delay);
        }
        fate
    }

    fn client(&mut self) -> Fate {
        let LinkWeather { client_loss, client_late, late_max, .. } = self.weather;
        if self.chance(client_loss) {
            self.count("lost-requests");
            return Vec::new();
        }
        if self.chance(client_late) {
            self.count("late-requests");
            return vec![some_of(&mut self.rng, Duration::ZERO..late_max * 3)];
        }
        vec![Duration::ZERO]
    }
}

fn some_of(rng: &mut SmallRng, range: Range<Duration>) -> Duration {
    let micros = |span: Duration| u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
    Duration::from_micros(rng.random_range(micros(range.start)..=micros(range.end)))
}

struct NodeLinks {
    node: NodeId,
    network: SimNetwork,
}

impl Links for NodeLinks {
    fn peer_message(&self, peer: NodeId, _message: &PeerMessage) -> Fate {
        self.network.lock().between(peer, self.node)
    }

    fn cross_message(&self, peer: NodeId, _message: &CrossMessage) -> Fate {
        self.network.lock().between(peer, self.node)
    }

    fn check_message(&self, peer: NodeId, _message: &CheckMessage) -> Fate {
        self.network.lock().between(peer, self.node)
    }

    fn snapshot_piece(&self, peer: NodeId) -> Fate {
        self.network.lock().between(peer, self.node)
    }

    fn client_request(&self) -> Fate {
        self.network.lock().client()
    }

    fn client_answer(&self) -> Fate {
        self.network.lock().client()
    }
}
