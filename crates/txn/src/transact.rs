//! One transaction against a view: conditions, reads, mutations in order.
//!
//! Called by `evaluate.rs`. Works on a draft of the rows, so a mutation sees those before it.

use quorate_store::{StoreError, View};
use quorate_types::limits::ENTRY_BYTES_MAX;
use quorate_types::planted::{Bug, planted};
use quorate_types::{Code, Condition, Error, Mutation, RowAddress, Value};

use crate::context::Context;
use crate::draft::{AddError, Draft, RowStates};
use crate::entry::{Effect, Write};
use crate::limits::row_error;

/// A transaction as it was asked for.
#[derive(Clone, Copy)]
pub(crate) struct Transaction<'a> {
    /// All must hold.
    pub(crate) conditions: &'a [Condition],
    /// Run in order.
    pub(crate) mutations: &'a [Mutation],
    /// Rows to return.
    pub(crate) reads: &'a [RowAddress],
}

/// A transaction that may take effect.
pub(crate) struct Decided {
    /// The entry, without a request id.
    pub(crate) write: Write,
    /// The rows as it leaves them.
    pub(crate) rows: RowStates,
}

/// Why a transaction does not take effect.
pub(crate) enum Stop {
    /// By its own conditions or guards, or because of what the rows hold.
    Refused(Box<Error>),
    /// The rows could not be read.
    Store(StoreError),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Stop {
        Stop::Refused(Box::new(error))
    }
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Stop {
        Stop::Store(error)
    }
}

/// The bounds of a guarded add.
struct Guard {
    delta: i64,
    floor: Option<i64>,
    ceiling: Option<i64>,
}

/// Decides a transaction on the rows of `view`.
pub(crate) fn transact(
    asked: &Transaction<'_>,
    context: &Context<'_>,
    view: &dyn View,
) -> Result<Decided, Stop> {
    let mut draft = Draft::new(view);
    for (index, condition) in asked.conditions.iter().enumerate() {
        let current = draft.value(&context.key(condition.address()))?;
        check_condition(index, condition, current.as_ref())?;
    }
    let reads = read_all(asked.reads, context, &draft)?;
    let mut effects = Vec::with_capacity(asked.mutations.len());
    let mut sums = Vec::new();
    for mutation in asked.mutations {
        let at = context.row_key(mutation.address());
        let key = at.within(context.keyspace);
        effects.push(match mutation {
            Mutation::Put(_, value) => {
                draft.set(key, Some(value.clone()));
                Effect::Put(at, value.clone())
            }
            Mutation::Delete(_) => {
                draft.set(key, None);
                Effect::Delete(at)
            }
            Mutation::Add { at: address, delta, floor, ceiling } => {
                let guard = Guard { delta: *delta, floor: *floor, ceiling: *ceiling };
                let sum = guard.sum(address, draft.sum(&key, *delta)?)?;
                draft.set(key, Some(Value::Integer(sum)));
                sums.push(sum);
                Effect::Add { at, delta: *delta }
            }
        });
    }
    let write = Write { id: None, effects, reads, sums };
    Ok(Decided { write, rows: draft.into_rows() })
}

/// The rows asked for. Stops as soon as they cannot fit an entry, before they fill the memory.
fn read_all(
    reads: &[RowAddress],
    context: &Context<'_>,
    draft: &Draft<'_>,
) -> Result<Vec<Option<Value>>, Stop> {
    let mut values = Vec::with_capacity(reads.len());
    let mut bytes = 0;
    for at in reads {
        let value = draft.value(&context.key(at))?;
        bytes += value.as_ref().map_or(0, Value::size);
        if ENTRY_BYTES_MAX < bytes {
            let message = "the rows to return exceed an entry";
            return Err(Error::new(Code::TxnTooLarge, message).with("length", bytes).into());
        }
        values.push(value);
    }
    Ok(values)
}

fn check_condition(
    index: usize,
    condition: &Condition,
    current: Option<&Value>,
) -> Result<(), Error> {
    let what = match (condition, current) {
        (Condition::Exists(_), Some(_)) | (Condition::Absent(_), None) => return Ok(()),
        (Condition::Equals(_, wanted), Some(value)) if wanted == value => return Ok(()),
        (Condition::Exists(_) | Condition::Equals(..), None) => "does not exist",
        (Condition::Absent(_), Some(_)) => "exists",
        (Condition::Equals(..), Some(_)) => "has another value",
    };
    let error =
        row_error(Code::ConditionFailed, condition.address(), what).with("condition", index);
    Err(match current {
        Some(Value::Integer(number)) => error.with("current", number),
        Some(Value::Bytes(_)) | None => error,
    })
}

impl Guard {
    /// The sum, if it is allowed.
    fn sum(&self, at: &RowAddress, sum: Result<(i64, i64), AddError>) -> Result<i64, Error> {
        let delta = self.delta;
        let (current, sum) = match sum {
            Ok(sums) => sums,
            Err(AddError::NotAnInteger) => {
                let error = row_error(Code::NotAnInteger, at, "holds bytes and cannot be added to");
                return Err(error.with("delta", delta));
            }
            Err(AddError::Overflow { current }) => {
                let what = format!("holds {current}; adding {delta} leaves 64 bits");
                let error = row_error(Code::IntegerOverflow, at, &what);
                return Err(error.with("current", current).with("delta", delta));
            }
        };
        let (name, bound) = match (self.floor, self.ceiling) {
            (Some(floor), _) if sum < floor && !planted(Bug::FloorForgotten) => ("floor", floor),
            (_, Some(ceiling)) if ceiling < sum => ("ceiling", ceiling),
            _ => return Ok(sum),
        };
        let what = format!("holds {current}; adding {delta} breaks its {name} of {bound}");
        let error = row_error(Code::GuardFailed, at, &what);
        Err(error.with("current", current).with("delta", delta).with(name, bound))
    }
}
