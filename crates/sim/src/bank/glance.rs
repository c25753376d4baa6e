//! Looks of the bank in two rounds: every balance and the rows of the latest transfers at one moment,
//! mostly without locks.

use quorate_client::{Client, Error, Value};
use quorate_types::Uid;
use quorate_types::limits::READ_ROWS_MAX;

use super::{Account, Bank, START, State, Told, number_of};

/// A transfer whose rows are looked at.
struct Latest {
    number: u64,
    parties: Vec<usize>,
    /// True if it was acknowledged before.
    is_applied: bool,
}

impl Bank {
    /// Reads balances and rows. False if it was not answered.
    pub(super) async fn glance(&self, client: &Client) -> bool {
        let latest = self.latest();
        let Ok((balances, rows)) = self.read_at_once(client, &latest).await else { return false };
        let mut state = self.lock();
        let State { wrong, glances, .. } = &mut *state;
        *glances += 1;
        let wanted = START * self.accounts.len() as i64;
        if balances.iter().sum::<i64>() != wanted || balances.iter().any(|balance| *balance < 0) {
            wrong.push(format!("a look found {balances:?}, not {wanted} in all"));
        }
        let mut rows = rows.iter();
        for Latest { number, parties, is_applied } in &latest {
            let found = rows.by_ref().take(parties.len()).filter(|row| row.is_some()).count();
            if found != 0 && found != parties.len() {
                wrong.push(format!("a look found {found} rows of transfer {number}"));
            }
            if *is_applied && found == 0 {
                wrong.push(format!("a look missed transfer {number}, acknowledged before"));
            }
        }
        true
    }

    /// The latest transfers, those under way too, as many as fit beside the balances.
    fn latest(&self) -> Vec<Latest> {
        let state = self.lock();
        let mut room = READ_ROWS_MAX.saturating_sub(self.accounts.len());
        let mut latest = Vec::new();
        for number in state.latest.iter().rev() {
            let Some((parties, told)) = state.transfers.get(number) else { continue };
            let Some(left) = room.checked_sub(parties.len()) else { break };
            room = left;
            let (parties, is_applied) = (parties.clone(), *told == Told::Applied);
            latest.push(Latest { number: *number, parties, is_applied });
        }
        latest
    }

    /// Every balance, and the row of each party of each of these transfers.
    async fn read_at_once(
        &self,
        client: &Client,
        latest: &[Latest],
    ) -> Result<(Vec<i64>, Vec<Option<Value>>), Error> {
        let balance = |it: &Account| (it.table.clone(), it.uid, it.key.clone());
        let mut named: Vec<(String, Uid, String)> = self.accounts.iter().map(balance).collect();
        for Latest { number, parties, .. } in latest {
            let accounts = parties.iter().map(|index| &self.accounts[*index]);
            named.extend(accounts.map(|it| (it.table.clone(), it.uid, it.row(*number))));
        }
        let named: Vec<_> =
            named.iter().map(|(table, uid, key)| (table.as_str(), *uid, key.clone())).collect();
        let mut balances = client.get_many(&named).await?;
        let rows = balances.split_off(self.accounts.len());
        Ok((balances.iter().map(number_of).collect(), rows))
    }
}
