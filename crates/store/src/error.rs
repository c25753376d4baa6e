//! What can go wrong in the store.

use quorate_types::{Code, GroupId};

/// A failure of the store. None of these is ever an answer to a client's question.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The engine failed to read or write.
    #[error("{what}: {reason}")]
    Engine {
        /// What was tried.
        what: &'static str,
        /// What the engine said.
        reason: String,
    },
    /// The engine found its own files damaged or incomplete.
    #[error("{what}: {reason}")]
    Corrupt {
        /// What was tried.
        what: &'static str,
        /// What the engine said.
        reason: String,
    },
    /// Another process, or another part of this one, has the store open.
    #[error("store {path} is in use")]
    Locked {
        /// The folder of the store.
        path: String,
    },
    /// A record's bytes do not decode.
    #[error("record {key} does not decode: {reason}")]
    Damaged {
        /// The key in hexadecimal.
        key: String,
        /// What is wrong.
        reason: String,
    },
    /// A record that came from elsewhere is none that a store holds, or out of order.
    #[error("record {key} cannot be installed: {reason}")]
    Foreign {
        /// Its portable key in hexadecimal.
        key: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Another installation of the group's rows has begun, or one has been switched to.
    #[error("the installation of rows of {group} was overtaken by another")]
    Overtaken {
        /// The group.
        group: GroupId,
    },
    /// The applied position of a group does not decode.
    #[error("applied position of {group} does not decode")]
    Applied {
        /// The group.
        group: GroupId,
    },
}

impl StoreError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            StoreError::Engine { .. } => Code::DiskFailed,
            StoreError::Corrupt { .. }
            | StoreError::Damaged { .. }
            | StoreError::Applied { .. } => Code::StoreDamaged,
            StoreError::Locked { .. } => Code::DataFolderLocked,
            StoreError::Foreign { .. } => Code::SnapshotDamaged,
            StoreError::Overtaken { .. } => Code::Internal,
        }
    }
}
