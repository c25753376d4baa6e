//! The accounts of the workload `transfer`, and one request of it.
//!
//! All accounts belong to users of one unit, and a transfer stays within one group; or all pay to
//! accounts of another unit.

use std::sync::atomic::{AtomicU64, Ordering};

use quorate_client::{Client, Error, TransferOutcome};
use quorate_topology::Topology;
use quorate_types::{AccountAddress, AccountSettings, Code, Transfer, TransferId, Uid};
use rand::Rng;

use super::keys::Keys;

/// The ledger of the accounts. No currency has this number, so nobody's money is in it.
const LEDGER: u32 = 999_000_001;

/// Accounts to pay from and to.
#[derive(Debug)]
pub(super) struct Payments {
    accounts: Vec<AccountAddress>,
    /// Accounts of another group that are paid; if there are none, the accounts pay each other.
    far: Vec<AccountAddress>,
    keys: Keys,
    /// All pay to the first account.
    hot: bool,
    /// No other run has its ids.
    run: u64,
    next: AtomicU64,
}

/// Which accounts pay which.
#[derive(Clone, Copy, Debug)]
pub(super) struct Payers {
    /// Accounts are those of the group of this user, from it on.
    pub(super) first: u64,
    /// So many, and so many again in another group if that is paid.
    pub(super) count: u64,
    /// All pay to one account.
    pub(super) hot: bool,
    /// They pay accounts of another group.
    pub(super) far: bool,
}

impl Payments {
    /// Accounts are drawn by the places that `keys` draws from 0 on.
    ///
    /// # Errors
    /// Why there is no such group, or no other.
    pub(super) fn new(
        topology: &Topology,
        payers: Payers,
        keys: Keys,
    ) -> Result<Payments, quorate_types::Error> {
        let Payers { first, count, hot, far } = payers;
        let group = |uid| topology.group_of_accounts(uid).map(|group| group.id);
        let own = group(Uid(first)).map_err(quorate_types::Error::from)?;
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        let accounts_of = |group_id| {
            let is_there = move |uid: &Uid| group(*uid).is_ok_and(|owner| owner == group_id);
            let users = (first..=u64::MAX).map(Uid).filter(is_there);
            users.map(|uid| AccountAddress::new(uid, LEDGER)).take(count).collect()
        };
        let mut far_accounts = Vec::new();
        if far {
            // As far away as can be, and then from there on.
            let slices = u64::from(topology.slice_count());
            let mut users = (0..slices).map(|step| Uid(first + (slices / 2 + step) % slices));
            let other = users.find_map(|uid| group(uid).ok().filter(|it| *it != own));
            far_accounts = accounts_of(other.ok_or_else(|| {
                let message = "all accounts belong to one group, so none is far away";
                quorate_types::Error::new(Code::InvalidRequest, message)
            })?);
        }
        let (run, next) = (rand::rng().random(), AtomicU64::new(1));
        Ok(Payments { accounts: accounts_of(own), far: far_accounts, keys, hot, run, next })
    }

    /// Every account. None has a floor, so that no transfer is refused.
    pub(super) fn accounts(&self) -> impl Iterator<Item = AccountAddress> + '_ {
        self.accounts.iter().chain(&self.far).copied()
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
            let paid = if self.hot { Uid(0) } else { self.keys.draw(&mut rng) };
            let mut credit = self.paid(paid);
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
        pick(&self.accounts, place)
    }

    /// The account that is paid.
    fn paid(&self, place: Uid) -> AccountAddress {
        pick(if self.far.is_empty() { &self.accounts } else { &self.far }, place)
    }
}

fn pick(accounts: &[AccountAddress], place: Uid) -> AccountAddress {
    accounts[usize::try_from(place.0 % accounts.len() as u64).unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use quorate_topology::presets;
    use quorate_types::ClusterId;

    use super::*;

    #[test]
    fn payments_are_between_the_units_that_were_asked_for_and_never_repeat() {
        // Goal: every transfer makes sense, within one group or from it to another.
        let text = presets::one_city_three_idcs(&presets::Options::demo(ClusterId(7)));
        let topology = Topology::parse(&text).expect("presets are valid");
        for (hot, far) in [(false, false), (true, false), (false, true), (true, true)] {
            let keys = Keys::new(0, 2, None).expect("valid");
            let payers = Payers { first: 30, count: 2, hot, far };
            let payments = Payments::new(&topology, payers, keys).expect("it is sharded");
            let mut ids = Vec::new();
            for _ in 0..10 {
                for transfer in payments.batch(Uid(1), 50) {
                    assert_eq!(transfer.check(), Ok(()));
                    let group = |uid| topology.group_of_accounts(uid).expect("it is sharded").id;
                    assert_eq!(group(transfer.debit.uid), group(Uid(30)));
                    assert_eq!(group(transfer.credit.uid) != group(Uid(30)), far);
                    ids.push(transfer.id);
                }
            }
            ids.sort_unstable();
            ids.dedup();
            assert_eq!(ids.len(), 500);
        }
    }
}
