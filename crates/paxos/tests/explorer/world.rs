//! A cluster and its judge: plays events one by one, whoever drew them.

use quorate_paxos::{Input, Output, RoleChange};
use quorate_types::ReplicaId;

use crate::common::calm::{self, Player};
use crate::common::cluster::{Cluster, Setup};
use crate::common::event::Event;
use crate::invariants::{Judge, Scope, convergence};

/// A rule of one test only.
pub type Extra = fn(ReplicaId, &Output);

/// After so many rounds without faults everybody must agree.
const CALM_ROUNDS_MAX: u32 = 800;
/// When a disk hangs, another replica leads after so many. The lease runs out, and candidates whose disk
/// hangs may come between a few times.
pub const HANG_ROUNDS_MAX: u32 = 1000;
/// How often it is looked at.
const CALM_ROUNDS: u32 = 100;

pub struct World {
    pub cluster: Cluster,
    pub judge: Judge,
    extra: Option<Extra>,
    /// Elections won since the faults ended.
    moves: u32,
}

impl World {
    pub fn new(setup: Setup, scope: Scope, extra: Option<Extra>) -> World {
        World { cluster: Cluster::new(setup), judge: Judge::new(scope), extra, moves: 0 }
    }

    /// Plays one event and checks every rule.
    pub fn apply(&mut self, event: &Event) {
        let was_up = match event {
            Event::Start(id) | Event::Crash { id, .. } | Event::LoseNode { id, .. } => {
                self.is_up(*id)
            }
            _ => false,
        };
        if let Some((id, input)) = self.cluster.turn(event) {
            self.feed(id, input);
        }
        match event {
            Event::Crash { id, .. } | Event::LoseNode { id, .. } if was_up => {
                self.judge.crashed(&self.cluster, *id);
            }
            Event::Start(id) if !was_up && self.is_up(*id) => {
                self.judge.started(&self.cluster, *id);
            }
            _ => {}
        }
    }

    fn is_up(&self, id: ReplicaId) -> bool {
        self.cluster.nodes.get(&id).is_some_and(|node| node.core.is_some())
    }

    fn feed(&mut self, id: ReplicaId, input: Input) {
        self.judge.before_step(&self.cluster, id, &input);
        let Some(out) = self.cluster.step(id, input) else { return };
        self.judge.after_step(&self.cluster, id, &out);
        if let Some(check) = self.extra {
            check(id, &out);
        }
        let wins = out.roles.iter().filter(|role| matches!(role, RoleChange::Elected { .. }));
        self.moves += u32::try_from(wins.count()).expect("a few");
        self.cluster.absorb(id, out);
    }

    /// Ends all faults. A leader must serve, and all must agree.
    pub fn converge(&mut self) {
        calm::begin(self);
        self.moves = 0;
        let mut reached = 0;
        for n in 1..=CALM_ROUNDS_MAX {
            calm::round(self, None);
            if n % CALM_ROUNDS == 0 {
                reached = if convergence::is_reached(&self.cluster) { reached + 1 } else { 0 };
                if reached == 2 {
                    break; // And it stays so.
                }
            }
        }
        self.judge.converged(&self.cluster);
        convergence::check_moves(self.moves);
    }

    /// Ends all faults, then hangs the leader's disk. Another one must lead (trap 21).
    pub fn converge_and_hang(&mut self) {
        self.converge();
        calm::hang(self, HANG_ROUNDS_MAX);
    }
}

impl Player for World {
    fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    fn play(&mut self, event: &Event) {
        self.apply(event);
    }
}
