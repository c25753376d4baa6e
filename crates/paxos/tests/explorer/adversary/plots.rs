//! Plots: short plays that lead a group to where rules are close to being broken. Random events alone
//! come there too seldom. Each is known from a bug that somebody shipped or that we planted.

use quorate_types::{ReplicaId, ReplicaKind};

use super::aside;
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
    if cluster.setup.beyond_margin && rng.chance(50) {
        return vec![deposed(rng, 700)];
    }
    if cluster.setup.kinds.contains(&ReplicaKind::Arbiter)
        && rng.chance(50)
        && let Some(plot) = aside::draw(rng, cluster)
    {
        return plot;
    }
    match rng.below(20) {
        0..=5 => duels(rng, &ids),
        6..=7 => late_answers(rng, leader),
        8 => forgotten_promise(rng, &ids),
        9..=10 => late_token(rng, leader, &ids),
        11..=12 => forgetful(rng, leader, &ids),
        13 => slow_disk(rng, leader),
        14 => late_kinds(rng, &ids),
        15 => forgotten_ballot(rng, &ids),
        16 => sleeper(rng, leader),
        17 => split(rng, &ids),
        18 => vec![deposed(rng, 700)],
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
pub fn within(group: &[ReplicaId]) -> Ways {
    group.iter().fold(Ways::NONE, |ways, left| {
        group.iter().fold(ways, |ways, right| ways.and(Ways::between(*left, *right)))
    })
}

/// Two rivals lead in turn, each with a bare majority behind it, and little of what they write gets
/// through (figure 8 of Ongaro's thesis; trap 12).
fn duels(rng: &mut Rng, ids: &[ReplicaId]) -> Vec<Stage> {
    let mut order = ids.to_vec();
    if rng.chance(50) {
        // Else the best two are the rivals, and nobody runs in their place.
        (1..order.len()).rev().for_each(|at| order.swap(at, rng.index(at + 1)));
    }
    let (rivals, helpers) = order.split_at(2);
    let needed = (ids.len() / 2).min(helpers.len());
    let held_kinds = match rng.below(4) {
        0 => Kinds::NONE,
        1 => Kinds::of(&[Kind::Accept, Kind::Commit]),
        _ => Kinds::of(&[Kind::Accept]),
    };
    let mut rival = rng.index(2);
    let mut plot = Vec::new();
    let is_quiet = rng.chance(70); // Helpers help, and never lead themselves.
    if is_quiet {
        let quiet = |id: &ReplicaId| [Opening::Restart(*id), Opening::Drain(*id)];
        let opening = helpers.iter().flat_map(quiet).collect();
        plot.push(Stage { span_ns: MS, opening, ..Stage::default() });
    }
    for _ in 0..4 + rng.below(5) {
        let first = if rng.chance(70) { 0 } else { rng.index(helpers.len()) };
        let mut group = vec![rivals[rival]];
        group.extend((0..needed).map(|n| helpers[(first + n) % helpers.len()]));
        let apart = Ways::ALL.without(within(&group));
        let mut stage = Stage {
            span_ns: 2_500 * MS,
            held_kinds,
            passes: *rng.one_of(&[0, 0, 0, 2, 2, 3]),
            clients: Some(rivals[rival]),
            until_leads: Some(rivals[rival]),
            step_ms: 250,
            ..Stage::default()
        };
        if rng.chance(70) {
            stage.lost = apart;
        } else {
            stage.held = apart;
        }
        if rng.chance(85) {
            stage.opening.push(Opening::Clear);
        }
        match rng.below(8) {
            0 => stage.slow_logs = Nodes::of(&[rivals[rival]]),
            1 => stage.opening.push(Opening::Restart(rivals[1 - rival])),
            2 => stage.opening.push(Opening::Restart(group[1])),
            _ => {}
        }
        plot.push(stage);
        if rng.chance(90) {
            rival = 1 - rival;
        }
    }
    if is_quiet {
        let opening = helpers.iter().map(|id| Opening::Stay(*id)).collect();
        plot.push(Stage { span_ns: MS, opening, ..Stage::default() });
    }
    plot
}

/// A leader is cut off and does not know; the others elect another one, and clients write there and read
/// here.
fn deposed(rng: &mut Rng, span_ms: u64) -> Stage {
    Stage {
        span_ns: rng.between(span_ms, 2 * span_ms) * MS,
        deposes: true,
        step_ms: *rng.one_of(&[20, 40]),
        ..Stage::default()
    }
}

/// Answers to a leader's heartbeats come late, and when they do nobody hears it any more.
fn late_answers(rng: &mut Rng, leader: ReplicaId) -> Vec<Stage> {
    let (from, to) = (Ways::from(leader), Ways::to(leader));
    let heard = rng.between(20, 150);
    let silent = rng.between(600, 980 - heard);
    let mut last = deposed(rng, 500);
    last.held = to;
    last.lost = from;
    last.opening = vec![Opening::Flush(leader), Opening::Read(leader)];
    vec![
        Stage { span_ns: heard * MS, held: to, step_ms: 30, ..Stage::default() },
        Stage { span_ns: silent * MS, held: to, lost: from, ..Stage::default() },
        last,
    ]
}

/// The token of a hand-over arrives late, its taker is slow, somebody else is elected meanwhile, and is
/// cut off when the taker wakes up.
fn late_token(rng: &mut Rng, leader: ReplicaId, ids: &[ReplicaId]) -> Vec<Stage> {
    let last = ids[ids.len() - 1];
    let taker = if leader != last && rng.chance(70) { last } else { other(rng, ids, leader) };
    let apart = Ways::to(taker).and(Ways::from(taker));
    let mut late = Stage {
        span_ns: rng.between(400, 950) * MS,
        held_kinds: Kinds::of(&[Kind::TakeOver]),
        opening: vec![Opening::HandOver(leader, Some(taker))],
        ..Stage::default()
    };
    if rng.chance(80) {
        late.opening.insert(0, Opening::Drain(leader)); // It would win again, and go above the token.
    }
    let slow = Stage {
        span_ns: rng.between(400, 990) * MS,
        slow_promises: Nodes::of(&[taker]),
        lost: apart.without(Ways::between(leader, taker)),
        step_ms: 40,
        ..Stage::default()
    };
    let mut end = deposed(rng, 300);
    end.opening.push(Opening::Stay(leader));
    vec![
        Stage { span_ns: rng.between(100, 300) * MS, clients: Some(leader), ..Stage::default() },
        late,
        slow,
        end,
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
    let mut end = deposed(rng, 500);
    end.opening = group[1..].iter().map(|id| Opening::Restart(*id)).collect();
    vec![
        Stage {
            span_ns: rng.between(1_050, 1_800) * MS,
            lost: Ways::from(leader).without(within(&group)),
            ..Stage::default()
        },
        end,
    ]
}

/// A candidate is elected before its disk has anything of its ballot, forgets it in a crash, and asks
/// others, who have not heard of it.
fn forgotten_ballot(rng: &mut Rng, ids: &[ReplicaId]) -> Vec<Stage> {
    let candidate = *rng.one_of(ids);
    let others: Vec<ReplicaId> = ids.iter().copied().filter(|id| *id != candidate).collect();
    let (mut first, mut second) = others.split_at(ids.len() / 2);
    if rng.chance(50) {
        (first, second) = (second, first);
    }
    let alone_with = |helpers: &[ReplicaId]| Stage {
        span_ns: 3_000 * MS,
        lost: Ways::ALL.without(within(&[&[candidate], helpers].concat())),
        until_leads: Some(candidate),
        step_ms: 200,
        ..Stage::default()
    };
    let slow = Nodes::of(&[candidate]);
    let mut elected = Stage { slow_promises: slow, slow_logs: slow, ..alone_with(first) };
    elected.opening.extend(ids.iter().map(|id| Opening::Restart(*id)));
    elected.opening.extend(others.iter().map(|id| Opening::Drain(*id)));
    let mut again = alone_with(second);
    again.opening = vec![Opening::Clear, Opening::Forget(candidate)];
    let stay = others.iter().map(|id| Opening::Stay(*id)).collect();
    vec![elected, again, Stage { span_ns: MS, opening: stay, ..Stage::default() }]
}

/// Voters forget in a crash whom they elected, and elect somebody else under a lower ballot. What the
/// first one had sent arrives when the second one is gone.
fn forgotten_promise(rng: &mut Rng, ids: &[ReplicaId]) -> Vec<Stage> {
    let first = ids[ids.len() - 1];
    let second = ids[rng.index(ids.len() - 1)];
    let rest = ids.iter().copied().filter(|id| ![first, second].contains(id));
    let voters: Vec<ReplicaId> = rest.take(ids.len() / 2).collect();
    let alone = |leader: ReplicaId| Stage {
        span_ns: 3_000 * MS,
        until_leads: Some(leader),
        step_ms: 200,
        ..Stage::default()
    };
    let apart = |leader: ReplicaId| Ways::ALL.without(within(&[&[leader], &voters[..]].concat()));
    let slow = Nodes::of(&voters);
    let elected = Stage {
        lost: apart(first),
        held_kinds: Kinds::of(&[Kind::Accept, Kind::Heartbeat]),
        slow_promises: slow,
        slow_logs: slow,
        opening: ids
            .iter()
            .map(|id| Opening::Restart(*id))
            .chain(voters.iter().map(|id| Opening::Drain(*id)))
            .collect(),
        ..alone(first)
    };
    let forget = |id: &ReplicaId| [Opening::Forget(*id), Opening::Drain(*id)];
    let deposed = Stage {
        held: Ways::from(first),
        lost: Ways::to(first).and(apart(second).without(Ways::from(first))),
        opening: voters.iter().flat_map(forget).collect(),
        ..alone(second)
    };
    let serves = Stage {
        span_ns: rng.between(50, 200) * MS,
        held: Ways::from(first),
        lost: Ways::to(first),
        clients: Some(second),
        step_ms: 20,
        ..Stage::default()
    };
    let gone = Ways::from(second).and(Ways::to(second));
    let expires = Stage {
        span_ns: rng.between(950, 1_200) * MS,
        held: Ways::from(first),
        lost: gone.and(Ways::to(first)),
        ..Stage::default()
    };
    let arrives = Stage { span_ns: rng.between(50, 300) * MS, lost: gone, ..Stage::default() };
    let stay = voters.iter().map(|id| Opening::Stay(*id)).collect();
    let end = Stage { span_ns: MS, opening: stay, ..Stage::default() };
    vec![elected, deposed, serves, expires, arrives, end]
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
        passes: *rng.one_of(&[0, 2, 10]),
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
