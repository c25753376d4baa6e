//! What must hold of the transfers of `payments.rs`: of each read, and at the end of everything.

use std::collections::{BTreeMap, BTreeSet};

use quorate_types::{Account, AccountAddress, ReplyBody, RequestBody, Transfer};

use super::group::GROUPS;
use super::payments::{Look, RELAY, Run, SINK, SOURCE, START, Span, USERS, account};

impl Run {
    /// A balance shows every bit that was known when the read began, and with each bit those that were
    /// known when that one began.
    pub(super) fn judge_read(
        &mut self,
        of: AccountAddress,
        (known, begun): (u64, u64),
        found: &Account,
    ) {
        self.counts.reads += 1;
        let is_source = of.uid.0 < SINK;
        let opened = if is_source { i64::try_from(2 * START).expect("small") } else { 0 };
        let shown = if is_source { -found.balance - opened } else { found.balance };
        let shown = u64::try_from(shown).expect("it moves one way");
        let hops = || self.hops.iter().filter(|hop| hop.from == of || hop.to == of);
        let sent: u64 = hops().map(|hop| hop.bit).sum();
        assert_eq!(shown & !sent, 0, "{of} shows what was never sent to it");
        assert_eq!(known & !shown, 0, "{of} shows {shown:b}, known was {known:b}");
        for hop in hops().filter(|hop| shown & hop.bit != 0) {
            let before = hop.before.get(&of).copied().unwrap_or_default();
            assert_eq!(before & !shown, 0, "{of} shows {shown:b}, before {} {before:b}", hop.bit);
        }
        *self.known.entry(of).or_default() |= shown;
        let span = Span { begun, ended: self.next_moment() };
        self.looks.push(Look { of, shown, span });
    }

    /// Every balance is what the transfers that have a row say, in both groups, and what a caller was
    /// told is there.
    pub(super) fn judge(&mut self) {
        self.judge_order();
        let mut balances: BTreeMap<AccountAddress, i64> = BTreeMap::new();
        let sent: Vec<Transfer> = self.sent.values().copied().collect();
        let mut all: BTreeSet<AccountAddress> = (0..USERS).map(account).collect();
        for group in 0..GROUPS {
            all.extend([SOURCE, RELAY, SINK].map(|kind| account(kind + group)));
        }
        for transfer in &sent {
            let body = RequestBody::GetTransfer(transfer.debit.uid, transfer.id);
            let ReplyBody::Transfer(found) = self.now_at(transfer.debit.uid.0, body) else {
                panic!("no transfer is answered");
            };
            let Some(found) = found else {
                assert!(!self.told_created.contains(&transfer.id), "{transfer:?} is lost");
                continue;
            };
            assert_eq!(found.transfer, *transfer);
            if transfer.kind.gives() {
                let amount = i64::try_from(found.amount).expect("63 bits");
                *balances.entry(transfer.debit).or_default() -= amount;
                *balances.entry(transfer.credit).or_default() += amount;
            }
        }
        for address in all {
            let body = RequestBody::GetAccount(address);
            let ReplyBody::Account(Some(found)) = self.now_at(address.uid.0, body) else {
                panic!("{address} is missing");
            };
            let wanted = balances.get(&address).copied().unwrap_or_default();
            assert_eq!(found.balance, wanted, "{address}");
            self.judge_history(&found);
        }
        for group in &self.groups {
            let first = &group.replicas[0];
            for replica in &group.replicas[1..] {
                assert_eq!(first.state(), replica.state(), "{}", group.id);
            }
        }
    }

    /// There is one order of all transfers of bits and all reads of them in which each read shows what came
    /// before it, and that agrees with the order in which callers saw them begin and end: no long fork.
    fn judge_order(&self) {
        let spans = self.hops.iter().map(|hop| hop.span);
        let spans: Vec<Span> = spans.chain(self.looks.iter().map(|look| look.span)).collect();
        let count = spans.len();
        let mut after: Vec<Vec<usize>> = vec![Vec::new(); count];
        for (one, span) in spans.iter().enumerate() {
            let later = (0..count).filter(|other| span.ended < spans[*other].begun);
            after[one].extend(later);
        }
        for (number, look) in self.looks.iter().enumerate() {
            let look_at = self.hops.len() + number;
            for (hop_at, hop) in self.hops.iter().enumerate() {
                if hop.from != look.of && hop.to != look.of {
                    continue;
                }
                match look.shown & hop.bit != 0 {
                    true => after[hop_at].push(look_at),
                    false => after[look_at].push(hop_at),
                }
            }
        }
        let mut before = vec![0_usize; count];
        after.iter().flatten().for_each(|at| before[*at] += 1);
        let mut free: Vec<usize> = (0..count).filter(|at| before[*at] == 0).collect();
        let mut placed = 0;
        while let Some(at) = free.pop() {
            placed += 1;
            for next in &after[at] {
                before[*next] -= 1;
                if before[*next] == 0 {
                    free.push(*next);
                }
            }
        }
        assert_eq!(placed, count, "no order explains all reads");
    }

    /// The history of an account ends at its balance.
    fn judge_history(&mut self, account: &Account) {
        let body = RequestBody::History { account: account.address, after: None, limit: 0 };
        let ReplyBody::History(page) = self.now_at(account.address.uid.0, body) else {
            panic!("no history is answered");
        };
        assert_eq!(page.entries.iter().map(|entry| entry.delta).sum::<i64>(), account.balance);
        let last = page.entries.last().map_or(0, |entry| entry.balance);
        assert_eq!(last, account.balance, "{}", account.address);
    }
}
