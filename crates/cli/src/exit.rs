//! How a command ends: the exit codes that scripts rely on, and the failure that carries a coded
//! error, what to do about it and the exit code to the end of `main`.
//!
//! Every command returns `Result<(), Failure>`; `main` prints the failure through
//! [`Output::failure`](crate::output::Output::failure) and ends the process with its code.

use std::fmt;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use quorate_topology::{RouteError, TopologyError};
use quorate_types::{Code, Error};

/// The exit codes of every command. They never change their meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Done.
    Ok = 0,
    /// Asked and refused, or failed on the way.
    Failed = 1,
    /// The command line or what it names is malformed.
    Usage = 2,
    /// The row, table, group or node does not exist.
    NotFound = 3,
    /// A condition or an expected version does not hold.
    Conflict = 4,
    /// A write may or may not have happened.
    OutcomeUnknown = 5,
    /// Nobody who could answer was reached in time.
    Unreachable = 6,
    /// Not allowed.
    Denied = 7,
    /// Asked, and the cluster is not healthy.
    Unhealthy = 10,
    /// Stopped by the user.
    Interrupted = 130,
}

impl Exit {
    /// The number the process ends with.
    #[must_use]
    pub(crate) fn number(self) -> u8 {
        self as u8
    }

    /// The exit code that stands for an error code.
    ///
    /// A `DEADLINE_EXCEEDED` without a known side effect means that nobody answered in time; where a
    /// write's outcome is unknown the caller says so with [`Failure::with_exit`].
    #[must_use]
    pub(crate) fn of(code: Code) -> Exit {
        match code {
            Code::UnknownTable
            | Code::UnknownGroup
            | Code::AccountMissing
            | Code::BackupMissing => Exit::NotFound,
            Code::ConditionFailed
            | Code::GuardFailed
            | Code::TxnAborted
            | Code::Locked
            | Code::CutLost
            | Code::AccountExists
            | Code::FloorAboveBalance
            | Code::TransferRefused
            | Code::MembersChanged
            | Code::MemberExists
            | Code::LessRedundancy
            | Code::GroupNotLost => Exit::Conflict,
            Code::OutcomeUnknown | Code::SessionExpired => Exit::OutcomeUnknown,
            Code::NotLeader
            | Code::WrongNode
            | Code::WrongUnit
            | Code::NoQuorum
            | Code::NotReady
            | Code::DeadlineExceeded
            | Code::Unreachable
            | Code::MemberNotReady
            | Code::SnapshotUnavailable
            | Code::Outlived
            | Code::ShuttingDown => Exit::Unreachable,
            Code::InvalidRequest => Exit::Usage,
            Code::Unauthenticated
            | Code::PermissionDenied
            | Code::CertificateInvalid
            | Code::TlsMismatch
            | Code::FaultsNotAllowed => Exit::Denied,
            Code::SeveralGroups
            | Code::NotAnInteger
            | Code::IntegerOverflow
            | Code::SessionFull
            | Code::SessionLimit
            | Code::SequenceReused
            | Code::Overloaded
            | Code::DiskFull
            | Code::KeyTooLarge
            | Code::ValueTooLarge
            | Code::TxnTooLarge
            | Code::FrameTooLarge
            | Code::BatchTooLarge
            | Code::ChainSpansUnits
            | Code::ClusterMismatch
            | Code::NodeMismatch
            | Code::IncarnationMismatch
            | Code::PortInUse
            | Code::ConfigInvalid
            | Code::DataFolderLocked
            | Code::DataFolderNotEmpty
            | Code::ClusterIdUsed
            | Code::RestoreUnfinished
            | Code::VersionMismatch
            | Code::FormatUnknown
            | Code::LogDamaged
            | Code::PromisesUnreadable
            | Code::StoreDamaged
            | Code::DiskFailed
            | Code::ReplicaDiverged
            | Code::SnapshotDamaged
            | Code::BackupDamaged
            | Code::BackupPlaceFailed
            | Code::BackupMismatch
            | Code::Internal => Exit::Failed,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.number())
    }
}

/// Why a command did not end with 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    exit: Exit,
    /// What to print; `None` if the command has said all there is to say.
    error: Option<Error>,
    /// What to do, where that can be said better than by the code alone.
    fix: Option<String>,
}

impl Failure {
    /// A coded failure; the code decides the exit code.
    #[must_use]
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Failure {
        Failure::from(Error::new(code, message))
    }

    /// The user asked for something malformed: `INVALID_REQUEST`, exit 2.
    #[must_use]
    pub(crate) fn usage(message: impl Into<String>, fix: impl Into<String>) -> Failure {
        Failure::new(Code::InvalidRequest, message).with_fix(fix)
    }

    /// The command has printed everything; only the exit code remains.
    #[must_use]
    pub(crate) fn quiet(exit: Exit) -> Failure {
        Failure { exit, error: None, fix: None }
    }

    /// A file could not be read or written: `DISK_FAILED`, with file and reason in the message.
    #[must_use]
    pub(crate) fn file(verb: &str, path: &Path, error: &io::Error) -> Failure {
        let message = format!("cannot {verb} {}: {error}", path.display());
        let failure = Failure::new(Code::DiskFailed, message);
        match error.kind() {
            io::ErrorKind::NotFound => failure
                .with_exit(Exit::NotFound)
                .with_fix("check the path; nothing exists under that name"),
            io::ErrorKind::PermissionDenied => failure
                .with_exit(Exit::Denied)
                .with_fix("run as a user who may use the file, or change its permissions"),
            _ => failure,
        }
    }

    /// Says what to do instead of what the code says in general.
    #[must_use]
    pub(crate) fn with_fix(mut self, fix: impl Into<String>) -> Failure {
        self.fix = Some(fix.into());
        self
    }

    /// Ends with another exit code than the error code stands for.
    #[must_use]
    pub(crate) fn with_exit(mut self, exit: Exit) -> Failure {
        self.exit = exit;
        self
    }

    /// The exit code.
    #[must_use]
    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }

    /// The error, unless everything was printed before.
    #[must_use]
    pub(crate) fn error(&self) -> Option<&Error> {
        self.error.as_ref()
    }

    /// What to do about it.
    #[must_use]
    pub(crate) fn fix(&self) -> Option<&str> {
        let error = self.error.as_ref()?;
        Some(self.fix.as_deref().unwrap_or_else(|| error.code.fix()))
    }
}

impl fmt::Display for Failure {
    /// `error[CODE]: message`, then a line `fix: ...`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.error, self.fix()) {
            (Some(error), Some(fix)) => {
                write!(f, "error[{}]: {}\nfix: {fix}", error.code, error.message)
            }
            _ => write!(f, "ended with exit code {}", self.exit.number()),
        }
    }
}

impl std::error::Error for Failure {}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure { exit: Exit::of(error.code), error: Some(error), fix: None }
    }
}

impl From<TopologyError> for Failure {
    fn from(error: TopologyError) -> Failure {
        Failure::from(Error::from(error)).with_fix("correct the lines named above and try again")
    }
}

impl From<RouteError> for Failure {
    fn from(error: RouteError) -> Failure {
        Failure::from(Error::from(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_ends_with_the_exit_code_of_its_kind() {
        let exits: Vec<(Code, u8)> =
            Code::ALL.iter().map(|code| (*code, Exit::of(*code).number())).collect();
        let with = |exit: u8| -> Vec<&str> {
            exits.iter().filter(|(_, e)| *e == exit).map(|(code, _)| code.name()).collect()
        };
        assert_eq!(with(2), ["INVALID_REQUEST"]);
        assert_eq!(
            with(3),
            ["UNKNOWN_TABLE", "UNKNOWN_GROUP", "ACCOUNT_MISSING", "BACKUP_MISSING"]
        );
        assert_eq!(
            with(4),
            [
                "CONDITION_FAILED",
                "GUARD_FAILED",
                "TXN_ABORTED",
                "LOCKED",
                "CUT_LOST",
                "ACCOUNT_EXISTS",
                "FLOOR_ABOVE_BALANCE",
                "TRANSFER_REFUSED",
                "MEMBERS_CHANGED",
                "MEMBER_EXISTS",
                "LESS_REDUNDANCY",
                "GROUP_NOT_LOST"
            ]
        );
        assert_eq!(with(5), ["OUTCOME_UNKNOWN", "SESSION_EXPIRED"]);
        assert_eq!(
            with(6),
            [
                "NOT_LEADER",
                "WRONG_NODE",
                "WRONG_UNIT",
                "NO_QUORUM",
                "NOT_READY",
                "DEADLINE_EXCEEDED",
                "UNREACHABLE",
                "MEMBER_NOT_READY",
                "SNAPSHOT_UNAVAILABLE",
                "OUTLIVED",
                "SHUTTING_DOWN"
            ]
        );
        assert_eq!(
            with(7),
            [
                "UNAUTHENTICATED",
                "PERMISSION_DENIED",
                "CERTIFICATE_INVALID",
                "TLS_MISMATCH",
                "FAULTS_NOT_ALLOWED"
            ]
        );
        assert!(exits.iter().all(|(_, exit)| *exit <= 7 && *exit != 0));
    }

    #[test]
    fn a_failure_prints_code_message_and_fix() {
        let failure = Failure::new(Code::ValueTooLarge, "the value has 600000 bytes");
        assert_eq!(
            failure.to_string(),
            "error[VALUE_TOO_LARGE]: the value has 600000 bytes\nfix: values have at most 524,288 \
             bytes; split the value"
        );
        let failure = Failure::usage("uid \"x\" is not a number", "give a whole number");
        assert_eq!(failure.exit(), Exit::Usage);
        assert_eq!(
            failure.to_string(),
            "error[INVALID_REQUEST]: uid \"x\" is not a number\nfix: give a whole number"
        );
        assert_eq!(Failure::quiet(Exit::Unhealthy).error(), None);
    }

    #[test]
    fn files_that_are_missing_or_forbidden_have_their_own_exit_codes() {
        let failure = |kind: io::ErrorKind| {
            Failure::file("read", Path::new("a.toml"), &io::Error::from(kind)).exit()
        };
        assert_eq!(failure(io::ErrorKind::NotFound), Exit::NotFound);
        assert_eq!(failure(io::ErrorKind::PermissionDenied), Exit::Denied);
        assert_eq!(failure(io::ErrorKind::StorageFull), Exit::Failed);
    }
}
