//! One request of each workload.

use std::sync::Arc;

use bytes::Bytes;
use clap::ValueEnum;
use quorate_client::{Client, Error, Uid};
use quorate_types::limits;
use rand::RngCore;

use super::payments::Payments;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Measure {
    /// Durable writes of whole rows
    Put,
    /// Linearizable reads of single rows
    Get,
    /// Linearizable reads of all rows of a user
    Scan,
    /// Transactions: a guarded add and a write of the same user
    Txn,
    /// Transactions: money from one user to another of the same unit
    Pay,
    /// Transactions: money from one user to another of another unit
    PayFar,
    /// Transfers between accounts of one unit, many in each request
    Transfer,
    /// Nothing: what the nodes spend while nobody asks
    Idle,
    /// Puts and gets while the leadership moves: how long callers wait, and what fails
    HandOver,
}

impl Measure {
    /// The requests; `None` if there are none.
    pub(super) fn workload(self) -> Option<Workload> {
        match self {
            Measure::Put => Some(Workload::Put),
            Measure::Get => Some(Workload::Get),
            Measure::Scan => Some(Workload::Scan),
            Measure::Txn => Some(Workload::Txn),
            Measure::Pay => Some(Workload::Pay),
            Measure::PayFar => Some(Workload::PayFar),
            Measure::Transfer => Some(Workload::Transfer),
            Measure::Idle | Measure::HandOver => None,
        }
    }
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Workload {
    /// Durable writes of whole rows
    Put,
    /// Linearizable reads of single rows
    Get,
    /// Linearizable reads of all rows of a user
    Scan,
    /// Transactions: a guarded add and a write of the same user
    Txn,
    /// Money from one user to another of the same unit
    Pay,
    /// Money from one user to another of another unit
    PayFar,
    /// Transfers between accounts of one unit
    Transfer,
}

impl Workload {
    pub(super) fn word(self) -> &'static str {
        match self {
            Workload::Put => "put",
            Workload::Get => "get",
            Workload::Scan => "scan",
            Workload::Txn => "txn",
            Workload::Pay => "pay",
            Workload::PayFar => "pay-far",
            Workload::Transfer => "transfer",
        }
    }

    /// Whether rows must be there first.
    pub(super) fn needs_rows(self) -> bool {
        matches!(self, Workload::Get | Workload::Scan)
    }

    /// Rows of a user unless told otherwise.
    pub(super) fn rows_usual(self) -> u64 {
        match self {
            Workload::Scan => 10,
            Workload::Transfer => limits::TRANSFERS_MAX as u64,
            Workload::Put | Workload::Get | Workload::Txn | Workload::Pay | Workload::PayFar => 1,
        }
    }

    /// Requests in flight unless told otherwise: a batch of transfers is nearly a mebibyte, and a
    /// group takes 8 of those at once.
    pub(super) fn callers_usual(self) -> u64 {
        if self == Workload::Transfer { 4 } else { 256 }
    }
}

/// Sends requests. Clones share the client.
#[derive(Clone, Debug)]
pub(super) struct Worker {
    pub(super) client: Client,
    pub(super) table: String,
    pub(super) value_bytes: usize,
    /// Rows written by one request, held by each user, or transfers of one request.
    pub(super) rows: u64,
    /// The accounts of transfers.
    pub(super) payments: Option<Arc<Payments>>,
}

impl Worker {
    /// One request about a user. Returns how many operations it was.
    pub(super) async fn ask(&self, workload: Workload, uid: Uid) -> Result<u64, Error> {
        match workload {
            Workload::Put => self.put(uid).await,
            Workload::Get => {
                self.client.get(&self.table, uid, row_key(0)).await?;
                Ok(1)
            }
            Workload::Scan => {
                self.client.scan(&self.table, uid).prefix(ROW_PREFIX).collect_all().await?;
                Ok(1)
            }
            Workload::Txn => {
                let add = self.client.transaction().add(&self.table, uid, "count", 1).floor(1);
                let all = (0..self.rows)
                    .fold(add, |txn, row| txn.put(&self.table, uid, row_key(row), self.value()));
                all.commit().await?;
                Ok(1)
            }
            Workload::Pay | Workload::PayFar => {
                let other = self.other_user(uid, workload == Workload::PayFar);
                let paying = self.client.transaction().add(&self.table, uid, "count", -1);
                paying.add(&self.table, other, "count", 1).commit().await?;
                Ok(1)
            }
            Workload::Transfer => match &self.payments {
                Some(payments) => payments.pay(&self.client, uid, self.rows).await,
                None => Ok(0),
            },
        }
    }

    /// Another user, of the same group or of another one; the same if there is no such.
    fn other_user(&self, uid: Uid, is_far: bool) -> Uid {
        let topology = self.client.topology();
        let table = topology.table_by_name(&self.table).map(|table| table.id);
        let group = |uid: Uid| topology.route(table?, uid).ok().map(|route| route.group.id);
        let slices = u64::from(topology.slice_count());
        // A user of the same slice comes after as many as there are slices; one of half of them on is
        // as far away as can be.
        let first = if is_far { slices / 2 } else { slices };
        let others = (first..first + slices).map(|step| Uid(uid.0.wrapping_add(step)));
        let is_wanted = |other: &Uid| (group(*other) != group(uid)) == is_far;
        others.into_iter().find(is_wanted).unwrap_or(uid)
    }

    /// Writes all rows of a user at once.
    pub(super) async fn put(&self, uid: Uid) -> Result<u64, Error> {
        if self.rows == 1 {
            self.client.put(&self.table, uid, row_key(0), self.value()).await?;
            return Ok(1);
        }
        let all = (0..self.rows).fold(self.client.transaction(), |txn, row| {
            txn.put(&self.table, uid, row_key(row), self.value())
        });
        all.commit().await?;
        Ok(self.rows)
    }

    /// Fresh bytes that do not compress.
    fn value(&self) -> Bytes {
        let mut value = vec![0; self.value_bytes];
        rand::rng().fill_bytes(&mut value);
        Bytes::from(value)
    }
}

const ROW_PREFIX: &str = "b";

/// The key of a user's row.
pub(super) fn row_key(row: u64) -> String {
    format!("{ROW_PREFIX}{row}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::KEY_BYTES;

    #[test]
    fn keys_are_as_short_as_the_report_reckons() {
        assert_eq!(row_key(0).len(), KEY_BYTES);
    }
}
