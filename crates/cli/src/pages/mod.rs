//! What there is to say about each error code: the one table behind `quorate error` and the pages of
//! `docs/errors`. Number, name, retry class and the fix in one line stand with the code itself
//! (`quorate_types::Code`); here stand meaning, causes and the steps of the fix, by range of numbers.
//!
//! [`of`] names every code, so a new code does not compile before it has a page.

mod capacity;
mod data;
mod markdown;
mod members;
mod quorum;
mod recovery;
mod routing;
mod security;
mod setup;
mod transactions;

use quorate_types::{Code, RetryClass};

pub(crate) use markdown::write_docs;

/// What is to be known about a code beyond its fix in one line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Page {
    /// What the error says, in one or two sentences.
    pub(crate) meaning: &'static str,
    /// How it comes about, the most frequent first. Fragments.
    pub(crate) causes: &'static [&'static str],
    /// What to do, in order. Fragments.
    pub(crate) steps: &'static [&'static str],
}

/// What kind of trouble a range of numbers stands for.
pub(crate) fn about(code: Code) -> &'static str {
    match code.number() / 1000 {
        1 => "routing",
        2 => "transactions",
        3 => "quorum and reachability",
        4 => "capacity and limits",
        6 => "setup",
        7 => "data on disk",
        8 => "security",
        _ => "internal",
    }
}

/// What a retry class means, in a sentence.
pub(crate) fn retry_sentence(class: RetryClass) -> &'static str {
    match class {
        RetryClass::No => "no: the request or the setup must change first",
        RetryClass::Safe => "yes: nothing happened, the same request may be sent again",
        RetryClass::SameId => "only under the same request id: it may have happened",
    }
}

/// The page of a code.
pub(crate) fn of(code: Code) -> &'static Page {
    match code {
        Code::NotLeader => &routing::NOT_LEADER,
        Code::WrongNode => &routing::WRONG_NODE,
        Code::WrongUnit => &routing::WRONG_UNIT,
        Code::UnknownTable => &routing::UNKNOWN_TABLE,
        Code::UnknownGroup => &routing::UNKNOWN_GROUP,
        Code::SeveralGroups => &routing::SEVERAL_GROUPS,
        Code::ConditionFailed => &transactions::CONDITION_FAILED,
        Code::GuardFailed => &transactions::GUARD_FAILED,
        Code::NotAnInteger => &transactions::NOT_AN_INTEGER,
        Code::IntegerOverflow => &transactions::INTEGER_OVERFLOW,
        Code::OutcomeUnknown => &transactions::OUTCOME_UNKNOWN,
        Code::SessionExpired => &transactions::SESSION_EXPIRED,
        Code::SessionFull => &transactions::SESSION_FULL,
        Code::SessionLimit => &transactions::SESSION_LIMIT,
        Code::SequenceReused => &transactions::SEQUENCE_REUSED,
        Code::TxnAborted => &transactions::TXN_ABORTED,
        Code::Locked => &transactions::LOCKED,
        Code::CutLost => &transactions::CUT_LOST,
        Code::AccountExists => &transactions::ACCOUNT_EXISTS,
        Code::AccountMissing => &transactions::ACCOUNT_MISSING,
        Code::FloorAboveBalance => &transactions::FLOOR_ABOVE_BALANCE,
        Code::TransferRefused => &transactions::TRANSFER_REFUSED,
        Code::ChainSpansUnits => &transactions::CHAIN_SPANS_UNITS,
        Code::NoQuorum => &quorum::NO_QUORUM,
        Code::NotReady => &quorum::NOT_READY,
        Code::DeadlineExceeded => &quorum::DEADLINE_EXCEEDED,
        Code::Unreachable => &quorum::UNREACHABLE,
        Code::MembersChanged => &members::MEMBERS_CHANGED,
        Code::MemberNotReady => &members::MEMBER_NOT_READY,
        Code::MemberExists => &members::MEMBER_EXISTS,
        Code::LessRedundancy => &members::LESS_REDUNDANCY,
        Code::GroupNotLost => &recovery::GROUP_NOT_LOST,
        Code::Outlived => &recovery::OUTLIVED,
        Code::SnapshotUnavailable => &quorum::SNAPSHOT_UNAVAILABLE,
        Code::Overloaded => &capacity::OVERLOADED,
        Code::DiskFull => &capacity::DISK_FULL,
        Code::KeyTooLarge => &capacity::KEY_TOO_LARGE,
        Code::ValueTooLarge => &capacity::VALUE_TOO_LARGE,
        Code::TxnTooLarge => &capacity::TXN_TOO_LARGE,
        Code::FrameTooLarge => &capacity::FRAME_TOO_LARGE,
        Code::BatchTooLarge => &capacity::BATCH_TOO_LARGE,
        Code::InvalidRequest => &setup::INVALID_REQUEST,
        Code::ClusterMismatch => &setup::CLUSTER_MISMATCH,
        Code::NodeMismatch => &setup::NODE_MISMATCH,
        Code::IncarnationMismatch => &setup::INCARNATION_MISMATCH,
        Code::PortInUse => &setup::PORT_IN_USE,
        Code::ConfigInvalid => &setup::CONFIG_INVALID,
        Code::DataFolderLocked => &setup::DATA_FOLDER_LOCKED,
        Code::VersionMismatch => &setup::VERSION_MISMATCH,
        Code::FormatUnknown => &setup::FORMAT_UNKNOWN,
        Code::ShuttingDown => &setup::SHUTTING_DOWN,
        Code::DataFolderNotEmpty => &setup::DATA_FOLDER_NOT_EMPTY,
        Code::ClusterIdUsed => &setup::CLUSTER_ID_USED,
        Code::RestoreUnfinished => &setup::RESTORE_UNFINISHED,
        Code::LogDamaged => &data::LOG_DAMAGED,
        Code::PromisesUnreadable => &data::PROMISES_UNREADABLE,
        Code::StoreDamaged => &data::STORE_DAMAGED,
        Code::DiskFailed => &data::DISK_FAILED,
        Code::ReplicaDiverged => &data::REPLICA_DIVERGED,
        Code::SnapshotDamaged => &data::SNAPSHOT_DAMAGED,
        Code::BackupMissing => &data::BACKUP_MISSING,
        Code::BackupDamaged => &data::BACKUP_DAMAGED,
        Code::BackupPlaceFailed => &data::BACKUP_PLACE_FAILED,
        Code::BackupMismatch => &data::BACKUP_MISMATCH,
        Code::Unauthenticated => &security::UNAUTHENTICATED,
        Code::PermissionDenied => &security::PERMISSION_DENIED,
        Code::CertificateInvalid => &security::CERTIFICATE_INVALID,
        Code::TlsMismatch => &security::TLS_MISMATCH,
        Code::FaultsNotAllowed => &security::FAULTS_NOT_ALLOWED,
        Code::Internal => &data::INTERNAL,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_says_what_why_and_what_to_do() {
        // Goal: no page is empty, and all are written alike: sentences say what, fragments the rest.
        for code in Code::ALL {
            let page = of(*code);
            assert!(page.meaning.ends_with('.'), "{code}: {}", page.meaning);
            assert!(!page.causes.is_empty() && !page.steps.is_empty(), "{code}");
            for line in page.causes.iter().chain(page.steps) {
                assert!(!line.is_empty() && !line.ends_with('.'), "{code}: {line}");
                assert!(!line.contains("  ") && !line.contains('\n'), "{code}: {line}");
            }
            assert_ne!(about(*code), "", "{code}");
        }
    }

    #[test]
    fn no_two_codes_share_a_page() {
        // Goal: a page put at the wrong code in `of` is seen.
        for (index, code) in Code::ALL.iter().enumerate() {
            for other in &Code::ALL[index + 1..] {
                assert_ne!(of(*code).meaning, of(*other).meaning, "{code} and {other}");
            }
        }
    }
}
