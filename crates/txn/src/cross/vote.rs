//! A group's own view of its part: what it would change, or why it cannot, or whose lock it meets.
//!
//! Called by the driver before a vote is logged, on the rows as entries in flight leave them. Calls
//! `../transact.rs`, so a part is decided by the same code as a transaction of one group.

use std::sync::Arc;

use quorate_store::{Key, StoreError, View};
use quorate_types::limits::ENTRY_BYTES_MAX;
use quorate_types::planted::{Bug, planted};
use quorate_types::{Age, Attempt, Code, Error, Part, PartReply};

use super::entry::part_reply;
use super::locks::Locks;
use crate::context::Context;
use crate::entry::{Effect, RowKey, Write};
use crate::money::{self, Escrow, Leg};
use crate::transact::{Decided, Stop, Transaction, transact};

/// What a group makes of its part.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// It can be done.
    Yes(Yes),
    /// It cannot: a condition, a guard, a limit.
    No(Error),
    /// Rows it needs are locked, or an older transaction waits for them.
    Locked(Locked),
}

/// Who is in the way of a part, and of which rows.
#[derive(Clone, Debug)]
pub struct Locked {
    /// These are; at least one.
    pub ahead: Vec<Attempt>,
    /// Rows the part changes.
    pub exclusive: Vec<Key>,
    /// Rows it looks at.
    pub shared: Vec<Key>,
}

/// A part that can be done.
#[derive(Clone, Debug)]
pub struct Yes {
    /// What it changes and brings to the reply. Without a request id.
    pub write: Write,
    /// Rows it only looks at.
    pub shared: Vec<RowKey>,
    /// Our side of transfers; then there are no rows.
    pub leg: Option<Arc<Leg>>,
}

impl Yes {
    /// A side of transfers.
    #[must_use]
    pub fn of_transfers(leg: Leg) -> Yes {
        Yes { write: Write::default(), shared: Vec::new(), leg: Some(Arc::new(leg)) }
    }

    /// Its part of the reply.
    #[must_use]
    pub fn reply(&self) -> PartReply {
        part_reply(&self.write, self.leg.as_deref())
    }

    /// Why no entry has room for it. PREPARE carries all of it; COMMIT in the coordinator's log carries
    /// the replies of all groups, so each has its share of an entry: what was voted for must fit.
    fn too_large(&self, groups: usize) -> Option<Error> {
        let reply = self.reply().size();
        let share = (ENTRY_BYTES_MAX - HEAD_BYTES) / groups.max(1);
        if share < reply {
            let message = format!("one group returns {reply} bytes; each of {groups} may {share}");
            return Some(Error::new(Code::TxnTooLarge, message).with("length", reply));
        }
        let rows = self.write.effects.iter().map(Effect::size).sum::<usize>();
        let locked = self.shared.iter().map(|at| ROW_BYTES + at.key.len()).sum::<usize>();
        let length = HEAD_BYTES + reply + rows + locked;
        if ENTRY_BYTES_MAX < length {
            let message = format!("the part of one group takes {length} bytes in its log");
            return Some(Error::new(Code::TxnTooLarge, message).with("length", length));
        }
        None
    }
}

/// Room for what an entry carries besides rows: attempt, age, groups, counts.
const HEAD_BYTES: usize = 16 * 1024;
/// What a row takes besides its key.
const ROW_BYTES: usize = 24;

/// Decides a part on `overlay`, unless `locks` are in its way. The transaction has this age and so many
/// groups.
///
/// # Errors
/// `StoreError` if rows could not be read.
pub fn evaluate_part(
    part: &Part,
    (age, groups): (Age, usize),
    context: &Context<'_>,
    overlay: &dyn View,
    (locks, escrow): (&Locks, &Escrow),
) -> Result<Verdict, StoreError> {
    let Part { conditions, mutations, reads, credits } = part;
    if !credits.is_empty() {
        // What is in escrow does not exclude it, and no row is locked by it.
        return Ok(match money::credits(credits, context, overlay, escrow)? {
            Ok(leg) => Verdict::Yes(Yes::of_transfers(Leg::Credit(leg))),
            // Nobody knows yet whether there is room: the debit side may ask again.
            Err(other) => {
                let message = format!("an account may run over, depending on {other}");
                Verdict::No(Error::new(Code::TxnAborted, message).with("attempt", other))
            }
        });
    }
    let asked = Transaction { conditions, mutations, reads };
    if !locks.are_idle() {
        let mut ahead = holders(&asked, context, locks);
        ahead.extend(older_ones_that_wait(part, age, context, locks));
        if !ahead.is_empty() {
            let (exclusive, shared) = wanted_keys(part, context);
            return Ok(Verdict::Locked(Locked { ahead, exclusive, shared }));
        }
    }
    match transact(&asked, context, overlay) {
        Ok(Decided { write, .. }) => {
            let yes = Yes { write, shared: looked_at(part, context), leg: None };
            Ok(match yes.too_large(groups) {
                Some(error) => Verdict::No(error),
                None => Verdict::Yes(yes),
            })
        }
        Err(Stop::Refused(error)) => Ok(Verdict::No(*error)),
        Err(Stop::Store(error)) => Err(error),
    }
}

/// Who holds rows that a transaction needs. Each once, in order.
pub(crate) fn holders(
    asked: &Transaction<'_>,
    context: &Context<'_>,
    locks: &Locks,
) -> Vec<Attempt> {
    if locks.is_empty() {
        return Vec::new();
    }
    let looked_at = asked.conditions.iter().map(|condition| condition.address()).chain(asked.reads);
    let mut holders: Vec<Attempt> =
        looked_at.filter_map(|at| locks.against_reading(&context.key(at))).collect();
    if planted(Bug::ReadAroundLocks) {
        holders.clear();
    }
    for mutation in asked.mutations {
        holders.extend(locks.against_writing(&context.key(mutation.address())));
    }
    holders.sort_unstable();
    holders.dedup();
    holders
}

/// Who waits for rows of a part and is older.
fn older_ones_that_wait(
    part: &Part,
    age: Age,
    context: &Context<'_>,
    locks: &Locks,
) -> Vec<Attempt> {
    let (exclusive, shared) = wanted_keys(part, context);
    let ahead = |keys: &[Key], is_exclusive| -> Vec<Attempt> {
        keys.iter().flat_map(|key| locks.ahead_of(age, key, is_exclusive)).collect()
    };
    let mut found = ahead(&exclusive, true);
    found.extend(ahead(&shared, false));
    found
}

/// The rows a part changes, and those it looks at.
fn wanted_keys(part: &Part, context: &Context<'_>) -> (Vec<Key>, Vec<Key>) {
    let conditions = part.conditions.iter().map(|condition| condition.address());
    let shared = conditions.chain(&part.reads).map(|at| context.key(at)).collect();
    (part.mutations.iter().map(|mutation| context.key(mutation.address())).collect(), shared)
}

fn looked_at(part: &Part, context: &Context<'_>) -> Vec<RowKey> {
    let conditions = part.conditions.iter().map(|condition| condition.address());
    conditions.chain(&part.reads).map(|at| context.row_key(at)).collect()
}

/// The keys that a yes locks: for writing, and for reading.
pub(crate) fn locked_keys(
    write: &Write,
    shared: &[RowKey],
    keyspace: quorate_store::Keyspace,
) -> (Vec<Key>, Vec<Key>) {
    let written = write.effects.iter().map(|effect| match effect {
        Effect::Put(at, _) | Effect::Delete(at) | Effect::Add { at, .. } => at.within(keyspace),
    });
    let read = shared.iter().map(|at| at.within(keyspace));
    let read = if planted(Bug::ReadAroundLocks) { Vec::new() } else { read.collect() };
    (written.collect(), read)
}
