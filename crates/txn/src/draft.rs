//! Rows as a transaction leaves them: its own changes on top of a view.
//!
//! Used by `evaluate.rs` over the overlay and by `apply.rs` over the applied rows, so that both do
//! the same arithmetic. Calls the row codec of the store.

use quorate_store::{Change, Key, Row, StoreError, View};
use quorate_types::{Slot, Value};

/// The last state a transaction gave to each row it changes, in key order; `None` removes the row.
/// Sorted, not a tree: nearly every transaction changes one row or a few.
#[derive(Clone, Debug, Default)]
pub(crate) struct RowStates(Vec<(Key, Option<Value>)>);

impl RowStates {
    fn get(&self, key: &Key) -> Option<&Option<Value>> {
        let at = self.0.binary_search_by(|(other, _)| other.cmp(key)).ok()?;
        Some(&self.0[at].1)
    }

    fn set(&mut self, key: Key, value: Option<Value>) {
        match self.0.binary_search_by(|(other, _)| other.cmp(&key)) {
            Ok(at) => self.0[at].1 = value,
            Err(at) => self.0.insert(at, (key, value)),
        }
    }
}

/// The value of a row in a view.
pub(crate) fn row_value(view: &dyn View, key: &Key) -> Result<Option<Value>, StoreError> {
    let Some(bytes) = view.get(key)? else { return Ok(None) };
    let row = Row::decode(&bytes).map_err(|error| error.at(key))?;
    Ok(Some(row.value))
}

/// The records of rows last changed at `slot`, in key order.
pub(crate) fn row_changes(rows: &RowStates, slot: Slot) -> Vec<Change> {
    let change = |(key, value): &(Key, Option<Value>)| {
        let value = value.as_ref().map(|value| Row { slot, value: value.clone() }.encode());
        Change { key: key.clone(), value }
    };
    rows.0.iter().map(change).collect()
}

/// A transaction being worked out.
pub(crate) struct Draft<'a> {
    view: &'a dyn View,
    rows: RowStates,
}

/// Why a row cannot be added to.
pub(crate) enum AddError {
    /// It holds bytes.
    NotAnInteger,
    /// The sum leaves 64 bits.
    Overflow {
        /// What the row holds.
        current: i64,
    },
}

impl<'a> Draft<'a> {
    /// Nothing changed yet.
    pub(crate) fn new(view: &'a dyn View) -> Draft<'a> {
        Draft { view, rows: RowStates::default() }
    }

    /// The row as the changes so far leave it.
    pub(crate) fn value(&self, key: &Key) -> Result<Option<Value>, StoreError> {
        match self.rows.get(key) {
            Some(value) => Ok(value.clone()),
            None => row_value(self.view, key),
        }
    }

    /// Writes or removes a row.
    pub(crate) fn set(&mut self, key: Key, value: Option<Value>) {
        self.rows.set(key, value);
    }

    /// What the row holds, and what it would hold after adding `delta`. Changes nothing.
    pub(crate) fn sum(
        &self,
        key: &Key,
        delta: i64,
    ) -> Result<Result<(i64, i64), AddError>, StoreError> {
        let current = match self.value(key)? {
            None => 0,
            Some(Value::Integer(current)) => current,
            Some(Value::Bytes(_)) => return Ok(Err(AddError::NotAnInteger)),
        };
        let sum = current.checked_add(delta).ok_or(AddError::Overflow { current });
        Ok(sum.map(|sum| (current, sum)))
    }

    /// The rows as they end up.
    pub(crate) fn into_rows(self) -> RowStates {
        self.rows
    }
}
