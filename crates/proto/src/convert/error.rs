//! Errors as gRPC statuses, as items of a stream and as our own type.
//!
//! The server turns an [`Error`] into a status for unary calls and into an [`v1::ErrorDetail`] for
//! items of a stream; the client turns both back. A code that this version does not know keeps its
//! retry class, so an old client treats a new server's errors right.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message as _;
use quorate_types::{Code, Error, NodeId, RetryClass};
use tonic::Status;
use tonic::metadata::{AsciiMetadataValue, MetadataMap};

use super::words;
use crate::v1;

/// Fact: the number of the node that leads the group.
pub const FACT_LEADER_NODE: &str = "leader_node";
/// Fact: the address of that node for clients.
pub const FACT_LEADER_ADDRESS: &str = "leader_address";
/// Fact: the topology version the server routes by.
pub const FACT_TOPOLOGY_VERSION: &str = "topology_version";
/// Fact: the name of a code that this version does not know.
pub const FACT_SERVER_CODE: &str = "server_code";

/// Metadata key: the name of the code.
pub const METADATA_CODE: &str = "quorate-code";
/// Metadata key: the number of the code.
pub const METADATA_NUMBER: &str = "quorate-number";
/// Metadata key: the leader's address for clients.
pub const METADATA_LEADER: &str = "quorate-leader";
/// Metadata key: how long to wait before trying again.
pub const METADATA_RETRY_AFTER_MS: &str = "quorate-retry-after-ms";

/// Most characters of a message or a fact in a status: statuses travel in HTTP headers, which take
/// 16 KiB. Longer ones are cut.
const STATUS_TEXT_MAX: usize = 250;
/// Most facts in a status; further ones are left out.
const STATUS_FACTS_MAX: usize = 8;

/// Who leads a group, as far as a node knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderHint {
    /// The node.
    pub node: NodeId,
    /// Its address for clients; empty if the sender does not know it.
    pub address: String,
}

impl LeaderHint {
    /// The hint for the wire.
    #[must_use]
    pub fn to_wire(&self) -> v1::LeaderHint {
        v1::LeaderHint { node: self.node.0, address: self.address.clone() }
    }

    /// The hint from the wire; `None` if it names no node.
    #[must_use]
    pub fn from_wire(hint: v1::LeaderHint) -> Option<LeaderHint> {
        (hint.node != 0).then_some(LeaderHint { node: NodeId(hint.node), address: hint.address })
    }

    /// The hint among the facts of an error.
    #[must_use]
    pub fn from_facts(error: &Error) -> Option<LeaderHint> {
        let text = error.facts.get(FACT_LEADER_NODE)?;
        let number: u32 = text.strip_prefix('n').unwrap_or(text).parse().ok()?;
        let address = error.facts.get(FACT_LEADER_ADDRESS).cloned().unwrap_or_default();
        (number != 0).then_some(LeaderHint { node: NodeId(number), address })
    }

    /// Adds the hint to the facts of an error.
    #[must_use]
    pub fn add_to(&self, error: Error) -> Error {
        let error = error.with(FACT_LEADER_NODE, self.node.0);
        if self.address.is_empty() { error } else { error.with(FACT_LEADER_ADDRESS, &self.address) }
    }
}

/// The error for the wire.
#[must_use]
pub fn detail_from_error(error: &Error) -> v1::ErrorDetail {
    v1::ErrorDetail {
        code: error.code.name().to_owned(),
        number: error.code.number(),
        message: error.message.clone(),
        retry_class: class_to_wire(error.code.retry()).into(),
        retry_after_ms: error.retry_after.map_or(0, words::millis),
        facts: error.facts.clone(),
        fix: error.code.fix().to_owned(),
    }
}

/// The error from the wire. Never fails: a code that is not known becomes the known one that allows
/// the same retries, and its name a fact.
#[must_use]
pub fn error_from_detail(detail: v1::ErrorDetail) -> Error {
    let retry_after = words::optional_millis(detail.retry_after_ms);
    let (code, message, mut facts) = (detail.code, detail.message, detail.facts);
    if let Some(code) = Code::from_name(&code) {
        return Error { code, message, retry_after, facts };
    }
    let class = v1::RetryClass::try_from(detail.retry_class);
    let stand_in = match class {
        Ok(v1::RetryClass::Safe) => Code::NotReady,
        Ok(v1::RetryClass::SameId) => Code::OutcomeUnknown,
        Ok(v1::RetryClass::No | v1::RetryClass::Unspecified) | Err(_) => Code::Internal,
    };
    let message = format!("{code}: {message}; {}", detail.fix);
    facts.insert(FACT_SERVER_CODE.to_owned(), code);
    Error { code: stand_in, message, retry_after, facts }
}

fn class_to_wire(class: RetryClass) -> v1::RetryClass {
    match class {
        RetryClass::No => v1::RetryClass::No,
        RetryClass::Safe => v1::RetryClass::Safe,
        RetryClass::SameId => v1::RetryClass::SameId,
    }
}

/// The gRPC code that clients without our error details see.
#[must_use]
pub fn grpc_code(code: Code) -> tonic::Code {
    match code {
        Code::NotLeader
        | Code::NoQuorum
        | Code::NotReady
        | Code::Unreachable
        | Code::MemberNotReady
        | Code::SnapshotUnavailable
        | Code::Outlived
        | Code::ShuttingDown => tonic::Code::Unavailable,
        Code::UnknownTable | Code::UnknownGroup | Code::AccountMissing | Code::BackupMissing => {
            tonic::Code::NotFound
        }
        Code::AccountExists | Code::MemberExists => tonic::Code::AlreadyExists,
        Code::SeveralGroups
        | Code::NotAnInteger
        | Code::KeyTooLarge
        | Code::ValueTooLarge
        | Code::TxnTooLarge
        | Code::FrameTooLarge
        | Code::BatchTooLarge
        | Code::ChainSpansUnits
        | Code::InvalidRequest => tonic::Code::InvalidArgument,
        Code::ConditionFailed
        | Code::TransferRefused
        | Code::TxnAborted
        | Code::Locked
        | Code::CutLost
        | Code::MembersChanged => tonic::Code::Aborted,
        Code::GuardFailed | Code::IntegerOverflow | Code::FloorAboveBalance => {
            tonic::Code::OutOfRange
        }
        Code::OutcomeUnknown => tonic::Code::Unknown,
        Code::DeadlineExceeded => tonic::Code::DeadlineExceeded,
        Code::SessionFull | Code::SessionLimit | Code::Overloaded | Code::DiskFull => {
            tonic::Code::ResourceExhausted
        }
        Code::WrongNode
        | Code::GroupNotLost
        | Code::WrongUnit
        | Code::SessionExpired
        | Code::SequenceReused
        | Code::ClusterMismatch
        | Code::NodeMismatch
        | Code::IncarnationMismatch
        | Code::PortInUse
        | Code::ConfigInvalid
        | Code::DataFolderLocked
        | Code::DataFolderNotEmpty
        | Code::ClusterIdUsed
        | Code::RestoreUnfinished
        | Code::BackupMismatch
        | Code::VersionMismatch
        | Code::FormatUnknown
        | Code::CertificateInvalid
        | Code::TlsMismatch
        | Code::FaultsNotAllowed
        | Code::LessRedundancy => tonic::Code::FailedPrecondition,
        Code::LogDamaged
        | Code::PromisesUnreadable
        | Code::StoreDamaged
        | Code::ReplicaDiverged
        | Code::SnapshotDamaged
        | Code::BackupDamaged => tonic::Code::DataLoss,
        Code::Unauthenticated => tonic::Code::Unauthenticated,
        Code::PermissionDenied => tonic::Code::PermissionDenied,
        Code::DiskFailed | Code::BackupPlaceFailed | Code::Internal => tonic::Code::Internal,
    }
}

/// The error as the status of a unary call or the end of a stream.
#[must_use]
pub fn status_from_error(error: &Error) -> Status {
    let mut shortened = error.clone();
    shortened.message = shorten(&error.message);
    shortened.facts = shorten_facts(&error.facts);
    let detail = Bytes::from(detail_from_error(&shortened).encode_to_vec());
    let message = format!("{}: {}", error.code.name(), shortened.message);
    let mut metadata = MetadataMap::new();
    metadata.insert(METADATA_CODE, AsciiMetadataValue::from_static(error.code.name()));
    metadata.insert(METADATA_NUMBER, AsciiMetadataValue::from(error.code.number()));
    if let Some(hint) = LeaderHint::from_facts(&shortened)
        && !hint.address.is_empty()
        && let Ok(address) = AsciiMetadataValue::try_from(hint.address)
    {
        metadata.insert(METADATA_LEADER, address);
    }
    if let Some(wait) = error.retry_after {
        metadata.insert(METADATA_RETRY_AFTER_MS, AsciiMetadataValue::from(words::millis(wait)));
    }
    Status::with_details_and_metadata(grpc_code(error.code), message, detail, metadata)
}

/// The error in a status; `None` if the status is not from our server but from the transport.
#[must_use]
pub fn error_from_status(status: &Status) -> Option<Error> {
    let has_code = status.metadata().contains_key(METADATA_CODE);
    if !has_code || status.details().is_empty() {
        return None;
    }
    v1::ErrorDetail::decode(status.details()).ok().map(error_from_detail)
}

fn shorten(text: &str) -> String {
    match text.char_indices().nth(STATUS_TEXT_MAX) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}...", &text[..end]),
    }
}

fn shorten_facts(facts: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let is_routing =
        |name: &str| [FACT_LEADER_NODE, FACT_LEADER_ADDRESS, FACT_TOPOLOGY_VERSION].contains(&name);
    let (routing, other): (Vec<_>, Vec<_>) = facts.iter().partition(|(name, _)| is_routing(name));
    let kept = routing.into_iter().chain(other).take(STATUS_FACTS_MAX);
    kept.map(|(name, value)| (shorten(name), shorten(value))).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn error() -> impl Strategy<Value = Error> {
        let facts = proptest::collection::btree_map("[a-z_]{1,12}", ".{0,20}", 0..6);
        (0..Code::ALL.len(), ".{0,60}", proptest::option::of(1..100_000u64), facts).prop_map(
            |(code, message, wait, facts)| Error {
                code: Code::ALL[code],
                message,
                retry_after: wait.map(Duration::from_millis),
                facts,
            },
        )
    }

    proptest! {
        #[test]
        fn details_and_statuses_round_trip(error in error()) {
            // Goal: nothing of an error is lost on the way, neither on a stream nor in a status.
            prop_assert_eq!(&error_from_detail(detail_from_error(&error)), &error);
            let status = status_from_error(&error);
            prop_assert_eq!(status.code(), grpc_code(error.code));
            prop_assert_eq!(error_from_status(&status), Some(error));
        }

        #[test]
        fn any_status_is_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            // Goal: details that are not ours are no error of ours.
            let mut status = Status::with_details(tonic::Code::Unknown, "", Bytes::from(bytes));
            prop_assert_eq!(error_from_status(&status), None);
            status.metadata_mut().insert(METADATA_CODE, AsciiMetadataValue::from_static("X"));
            let _read_without_panic = error_from_status(&status);
        }
    }

    #[test]
    fn a_code_from_the_future_keeps_its_retry_class() {
        // Goal: a client of this version retries a newer server's errors as that server meant it.
        let cases = [
            (v1::RetryClass::No, Code::Internal, RetryClass::No),
            (v1::RetryClass::Safe, Code::NotReady, RetryClass::Safe),
            (v1::RetryClass::SameId, Code::OutcomeUnknown, RetryClass::SameId),
            (v1::RetryClass::Unspecified, Code::Internal, RetryClass::No),
        ];
        for (class, code, same) in cases {
            let mut detail = detail_from_error(&Error::new(Code::Internal, "slice is moving"));
            detail.code = "UNIT_FROZEN".to_owned();
            detail.retry_class = class.into();
            let error = error_from_detail(detail);
            assert_eq!((error.code, error.code.retry()), (code, same));
            assert!(error.message.starts_with("UNIT_FROZEN: slice is moving"), "{error}");
            assert_eq!(error.facts[FACT_SERVER_CODE], "UNIT_FROZEN");
        }
    }

    #[test]
    fn a_status_fits_a_header_and_keeps_the_leader() {
        // Goal: long messages and many facts are cut, the facts that route are not.
        let hint = LeaderHint { node: NodeId(3), address: "h3:6440".to_owned() };
        let mut error = hint.add_to(Error::new(Code::NotLeader, "é".repeat(100_000)));
        for index in 0..1000 {
            error = error.with(&format!("a{index:04}"), "x".repeat(10_000));
        }
        let status = status_from_error(&error);
        assert!(status.details().len() < 4 * 1024, "{} bytes", status.details().len());
        assert!(status.message().chars().count() < 300);
        let back = error_from_status(&status).expect("it is ours");
        assert_eq!(LeaderHint::from_facts(&back), Some(hint));
        let metadata = status.metadata();
        assert_eq!(metadata.get(METADATA_CODE).unwrap(), "NOT_LEADER");
        assert_eq!(metadata.get(METADATA_NUMBER).unwrap(), "1001");
        assert_eq!(metadata.get(METADATA_LEADER).unwrap(), "h3:6440");
    }
}
