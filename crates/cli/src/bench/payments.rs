//! The accounts of the workload `transfer`, and one request of it.
//!
//! All accounts belong to users of one unit: a transfer stays within one group.

use std::sync::atomic::{AtomicU64, Ordering};

use quorate_client::{Client, Error, TransferOutcome};
use quorate_topology::Topology;
use quorate_types::{AccountAddress, AccountSettings, Transfer, TransferId, Uid};
use rand::Rng;

use super::keys::Keys;

/// The ledger of the accounts. No currency has this number, so nobody's money is in it.
const LEDGER: u32 = 999_000_001;

/// Accounts to pay from and to.
#[derive(Debug)]
pub(super) struct Payments {
    accounts: Vec<AccountAddress>,
    keys: Keys,
    /// All pay to the first account.
    hot: bool,
    /// No other run has its ids.
    run: u64,
    next: AtomicU64,
}

impl Payments {
    /// `count` accounts in the group that holds those of the user `first`. Accounts are drawn by the
    /// places that `keys` draws from 0 on.
    ///
    /// # Errors
    /// Why there is no such group.
    pub(super) fn new(
        topology: &Topology,
        first: u64,
        count: u64,
        keys: Keys,
        hot: bool,
    ) -> Result<Payments, quorate_types::Error> {
        let group = topology.group_of_accounts(Uid(first)).map_err(quorate_types::Error::from)?.id;
        let is_there =
            |uid: &Uid| topology.group_of_accounts(*uid).is_ok_and(|owner| owner.id == group);
        let users = (first..=u64::MAX).map(Uid).filter(is_there);
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        let accounts = users.map(|uid| AccountAddress::new(uid, LEDGER)).take(count).collect();
        let (run, next) = (rand::rng().random(), AtomicU64::new(1));
        Ok(Payments { accounts, keys, hot, run, next })
    }

    /// Every account. None has a floor, so that no transfer is refused.
    pub(super) fn accounts(&self) -> impl Iterator<Item = AccountAddress> + '_ {
        self.accounts.iter().copied()
    }

    /// Creates one of them, unless it exists since an earlier run.
    pub(super) async fn create(client: &Client, at: AccountAddress) -> Result<(), Error> {
        let settings = AccountSettings { floor: None, ..AccountSettings::default() };
        client.create_account(at, settings).await.map(drop)
    }

    /// One request: so many transfers. Returns how many took effect.
    pub(super) async fn pay(&self, client: &Client, first: Uid, count: u64) -> Result<u64, Error> {
        let batch = self.batch(first, count);
        let mut stand = 0;
        let mut failure = None;
        for outcome in client.transfers(&batch).await {
            match outcome {
                TransferOutcome::Created(_) | TransferOutcome::AlreadyApplied(_) => stand += 1,
                TransferOutcome::Refused(_) => {}
                TransferOutcome::Failed(error) => failure = Some(error),
            }
        }
        failure.map_or(Ok(stand), Err)
    }

    /// `first` is the place of the account that the first transfer debits.
    fn batch(&self, first: Uid, count: u64) -> Vec<Transfer> {
        let mut rng = rand::rng();
        let mut place = first;
        let number = self.next.fetch_add(count, Ordering::Relaxed);
        let transfer = |offset: u64| {
            let debit = self.at(place);
            let mut credit =
                if self.hot { self.at(Uid(0)) } else { self.at(self.keys.draw(&mut rng)) };
            if credit == debit {
                credit = self.at(Uid(place.0 + 1));
            }
            place = self.keys.draw(&mut rng);
            let id = u128::from(self.run) << 64 | u128::from(number + offset);
            Transfer::post(TransferId(id), debit, credit, 1)
        };
        (0..count).map(transfer).collect()
    }

    fn at(&self, place: Uid) -> AccountAddress {
        let count = self.accounts.len() as u64;
        self.accounts[usize::try_from(place.0 % count).unwrap_or(0)]
    }
}

#[cfg(test)]
mod tests {
    use quorate_topology::presets;
    use quorate_types::ClusterId;

    use super::*;

    #[test]
    fn payments_stay_in_one_unit_and_never_repeat() {
        // Goal: every transfer makes sense, and its accounts belong to one group.
        let text = presets::one_city_three_idcs(&presets::Options::demo(ClusterId(7)));
        let topology = Topology::parse(&text).expect("presets are valid");
        for hot in [false, true] {
            let keys = Keys::new(0, 2, None).expect("valid");
            let payments = Payments::new(&topology, 30, 2, keys, hot).expect("it is sharded");
            let mut ids = Vec::new();
            for _ in 0..10 {
                for transfer in payments.batch(Uid(1), 50) {
                    assert_eq!(transfer.check(), Ok(()));
                    for uid in [transfer.debit.uid, transfer.credit.uid] {
                        let group = topology.group_of_accounts(uid).expect("it is sharded").id;
                        let first = topology.group_of_accounts(Uid(30)).expect("it is").id;
                        assert_eq!(group, first);
                    }
                    ids.push(transfer.id);
                }
            }
            ids.sort_unstable();
            ids.dedup();
            assert_eq!(ids.len(), 500);
        }
    }
}
