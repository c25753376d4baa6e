//! Plots: short plays that lead a group to where rules are close to being broken. Random events alone
//! come there too seldom. Each is known from a bug that somebody shipped or that we planted.

use quorate_types::ReplicaId;

use super::rng::Rng;
use super::stage::{Kinds, Nodes, Opening, Stage, Ways};
use crate::common::cluster::Cluster;
use crate::common::links::Kind;

const MS: u64 = 1_000_000;

/// Draws a plot for the group as it stands.
pub fn draw(rng: &mut Rng, cluster: &Cluster) -> Vec<Stage> {
    let ids = cluster.ids();
    if ids.len() < 3 {
        return if rng.chance(50) { slow_disk(rng, ids[0]) } else { power_cut(rng, &ids) };
    }
    let leader = leader(rng, cluster);
    match rng.below(20) {
        0..=6 => duels(rng, &ids),
        7..=9 => late_answers(rng, leader),
        10..=11 => late_token(rng, leader, &ids),
        12..=13 => forgetful(rng, leader, &ids),
        14 => slow_disk(rng, leader),
        15..=16 => late_kinds(rng, &ids),
        17 => sleeper(rng, leader),
        18 => split(rng, &ids),
        _ => power_cut(rng, &ids),
    }
}

/// One that leads, or anybody.
pub fn leader(rng: &mut Rng, cluster: &Cluster) -> ReplicaId {
    let ids = cluster.ids();
    let leading: Vec<ReplicaId> = ids.iter().copied().filter(|id| cluster.leads(*id)).collect();
    *rng.one_of(if leading.is_empty() { &ids } else { &leading })
}

fn other(rng: &mut Rng, ids: &[ReplicaId], than: ReplicaId) -> ReplicaId {
    let others: Vec<ReplicaId> = ids.iter().copied().filter(|id| *id != than).collect();
    *rng.one_of(&others)
}

/// Every link within a group.
fn within(group: &[ReplicaId]) -> Ways {
    group.iter().fold(Ways::NONE, |ways, left| {
        group.iter().fold(ways, |ways, right| ways.and(Ways::between(*left, *right)))
    })
}

/// Two rivals lead in turn, each with a bare majority behind it, and little of what they write gets
/// through (figure 8 of Ongaro's thesis; trap 12).
fn duels(rng: &mut Rng, ids: &[ReplicaId]) -> Vec<Stage> {
    let mut order = ids.to_vec();
    for at in (1..order.len()).rev() {
        order.swap(at, rng.index(at + 1));
    }
    let (rivals, helpers) = order.split_at(2);
    let needed = ids.len() / 2;
    let stages = 3 + rng.below(6);
    let held_kinds = match rng.below(4) {
        0 => Kinds::NONE,
        1 => Kinds::of(&[Kind::Accept, Kind::Commit]),
        _ => Kinds::of(&[Kind::Accept]),
    };
    let mut rival = rng.index(2);
    let mut plot = Vec::new();
    for _ in 0..stages {
        let first = rng.index(helpers.len());
        let mut group = vec![rivals[rival]];
        group.extend((0..needed.min(helpers.len())).map(|n| helpers[(first + n) % helpers.len()]));
        let apart = Ways::ALL.without(within(&group));
        let mut stage = Stage {
            span_ns: rng.between(1_050, 1_500) * MS,
            held_kinds,
            trickle_percent: *rng.one_of(&[0, 2, 5, 15]),
            clients: Some(rivals[rival]),
            ..Stage::default()
        };
        if rng.chance(70) {
            stage.lost = apart;
        } else {
            stage.held = apart;
        }
        match rng.below(6) {
            0 => stage.slow_logs = Nodes::of(&[rivals[rival]]),
            1 => stage.opening.push(Opening::Restart(rivals[1 - rival])),
            2 => stage.opening.push(Opening::Restart(group[1])),
            _ => {}
        }
        plot.push(stage);
        if rng.chance(85) {
            rival = 1 - rival;
        }
    }
    plot
}

/// Answers to a leader's heartbeats come late, and when they do nobody hears it any more.
fn late_answers(rng: &mut Rng, leader: ReplicaId) -> Vec<Stage> {
    let (from, to) = (Ways::from(leader), Ways::to(leader));
    let heard = rng.between(20, 150);
    let silent = rng.between(300, 980 - heard);
    vec![
        Stage { span_ns: heard * MS, held: to, ..Stage::default() },
        Stage { span_ns: silent * MS, held: to, lost: from, ..Stage::default() },
        Stage {
            span_ns: rng.between(500, 1_100) * MS,
            held: to,
            lost: from,
            opening: vec![Opening::Flush(leader), Opening::Read(leader)],
            ..Stage::default()
        },
    ]
}

/// The token of a hand-over arrives late, its taker is slow, and somebody else is elected meanwhile.
fn late_token(rng: &mut Rng, leader: ReplicaId, ids: &[ReplicaId]) -> Vec<Stage> {
    let taker = if rng.chance(50) { ids[ids.len() - 1] } else { other(rng, ids, leader) };
    let slow_promises = Nodes::of(&[taker]);
    let apart = Ways::to(taker).and(Ways::from(taker));
    vec![
        Stage { span_ns: rng.between(100, 400) * MS, clients: Some(leader), ..Stage::default() },
        Stage {
            span_ns: rng.between(1, 900) * MS,
            held_kinds: Kinds::of(&[Kind::TakeOver]),
            opening: vec![Opening::HandOver(leader, Some(taker))],
            ..Stage::default()
        },
        Stage {
            span_ns: rng.between(100, 990) * MS,
            slow_promises,
            lost: apart.without(Ways::between(leader, taker)),
            ..Stage::default()
        },
        Stage { span_ns: rng.between(200, 800) * MS, ..Stage::default() },
    ]
}

/// A follower restarts while a leader that nobody else hears relies on its grant.
fn forgetful(rng: &mut Rng, leader: ReplicaId, ids: &[ReplicaId]) -> Vec<Stage> {
    let needed = ids.len() / 2;
    let mut group = vec![leader];
    while group.len() <= needed {
        let next = other(rng, ids, leader);
        if !group.contains(&next) {
            group.push(next);
        }
    }
    let restarted = group[1];
    vec![
        Stage {
            span_ns: rng.between(700, 1_300) * MS,
            lost: Ways::from(leader).without(within(&group)),
            ..Stage::default()
        },
        Stage {
            span_ns: rng.between(300, 1_300) * MS,
            lost: Ways::from(leader),
            held: Ways::to(leader),
            opening: vec![Opening::Restart(restarted)],
            ..Stage::default()
        },
    ]
}

/// The disk of a leader hangs.
fn slow_disk(rng: &mut Rng, leader: ReplicaId) -> Vec<Stage> {
    let slow = Nodes::of(&[leader]);
    vec![Stage {
        span_ns: rng.between(500, 3_000) * MS,
        slow_logs: slow,
        slow_promises: if rng.chance(50) { slow } else { Nodes::NONE },
        clients: Some(leader),
        ..Stage::default()
    }]
}

/// Some kinds of messages come late, everywhere or to one.
fn late_kinds(rng: &mut Rng, ids: &[ReplicaId]) -> Vec<Stage> {
    let kinds: Vec<Kind> = (0..rng.between(1, 3)).map(|_| *rng.one_of(Kind::ALL)).collect();
    let mut stage = Stage {
        span_ns: rng.between(100, 1_300) * MS,
        held_kinds: Kinds::of(&kinds),
        trickle_percent: *rng.one_of(&[0, 3, 10]),
        ..Stage::default()
    };
    if rng.chance(50) {
        stage.lost = Ways::from(*rng.one_of(ids));
    }
    let slow = Nodes::of(&[*rng.one_of(ids)]);
    match rng.below(4) {
        0 => stage.slow_promises = slow,
        1 => stage.slow_logs = slow,
        2 => stage.slow_logs = slow.and(Nodes::of(&[*rng.one_of(ids)])),
        _ => {}
    }
    vec![stage]
}

/// A leader stands still, mostly long enough for the others to elect another one. What it sees first
/// is what clients or peers sent meanwhile.
pub fn sleeper(rng: &mut Rng, leader: ReplicaId) -> Vec<Stage> {
    let (read, flush) = (Opening::Read(leader), Opening::Flush(leader));
    let opening = match rng.below(3) {
        0 => vec![read, flush, read],
        1 => vec![flush, read],
        _ => vec![read],
    };
    vec![
        Stage { span_ns: rng.below(4_000) * MS, asleep: Nodes::of(&[leader]), ..Stage::default() },
        Stage { span_ns: MS, opening, ..Stage::default() },
    ]
}

/// The group falls apart into two.
fn split(rng: &mut Rng, ids: &[ReplicaId]) -> Vec<Stage> {
    let (left, right): (Vec<ReplicaId>, Vec<ReplicaId>) =
        ids.iter().copied().partition(|_| rng.chance(50));
    let apart = Ways::ALL.without(within(&left).and(within(&right)));
    let span_ns = rng.between(200, 3_000) * MS;
    let mut stage = Stage { span_ns, ..Stage::default() };
    if rng.chance(50) {
        stage.held = apart;
    } else {
        stage.lost = apart;
    }
    vec![stage]
}

/// Disks are slow, then power fails at several nodes at once.
fn power_cut(rng: &mut Rng, ids: &[ReplicaId]) -> Vec<Stage> {
    let hit: Vec<ReplicaId> = ids.iter().copied().filter(|_| rng.chance(60)).collect();
    let slow = Nodes::of(&hit);
    vec![
        Stage {
            span_ns: rng.between(20, 300) * MS,
            slow_logs: slow,
            slow_promises: slow,
            ..Stage::default()
        },
        Stage {
            span_ns: rng.between(1, 100) * MS,
            opening: hit.iter().map(|id| Opening::Restart(*id)).collect(),
            ..Stage::default()
        },
    ]
}
