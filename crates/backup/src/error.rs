//! What can go wrong with a backup, and the stable codes.

use quorate_types::{Code, Error};

/// Why a backup cannot be made, read or restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The text names no folder and no bucket.
    #[error("{place:?} is no place for backups: {reason}")]
    NoPlace {
        /// What was given.
        place: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The folder or the bucket cannot be read or written.
    #[error("cannot {verb} {object} at {place}: {reason}")]
    Place {
        /// What was tried.
        verb: &'static str,
        /// The object, below the place.
        object: String,
        /// The place.
        place: String,
        /// What it said.
        reason: String,
    },
    /// The text can be the id of no backup.
    #[error("{0:?} is no id of a backup; `quorate backup list` shows them")]
    NoId(String),
    /// Nothing has that id.
    #[error("there is no backup {id} at {place}")]
    Missing {
        /// The id.
        id: String,
        /// The place.
        place: String,
    },
    /// There are objects, but no manifest: it was never finished.
    #[error("backup {id} at {place} has no manifest: it was never finished")]
    Unfinished {
        /// The id.
        id: String,
        /// The place.
        place: String,
    },
    /// It is not what was written.
    #[error("backup {id} is damaged: {object}: {reason}")]
    Damaged {
        /// The id.
        id: String,
        /// The object, below the backup.
        object: String,
        /// What is wrong.
        reason: String,
    },
    /// A newer version wrote it.
    #[error("backup {id} has format {format}, this version knows {known}", known = crate::manifest::FORMAT)]
    Format {
        /// The id.
        id: String,
        /// Its format.
        format: u32,
    },
    /// The cluster file has the id of the cluster that was backed up.
    #[error("the cluster file has the id of the cluster in the backup, {cluster}")]
    SameCluster {
        /// The id.
        cluster: String,
    },
    /// The cluster file puts rows elsewhere than the backup has them.
    #[error("the backup does not fit the cluster file: {differences}")]
    Layout {
        /// What differs.
        differences: String,
    },
    /// What a node sent cannot be part of a backup.
    #[error("a record of {group} cannot be backed up: {reason}")]
    Foreign {
        /// The group.
        group: String,
        /// What is wrong.
        reason: String,
    },
}

impl BackupError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            BackupError::NoPlace { .. } | BackupError::NoId(_) => Code::InvalidRequest,
            BackupError::Place { .. } => Code::BackupPlaceFailed,
            BackupError::Missing { .. } | BackupError::Unfinished { .. } => Code::BackupMissing,
            BackupError::Damaged { .. } => Code::BackupDamaged,
            BackupError::Format { .. } => Code::FormatUnknown,
            BackupError::SameCluster { .. } => Code::ClusterIdUsed,
            BackupError::Layout { .. } => Code::BackupMismatch,
            BackupError::Foreign { .. } => Code::Internal,
        }
    }
}

impl From<BackupError> for Error {
    fn from(error: BackupError) -> Error {
        let coded = Error::new(error.code(), error.to_string());
        match error {
            BackupError::Damaged { object, .. } => coded.with("object", object),
            _ => coded,
        }
    }
}
