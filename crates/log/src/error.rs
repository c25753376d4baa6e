//! What can go wrong with the log and the promise file.
//!
//! Returned by every public call of the crate; the caller maps it to a wire code by `code`.

use std::io;

use quorate_types::{Code, GroupId, Slot};

use crate::frame::{LogOffset, SegmentId};

/// An error of the log, the promise file or the data folder.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// A call to the disk failed.
    #[error("{operation} of {path} failed: {source}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On which file or folder.
        path: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The writer, or the promise file, failed before and does nothing any more.
    #[error("nothing is written since an earlier error: {reason}")]
    Poisoned {
        /// The earlier error.
        reason: String,
    },
    /// The log has no room for another segment. Nothing was written.
    #[error("the log has {log_bytes} bytes and no room for {needed_bytes} more")]
    Full {
        /// Bytes of all segments.
        log_bytes: u64,
        /// Bytes that were wanted.
        needed_bytes: u64,
    },
    /// A frame is larger than a segment takes. Nothing was written.
    #[error("a frame body of {bytes} bytes is larger than {bytes_max}")]
    FrameTooLarge {
        /// Bytes of the body.
        bytes: u64,
        /// Most bytes a body may have.
        bytes_max: u64,
    },
    /// A frame ends before it starts, or starts at slot 0. Nothing was written.
    #[error("a frame of {group} has slots {first} to {last}")]
    InvalidSlots {
        /// Its group.
        group: GroupId,
        /// Its first slot.
        first: Slot,
        /// Its last slot.
        last: Slot,
    },
    /// A frame that was written cannot be read back.
    #[error("the frame at {offset} in segment {segment} is damaged")]
    Damaged {
        /// The segment.
        segment: SegmentId,
        /// Where in the log.
        offset: LogOffset,
    },
    /// The log ends before a segment that it is known to have had.
    #[error(
        "the newest segment of the log is {}, but segment {recorded} was in use: \
         the log lost its end",
        .newest.map_or_else(|| "missing".to_owned(), |id| id.to_string())
    )]
    EndMissing {
        /// The newest segment found.
        newest: Option<SegmentId>,
        /// The segment that was in use.
        recorded: SegmentId,
    },
    /// What was promised is not known any more.
    #[error("the promises are unreadable: {reason}")]
    PromisesUnreadable {
        /// Why.
        reason: String,
    },
    /// A file of a version this program does not know.
    #[error("{path} has format {found}, known is {known}")]
    FormatUnknown {
        /// The file.
        path: String,
        /// The format it has.
        found: u32,
        /// The newest known one.
        known: u32,
    },
    /// Another process uses the data folder.
    #[error("the data folder {path} is in use")]
    FolderLocked {
        /// The folder.
        path: String,
    },
    /// The options contradict each other.
    #[error("log options: {reason}")]
    InvalidOptions {
        /// What is wrong.
        reason: String,
    },
}

impl From<LogError> for quorate_types::Error {
    fn from(error: LogError) -> quorate_types::Error {
        quorate_types::Error::new(error.code(), error.to_string())
    }
}

impl LogError {
    /// A failed call to the disk.
    pub(crate) fn io(operation: &'static str, path: &str, source: io::Error) -> LogError {
        LogError::Io { operation, path: path.to_owned(), source }
    }

    /// The stable code.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            LogError::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                Code::DiskFull
            }
            LogError::Io { .. } | LogError::Poisoned { .. } => Code::DiskFailed,
            LogError::Full { .. } => Code::DiskFull,
            LogError::FrameTooLarge { .. } => Code::FrameTooLarge,
            LogError::InvalidSlots { .. } => Code::Internal,
            LogError::Damaged { .. } | LogError::EndMissing { .. } => Code::LogDamaged,
            LogError::PromisesUnreadable { .. } => Code::PromisesUnreadable,
            LogError::FormatUnknown { .. } => Code::FormatUnknown,
            LogError::FolderLocked { .. } => Code::DataFolderLocked,
            LogError::InvalidOptions { .. } => Code::ConfigInvalid,
        }
    }
}
