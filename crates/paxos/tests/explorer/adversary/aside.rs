//! Plots for groups with an arbiter: a voter is away for so long that it is set aside, and comes back when
//! somebody else is lost, or the arbiter knows less than the leader, or less than the one that comes back.

use quorate_types::ReplicaId;

use super::plots::{leader, within};
use super::rng::Rng;
use super::stage::{Kinds, Nodes, Opening, Stage, Ways};
use crate::common::cluster::Cluster;
use crate::common::links::Kind;

const MS: u64 = 1_000_000;

/// Who plays which part.
struct Parts {
    leader: ReplicaId,
    /// Half of those that keep the log, but for the leader. The first one wants to lead.
    away: Vec<ReplicaId>,
    /// All others.
    rest: Vec<ReplicaId>,
    arbiter: ReplicaId,
    /// For so long whoever is away is waited for.
    patience_ms: u64,
}

impl Parts {
    /// `None` if nobody could be set aside: there is no arbiter, or those that keep the log are odd.
    fn draw(rng: &mut Rng, cluster: &Cluster) -> Option<Parts> {
        let membership = &cluster.membership.membership;
        let arbiter = membership.arbiters().next()?;
        let leader = leader(rng, cluster);
        let voters = membership.members().filter(|(_, it)| it.role.votes());
        let mut logs: Vec<ReplicaId> =
            voters.filter(|(_, it)| it.kind.keeps_log()).map(|(id, _)| id).collect();
        let count = logs.len();
        if count % 2 == 1 || !logs.contains(&leader) {
            return None;
        }
        logs.retain(|id| *id != leader);
        (1..logs.len()).rev().for_each(|at| logs.swap(at, rng.index(at + 1)));
        let away = logs[..count / 2].to_vec();
        let ids = cluster.ids().into_iter();
        let rest = ids.filter(|id| *id != leader && !away.contains(id)).collect();
        let patience_ms = u64::try_from(cluster.setup.suspend_after.as_millis()).expect("seconds");
        Some(Parts { leader, away, rest, arbiter, patience_ms })
    }

    /// Every link but those among who is not away.
    fn without_away(&self) -> Ways {
        Ways::ALL.without(within(&[&[self.leader], &self.rest[..]].concat()))
    }

    /// Every link but those among who is away and the arbiter.
    fn without_others(&self) -> Ways {
        Ways::ALL.without(within(&[&self.away[..], &[self.arbiter]].concat()))
    }

    /// The leader writes alone with the arbiter until the others are set aside.
    fn alone(&self, rng: &mut Rng) -> Stage {
        Stage {
            span_ns: (self.patience_ms + rng.between(200, 800)) * MS,
            lost: self.without_away(),
            clients: Some(self.leader),
            brisk: Nodes::of(&[self.arbiter]),
            ..Stage::default()
        }
    }
}

/// Draws one, if the group could set anybody aside.
pub fn draw(rng: &mut Rng, cluster: &Cluster) -> Option<Vec<Stage>> {
    let parts = Parts::draw(rng, cluster)?;
    Some(match rng.below(4) {
        0 => late_to_keep(rng, &parts),
        1..=2 => old_token(rng, &parts),
        _ => comes_back(rng, &parts),
    })
}

/// The arbiter welcomes a candidate, and only then its disk has that this one is set aside. The leader, which
/// sleeps, is told so when the candidate is about to ask for promises.
fn late_to_keep(rng: &mut Rng, parts: &Parts) -> Vec<Stage> {
    let (arbiter, candidate) = (Nodes::of(&[parts.arbiter]), parts.away[0]);
    let sleeps = Nodes::of(&[parts.leader]);
    let told = Stage { slow_promises: arbiter, brisk: Nodes::NONE, ..parts.alone(rng) };
    let welcome = Stage {
        span_ns: rng.between(1_300, 1_900) * MS,
        lost: parts.without_others(),
        slow_promises: arbiter.and(Nodes::of(&[candidate])),
        asleep: sleeps,
        ..Stage::default()
    };
    let kept = Stage {
        span_ns: rng.between(20, 150) * MS,
        held: Ways::to(parts.leader),
        slow_promises: Nodes::of(&[candidate]),
        asleep: sleeps,
        brisk: arbiter,
        step_ms: 20,
        ..Stage::default()
    };
    let asks = Stage {
        span_ns: 1_500 * MS,
        lost: Ways::from(parts.leader).and(Ways::to(parts.leader)),
        until_leads: Some(candidate),
        brisk: arbiter,
        opening: vec![Opening::Flush(parts.leader)],
        ..Stage::default()
    };
    vec![told, welcome, kept, asks]
}

/// A leader hands over, forgets it in a crash and leads again, while its token is late; its taker is set aside. The
/// token arrives when that leader is gone: its taker asks nobody whether it would be welcome.
fn old_token(rng: &mut Rng, parts: &Parts) -> Vec<Stage> {
    let (leader, taker) = (parts.leader, parts.away[0]);
    let token = Kinds::of(&[Kind::TakeOver]);
    let brisk = Nodes::of(&[parts.arbiter]);
    let given = Stage {
        span_ns: rng.between(60, 250) * MS,
        held_kinds: token,
        opening: vec![Opening::HandOver(leader, Some(taker))],
        step_ms: 20,
        ..Stage::default()
    };
    let again = Stage {
        span_ns: 4_000 * MS,
        held_kinds: token,
        lost: parts.without_away(),
        until_leads: Some(leader),
        opening: vec![Opening::Restart(leader)],
        brisk,
        ..Stage::default()
    };
    let alone = Stage { held_kinds: token, ..parts.alone(rng) };
    let gone = Stage {
        span_ns: rng.between(1_000, 1_600) * MS,
        held_kinds: token,
        lost: parts.without_others(),
        ..Stage::default()
    };
    let arrives = Stage {
        span_ns: 1_500 * MS,
        lost: parts.without_others(),
        until_leads: Some(taker),
        opening: vec![Opening::Flush(taker)],
        brisk,
        ..Stage::default()
    };
    vec![given, again, alone, gone, arrives]
}

/// Whoever was set aside comes back while the leader falls, or the arbiter is away.
fn comes_back(rng: &mut Rng, parts: &Parts) -> Vec<Stage> {
    let mut plot = vec![parts.alone(rng)];
    let of_arbiter = Ways::to(parts.arbiter).and(Ways::from(parts.arbiter));
    let mut back = Stage { span_ns: rng.between(50, 600) * MS, step_ms: 20, ..Stage::default() };
    match rng.below(4) {
        0 => back.lost = of_arbiter,
        1 => back.slow_promises = Nodes::of(&[parts.arbiter]),
        2 => back.slow_logs = Nodes::of(&[parts.leader]),
        _ => {}
    }
    plot.push(back);
    let mut falls = Stage { span_ns: rng.between(1_000, 2_500) * MS, ..Stage::default() };
    match rng.below(3) {
        0 => falls.opening = vec![Opening::Restart(parts.leader)],
        1 => falls.opening = vec![Opening::Forget(parts.leader)],
        _ => falls.lost = parts.without_others(),
    }
    plot.push(falls);
    if rng.chance(50) {
        // And now the other one leads alone.
        let lost = Ways::from(parts.leader).and(Ways::to(parts.leader));
        plot.push(Stage { lost, clients: Some(parts.away[0]), ..parts.alone(rng) });
    }
    plot
}
