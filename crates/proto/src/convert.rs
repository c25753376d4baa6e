//! Conversions between wire messages and our own types, one file for each kind.
//!
//! Towards the wire they cannot fail. From the wire they return a [`ConvertError`] that names the
//! field by its path, such as `transaction.mutations[2].put.value`.

pub mod bank;
pub mod check;
pub mod cross;
pub mod cut;
pub mod error;
pub mod link;
pub mod many;
pub mod members;
pub mod money;
pub mod peer;
pub mod recovery;
pub mod reply;
pub mod request;
pub mod snapshot;
pub mod status;
#[cfg(test)]
mod strategies;
mod words;

use quorate_paxos::BatchError;
use quorate_types::{Code, Error, TableId};

pub use check::{check_from_wire, check_to_wire};
pub use cross::{cross_from_wire, cross_to_wire};
pub use error::{FACT_LEADER_ADDRESS, FACT_LEADER_NODE, FACT_TOPOLOGY_VERSION, LeaderHint};
pub use peer::{
    Envelope, Hello, folders_from_wire, folders_to_wire, membership_from_wire, membership_to_wire,
};
pub use reply::Answer;
pub use request::{Call, Item, Place};
pub use snapshot::{SnapshotAsk, SnapshotPiece, SnapshotTally};

/// Finds the number of a table by its name; `None` if there is no such table.
pub type Tables<'a> = &'a dyn Fn(&str) -> Option<TableId>;

/// Why a message from the network is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConvertError {
    /// A field that must be present is not.
    #[error("field {field} is missing")]
    Missing {
        /// Its path.
        field: String,
    },
    /// A number does not fit.
    #[error("field {field} is {value}, at most {max} is allowed")]
    TooLarge {
        /// Its path.
        field: String,
        /// The number.
        value: u64,
        /// The greatest that fits.
        max: u64,
    },
    /// A field holds something that it must not.
    #[error("field {field} is malformed: {reason}")]
    Malformed {
        /// Its path.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No table has this name.
    #[error("field {field}: no table has the name {name:?}")]
    UnknownTable {
        /// Its path.
        field: String,
        /// The name asked for.
        name: String,
    },
    /// A batch of log entries cannot be read.
    #[error("field {field} is no batch: {source}")]
    Batch {
        /// Its path.
        field: String,
        /// What is wrong with the batch.
        source: BatchError,
    },
}

impl ConvertError {
    pub(crate) fn missing(field: &str) -> ConvertError {
        ConvertError::Missing { field: field.to_owned() }
    }

    pub(crate) fn malformed(field: &str, reason: impl Into<String>) -> ConvertError {
        ConvertError::Malformed { field: field.to_owned(), reason: reason.into() }
    }

    /// The path of the field.
    #[must_use]
    pub fn field(&self) -> &str {
        match self {
            ConvertError::Missing { field }
            | ConvertError::TooLarge { field, .. }
            | ConvertError::Malformed { field, .. }
            | ConvertError::UnknownTable { field, .. }
            | ConvertError::Batch { field, .. } => field,
        }
    }

    /// The stable code: `UNKNOWN_TABLE` or `INVALID_REQUEST`.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            ConvertError::UnknownTable { .. } => Code::UnknownTable,
            ConvertError::Missing { .. }
            | ConvertError::TooLarge { .. }
            | ConvertError::Malformed { .. }
            | ConvertError::Batch { .. } => Code::InvalidRequest,
        }
    }

    /// The same error seen from one level further out.
    pub(crate) fn inside(mut self, outer: &str) -> ConvertError {
        match &mut self {
            ConvertError::Missing { field }
            | ConvertError::TooLarge { field, .. }
            | ConvertError::Malformed { field, .. }
            | ConvertError::UnknownTable { field, .. }
            | ConvertError::Batch { field, .. } => *field = format!("{outer}.{field}"),
        }
        self
    }
}

impl From<ConvertError> for Error {
    fn from(error: ConvertError) -> Error {
        Error::new(error.code(), error.to_string()).with("field", error.field())
    }
}
