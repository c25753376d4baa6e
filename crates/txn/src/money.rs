//! Accounts and transfers within one group: decided once by the leader, applied everywhere.
//!
//! ```text
//!  request --evaluate--> decide --> books   the rows a batch touches, typed, read once
//!                          |          |
//!                        entry      draft --> changes of rows
//!                          |          ^
//!                        apply -------'     the same steps, with the verdicts of the leader
//! ```
//!
//! Transfers between two groups are decided side by side: `leg.rs` has the two sides, which travel
//! through the attempts of `../cross`; `escrow.rs` keeps what they may do from others until they
//! are decided.
//!
//! A batch is decided item by item, in order, each on what the ones before it left; a chain of linked
//! transfers stands or falls as a whole. What was decided is a byte for each transfer. Apply never
//! decides: it does what the verdicts say, and stops the replica where that is not possible.
//!
//! Called by `evaluate.rs` and `apply.rs` of this crate. The layouts of rows are in `record.rs`, that
//! of entries in `entry.rs`; `holds.rs` knows which reservations end when.

mod apply;
mod books;
mod decide;
mod draft;
mod entry;
mod escrow;
mod evaluate;
mod holds;
mod ids;
mod leg;
mod limits;
mod read;
mod record;
mod steps;

pub use entry::{AccountEntry, MoneyEntry, TransfersEntry};
pub use escrow::Escrow;
pub use evaluate::{Debits, EXPIRE_HOLDS_MAX, evaluate_debits, expire_holds};
pub use leg::{CreditLeg, Debit, DebitLeg, Leg};
pub use read::account_of;

pub(crate) use apply::{apply, settle};
pub(crate) use draft::Draft;
pub(crate) use entry::{put_verdicts, take_verdicts};
pub(crate) use evaluate::{create_account, credits, set_account, transfers};
pub(crate) use holds::HoldTable;
pub(crate) use limits::check_limits;
pub(crate) use read::{find_transfers, read_account, read_accounts, read_history, read_transfer};
