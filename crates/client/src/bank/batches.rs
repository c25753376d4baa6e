//! Cuts transfers into requests: by the groups they are between, at the ends of chains, and not more
//! than a group takes.
//!
//! Called by `bank.rs`. Requests between the same groups follow each other, because the order of their
//! transfers counts; others are sent side by side.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use quorate_topology::Topology;
use quorate_types::limits::{CHAIN_MAX, TRANSFERS_MAX};
use quorate_types::{
    Code, GroupId, ReplyBody, RequestBody, SliceId, Transfer, TransferBatch, TransferResults, Uid,
    Verdict,
};

use super::{Refusal, TransferEffect, TransferOutcome};
use crate::call::{Answered, Place, other_answer};
use crate::client::Client;
use crate::error::{Error, Outcome, Trail};

/// The transfers of one request, by their places among all.
type Part = Vec<usize>;

/// Carries out transfers and says what became of each.
pub(super) async fn carry_out(client: &Client, transfers: &[Transfer]) -> Vec<TransferOutcome> {
    let (parts, refused) = cut(&client.topology(), transfers);
    let mut outcomes: Vec<Option<TransferOutcome>> = vec![None; transfers.len()];
    for (chain, error) in refused {
        let failed = TransferOutcome::Failed(Error::local(error));
        outcomes[chain].fill(Some(failed));
    }
    let asking = |parts: Vec<Part>| async move {
        let mut told = Vec::new();
        for part in parts {
            let of_part = ask(client, transfers, &part).await;
            told.extend(part.into_iter().zip(of_part));
        }
        told
    };
    let mut asked: FuturesUnordered<_> = parts.into_values().map(asking).collect();
    while let Some(told) = asked.next().await {
        for (index, outcome) in told {
            outcomes[index] = Some(outcome);
        }
    }
    outcomes
        .into_iter()
        .map(|outcome| outcome.expect("each transfer is in one part or refused"))
        .collect()
}

/// Chains that no request can carry, and why.
type Refused = Vec<(Range<usize>, quorate_types::Error)>;

/// Between which groups transfers are: that of the debit accounts, and that of the credit accounts, or
/// the first again where these are not touched.
type Pair = (GroupId, GroupId);

/// The requests of each pair, in order, and the chains that are in none.
fn cut(topology: &Topology, transfers: &[Transfer]) -> (BTreeMap<Pair, Vec<Part>>, Refused) {
    let mut parts: BTreeMap<Pair, Vec<Part>> = BTreeMap::new();
    let mut refused = Vec::new();
    let mut start = 0;
    while start < transfers.len() {
        let links = transfers[start..].iter().position(|transfer| !transfer.linked);
        let end = links.map_or(transfers.len(), |links| start + links + 1);
        match pair_of_chain(topology, &transfers[start..end]) {
            Err(error) => refused.push((start..end, error)),
            Ok(pair) => {
                let of_pair = parts.entry(pair).or_default();
                match of_pair.last_mut() {
                    Some(last) if last.len() + (end - start) <= TRANSFERS_MAX => {
                        last.extend(start..end);
                    }
                    Some(_) | None => of_pair.push((start..end).collect()),
                }
            }
        }
        start = end;
    }
    (parts, refused)
}

/// The one pair of groups of a chain; most have one link.
fn pair_of_chain(topology: &Topology, chain: &[Transfer]) -> Result<Pair, quorate_types::Error> {
    if CHAIN_MAX < chain.len() {
        let message = format!("a chain has {} transfers, {CHAIN_MAX} are allowed", chain.len());
        return Err(quorate_types::Error::new(Code::InvalidRequest, message));
    }
    let group = |uid| topology.group_of_accounts(uid).map(|group| group.id);
    let mut found = None;
    for Transfer { debit, credit, kind, .. } in chain {
        let from = group(debit.uid)?;
        let pair = if kind.gives() { (from, group(credit.uid)?) } else { (from, from) };
        let first = *found.get_or_insert(pair);
        if first != pair {
            let message = format!(
                "the chain goes from {} to {}, and from {} to {}",
                first.0, first.1, pair.0, pair.1
            );
            let error = quorate_types::Error::new(Code::ChainSpansUnits, message);
            return Err(error.with("debit", debit).with("credit", credit));
        }
    }
    found.ok_or_else(|| quorate_types::Error::new(Code::InvalidRequest, "the chain is empty"))
}

/// Sends one request.
async fn ask(client: &Client, transfers: &[Transfer], part: &[usize]) -> Vec<TransferOutcome> {
    let of_part: Vec<Transfer> = part.iter().map(|index| transfers[*index]).collect();
    let body = RequestBody::Transfers(TransferBatch::new(&of_part));
    let place = Place::Accounts(one_user_of_each_slice(&client.topology(), &of_part));
    let answered = client.call().repeatable(&place, body).await;
    note_credited(client, &of_part);
    let (answered, before) = match answered {
        Ok(answered) => answered,
        Err(error) => return vec![TransferOutcome::Failed(error); part.len()],
    };
    let Answered { group, reply, .. } = answered;
    match reply.body {
        ReplyBody::Transfers(results) if results.verdicts.len() == part.len() => {
            let told = Told { group, slot: reply.at.slot, results, before };
            told.outcomes(&of_part)
        }
        _ => {
            let error = Error::new(other_answer("Transfers"), Outcome::Unknown, Trail::default());
            vec![TransferOutcome::Failed(error); part.len()]
        }
    }
}

/// Transfers took part, or may have, in the logs of the groups they credit; at which place nobody told us.
/// They are decided a little later: nothing to see for those who do not wait for that.
fn note_credited(client: &Client, transfers: &[Transfer]) {
    let Some(reads) = client.reads() else { return };
    let topology = client.topology();
    let group_of = |uid| topology.group_of_accounts(uid).ok().map(|group| group.id);
    let mut groups = BTreeSet::new();
    for Transfer { debit, credit, kind, .. } in transfers {
        let (from, to) = (group_of(debit.uid), group_of(credit.uid));
        if kind.gives() && from != to {
            groups.extend(to);
            groups.extend(from.filter(|_| reads.is_around_locks()));
        }
    }
    if !groups.is_empty() {
        reads.saw_unplaced(groups);
    }
}

/// Users enough to find the group of the debits again: asking for each of thousands would take its time.
fn one_user_of_each_slice(topology: &Topology, transfers: &[Transfer]) -> Vec<Uid> {
    let users = transfers.iter().map(|transfer| transfer.debit.uid);
    let by_slice: BTreeMap<SliceId, Uid> = users.map(|uid| (topology.slice_of(uid), uid)).collect();
    by_slice.into_values().collect()
}

/// The answer to a request.
struct Told {
    group: GroupId,
    slot: quorate_types::Slot,
    results: TransferResults,
    /// What is known of the attempts that were not answered.
    before: Outcome,
}

impl Told {
    fn outcomes(self, transfers: &[Transfer]) -> Vec<TransferOutcome> {
        let Told { group, slot, results, before } = self;
        let mut details = results.details.iter().peekable();
        let outcome = |(index, (transfer, verdict)): (usize, (&Transfer, &Verdict))| {
            let known = details.next_if(|detail| detail.index as usize == index);
            let effect = match known {
                Some(detail) => TransferEffect { group, slot: detail.slot, amount: detail.amount },
                None => TransferEffect { group, slot, amount: transfer.amount },
            };
            match verdict {
                Verdict::Created => TransferOutcome::Created(effect),
                Verdict::AlreadyApplied => TransferOutcome::AlreadyApplied(effect),
                verdict => refused(transfer, *verdict, before),
            }
        };
        transfers.iter().zip(&results.verdicts).enumerate().map(outcome).collect()
    }
}

/// A refusal is certain only if no earlier attempt is still on its way: that one may yet take effect.
fn refused(transfer: &Transfer, verdict: Verdict, before: Outcome) -> TransferOutcome {
    let invalid = transfer.check().err();
    let refusal = Refusal { verdict, invalid: invalid.filter(|_| verdict == Verdict::Invalid) };
    // What contradicts itself was refused by every attempt.
    if before == Outcome::NotApplied || verdict == Verdict::Invalid {
        return TransferOutcome::Refused(refusal);
    }
    let message = format!("an attempt was not answered, the next one was refused: {refusal}");
    let error = quorate_types::Error::new(Code::OutcomeUnknown, message).with("verdict", verdict);
    TransferOutcome::Failed(Error::new(error, Outcome::Unknown, Trail::default()))
}

#[cfg(test)]
mod tests {
    use quorate_topology::presets;
    use quorate_types::{AccountAddress, ClusterId, TransferId, TransferKind};

    use super::*;

    fn topology() -> Topology {
        let text = presets::one_city_three_idcs(&presets::Options::demo(ClusterId(7)));
        Topology::parse(&text).expect("presets are valid")
    }

    fn transfer(id: u128, debit: u64, credit: u64) -> Transfer {
        let at = |uid| AccountAddress::new(Uid(uid), 840);
        Transfer::post(TransferId(id), at(debit), at(credit), 1)
    }

    #[test]
    fn requests_are_cut_by_groups_and_keep_the_order() {
        // Goal: each transfer is in one request or refused; a chain is between the same groups.
        let topology = topology();
        let linked = |it| Transfer { linked: true, ..it };
        let transfers = [
            transfer(1, 1, 101),
            transfer(2, 30, 31),
            transfer(3, 1, 30),
            linked(transfer(4, 2, 3)),
            transfer(5, 30, 31),
            linked(transfer(6, 2, 3)),
            transfer(7, 4, 5),
            linked(transfer(8, 4, 31)),
            transfer(9, 5, 30),
            Transfer { kind: TransferKind::Pending { timeout_ms: 0 }, ..transfer(10, 4, 31) },
        ];
        let (parts, refused) = cut(&topology, &transfers);
        let group = |uid| topology.group_of_accounts(Uid(uid)).expect("it is sharded").id;
        assert_ne!(group(1), group(30));
        let (near, far) = (group(1), group(30));
        assert_eq!(parts[&(near, near)], [vec![0, 5, 6, 9]]);
        assert_eq!(parts[&(near, far)], [vec![2, 7, 8]]);
        assert_eq!(parts[&(far, far)], [vec![1]]);
        let named: Vec<_> =
            refused.iter().map(|(chain, error)| (chain.clone(), error.code)).collect();
        assert_eq!(named, [(3..5, Code::ChainSpansUnits)]);
    }

    #[test]
    fn requests_end_at_the_ends_of_chains() {
        // Goal: no chain is torn, however long the batch, and a chain that is too long is refused.
        let topology = topology();
        let count = 3 * TRANSFERS_MAX;
        let mut all: Vec<_> = (0..count)
            .map(|index| Transfer { linked: index % 1000 != 999, ..transfer(1, 1, 101) })
            .collect();
        all.last_mut().expect("there are some").linked = false;
        let (parts, refused) = cut(&topology, &all);
        assert!(refused.is_empty());
        let of_group = parts.values().next().expect("one group");
        assert_eq!(of_group.iter().map(Vec::len).sum::<usize>(), count);
        for part in of_group {
            assert!(part.len() <= TRANSFERS_MAX);
            assert!(!all[*part.last().expect("no part is empty")].linked);
        }
        let mut chain = vec![Transfer { linked: true, ..transfer(1, 1, 101) }; CHAIN_MAX + 1];
        chain[CHAIN_MAX].linked = false;
        let (parts, refused) = cut(&topology, &chain);
        assert!(parts.is_empty());
        assert_eq!(refused[0].1.code, Code::InvalidRequest);
    }
}
