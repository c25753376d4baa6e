//! Error codes: stable names and numbers, with what each means for a retry.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// What a caller may do after an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryClass {
    /// Never by itself: the request or the setup must change.
    No,
    /// At once or after `retry_after`, at the place the error names: nothing happened.
    Safe,
    /// Only under the same request id: it may have happened.
    SameId,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = ($number:literal, $name:literal, $class:ident, $fix:literal),)*) => {
        /// A stable error code. Numbers and names never change their meaning.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code { $($(#[$doc])* $variant,)* }

        impl Code {
            /// Every code, in order of number.
            pub const ALL: &'static [Code] = &[$(Code::$variant,)*];

            /// The number, in ranges: 1 route, 2 transaction, 3 quorum, 4 capacity, 6 setup, 7 data,
            /// 8 security.
            #[must_use]
            pub fn number(self) -> u32 { match self { $(Code::$variant => $number,)* } }

            /// The name on the wire and in logs.
            #[must_use]
            pub fn name(self) -> &'static str { match self { $(Code::$variant => $name,)* } }

            /// Whether a caller may try again.
            #[must_use]
            pub fn retry(self) -> RetryClass { match self { $(Code::$variant => RetryClass::$class,)* } }

            /// What to do about it, in a sentence without a full stop.
            #[must_use]
            pub fn fix(self) -> &'static str { match self { $(Code::$variant => $fix,)* } }
        }
    };
}

codes! {
    /// The node does not lead the group.
    NotLeader = (1001, "NOT_LEADER", Safe, "send the request to the leader the error names"),
    /// The node holds no replica of the group.
    WrongNode = (1002, "WRONG_NODE", Safe, "ask the leader the error names, or the other nodes; `quorate group members` shows where the replicas are"),
    /// The UID belongs to another unit than the group addressed.
    WrongUnit = (1003, "WRONG_UNIT", Safe, "fetch the topology again and route by the slice of the UID"),
    /// No table has this name or number.
    UnknownTable = (1004, "UNKNOWN_TABLE", No, "use a table of the cluster file; `quorate topology show` lists them"),
    /// No group has this number.
    UnknownGroup = (1005, "UNKNOWN_GROUP", No, "use a group of the cluster file; `quorate topology show` lists them"),
    /// Keys of one transaction live in several groups.
    SeveralGroups = (1006, "SEVERAL_GROUPS", No, "give the request an id of a session in one of its groups, or split it: at most 16 groups"),

    /// A condition of the transaction does not hold.
    ConditionFailed = (2001, "CONDITION_FAILED", No, "read the rows again and decide anew"),
    /// A guarded add would leave its bounds.
    GuardFailed = (2002, "GUARD_FAILED", No, "the sum would leave the floor or the ceiling; change the amount"),
    /// An add met a row that holds bytes.
    NotAnInteger = (2003, "NOT_AN_INTEGER", No, "add only to rows written as integers"),
    /// A sum would leave 64 bits.
    IntegerOverflow = (2004, "INTEGER_OVERFLOW", No, "the sum does not fit 64 bits; change the amount"),
    /// The outcome of a write is not known.
    OutcomeUnknown = (2005, "OUTCOME_UNKNOWN", SameId, "ask again under the same request id, or read the rows"),
    /// The session is not known any more.
    SessionExpired = (2006, "SESSION_EXPIRED", No, "open a new session; the outcome of requests in flight is unknown"),
    /// Too many unanswered requests in the session.
    SessionFull = (2007, "SESSION_FULL", Safe, "wait for answers before sending more"),
    /// Too many sessions in the group.
    SessionLimit = (2008, "SESSION_LIMIT", Safe, "close sessions that are no longer used, then open again"),
    /// The request number was answered and acknowledged before.
    SequenceReused = (2009, "SEQUENCE_REUSED", No, "use a new number for a new request"),
    /// A cross-unit transaction was given up; it is aborted for ever.
    TxnAborted = (2010, "TXN_ABORTED", Safe, "nothing happened; try again, under the same request id if you like"),
    /// A row stayed locked by a transaction in doubt.
    Locked = (2011, "LOCKED", Safe, "nothing happened; try again shortly, another transaction holds the row"),
    /// A view at a cut is gone, or never was: expired, released, or lost with its leader.
    CutLost = (2012, "CUT_LOST", No, "start again with a new cut"),
    /// The account exists with other settings.
    AccountExists = (2020, "ACCOUNT_EXISTS", No, "the account exists with other settings; `quorate account set` changes them"),
    /// The account does not exist.
    AccountMissing = (2021, "ACCOUNT_MISSING", No, "create the account first"),
    /// The floor to be set lies above what the account has free.
    FloorAboveBalance = (2022, "FLOOR_ABOVE_BALANCE", No, "set a floor that is not above the balance minus what is reserved"),
    /// A transfer was refused; the verdict says why.
    TransferRefused = (2023, "TRANSFER_REFUSED", No, "the verdict in the message says why; the id may be used again"),
    /// The transfers of a chain belong to several units.
    ChainSpansUnits = (2024, "CHAIN_SPANS_UNITS", No, "link only transfers whose accounts belong to one unit"),

    /// The leader cannot reach a majority.
    NoQuorum = (3001, "NO_QUORUM", Safe, "see `quorate status` for the members that are missing"),
    /// The leader is not ready to serve: elected, but its first entry is not applied yet.
    NotReady = (3002, "NOT_READY", Safe, "try again shortly"),
    /// The deadline passed.
    DeadlineExceeded = (3003, "DEADLINE_EXCEEDED", SameId, "the message names what was tried; check those endpoints or raise the deadline"),
    /// An endpoint could not be reached.
    Unreachable = (3004, "UNREACHABLE", Safe, "check that the server runs and that the address is right"),
    /// Who takes part in a group is not what the caller has seen.
    MembersChanged = (3005, "MEMBERS_CHANGED", No, "look again at who takes part (`quorate group members`) and decide anew; the commands go on where they stopped"),
    /// A replica that should vote could not: it is behind, has no rows yet, or was not heard.
    MemberNotReady = (3006, "MEMBER_NOT_READY", Safe, "wait until `quorate group members` shows it as fit, or see why its node does not catch up"),
    /// The node has a replica of the group already.
    MemberExists = (3007, "MEMBER_EXISTS", No, "choose another node; `quorate group members` shows where the replicas of the group are"),
    /// The change would leave a group that does not survive the loss of a node any more.
    LessRedundancy = (3008, "LESS_REDUNDANCY", No, "add a voter first, or say --accept-less-redundancy"),
    /// This replica can give no snapshot of a group now.
    SnapshotUnavailable = (3009, "SNAPSHOT_UNAVAILABLE", Safe, "ask another replica of the group, or this one later"),

    /// A forced recovery was asked for while a majority can be reached.
    GroupNotLost = (3010, "GROUP_NOT_LOST", No, "the group is not lost: use `quorate group remove` or `quorate group replace`"),
    /// The replica was given up by a forced recovery: the group goes on without it.
    Outlived = (3011, "OUTLIVED", Safe, "ask the other nodes of the group; empty the data folder of this one and add it anew"),

    /// A queue is full.
    Overloaded = (4001, "OVERLOADED", Safe, "wait for the time the error names, then try again"),
    /// The disk has no room left.
    DiskFull = (4002, "DISK_FULL", Safe, "free or add disk space on the node the error names"),
    /// The key is too long or empty.
    KeyTooLarge = (4003, "KEY_TOO_LARGE", No, "keys have 1 to 1,024 bytes"),
    /// The value is too long.
    ValueTooLarge = (4004, "VALUE_TOO_LARGE", No, "values have at most 524,288 bytes; split the value"),
    /// The transaction is too large.
    TxnTooLarge = (4005, "TXN_TOO_LARGE", No, "a transaction has at most 1,024 parts and 1,048,576 bytes; split it"),
    /// A frame is too large.
    FrameTooLarge = (4006, "FRAME_TOO_LARGE", No, "frames have at most 2,097,152 bytes"),
    /// A batch has too many transfers, or none.
    BatchTooLarge = (4007, "BATCH_TOO_LARGE", No, "a batch has 1 to 8,190 transfers; split it"),

    /// The request cannot be understood.
    InvalidRequest = (6001, "INVALID_REQUEST", No, "the message says which field is wrong"),
    /// The other side belongs to another cluster.
    ClusterMismatch = (6002, "CLUSTER_MISMATCH", No, "both cluster ids are in the message; use the right cluster file, endpoint or data folder"),
    /// The data folder belongs to another node.
    NodeMismatch = (6003, "NODE_MISMATCH", No, "start the node with its own data folder"),
    /// A node came back with another data folder than its peers know.
    IncarnationMismatch = (6004, "INCARNATION_MISMATCH", No, "restore the node's old data folder; an emptied node must not vote under its old name"),
    /// A port is taken.
    PortInUse = (6005, "PORT_IN_USE", No, "stop the process that holds the port or choose another one"),
    /// The cluster file or the configuration is wrong.
    ConfigInvalid = (6006, "CONFIG_INVALID", No, "the message names line and key"),
    /// The data folder is in use by another process.
    DataFolderLocked = (6007, "DATA_FOLDER_LOCKED", No, "stop the other process that uses the data folder"),
    /// The two sides speak different versions.
    VersionMismatch = (6008, "VERSION_MISMATCH", No, "upgrade the older side"),
    /// The file on disk has a format this version does not know.
    FormatUnknown = (6009, "FORMAT_UNKNOWN", No, "start the version that wrote the data folder"),
    /// The node is shutting down.
    ShuttingDown = (6010, "SHUTTING_DOWN", Safe, "send the request to another node"),
    /// A folder that is to be filled from a backup holds something.
    DataFolderNotEmpty = (6011, "DATA_FOLDER_NOT_EMPTY", No, "name a new or an empty folder"),
    /// A backup was to be restored under the id of the cluster that it is of.
    ClusterIdUsed = (6012, "CLUSTER_ID_USED", No, "draw a new id: `quorate backup cluster-file` writes the cluster file of the backup with one"),
    /// A data folder was being filled from a backup and that never ended.
    RestoreUnfinished = (6013, "RESTORE_UNFINISHED", No, "empty the data folder and restore the node again"),

    /// The log is damaged where it was once durable.
    LogDamaged = (7001, "LOG_DAMAGED", No, "keep the folder as it is and leave the node down: the others go on without it. A file that was only moved away may be put back, never an older copy"),
    /// The promise file is unreadable.
    PromisesUnreadable = (7002, "PROMISES_UNREADABLE", No, "the node must not vote again under its old name; replace the replica"),
    /// Stored rows are damaged.
    StoreDamaged = (7003, "STORE_DAMAGED", No, "check the disk and start the node: it moves the damaged rows aside and fetches others"),
    /// A read or write of a file failed.
    DiskFailed = (7004, "DISK_FAILED", No, "check the disk; the message names file and error"),
    /// Replicas of a group hold different rows.
    ReplicaDiverged = (7005, "REPLICA_DIVERGED", No, "replicas that differ from a majority fetch their rows anew by themselves; see `quorate status`, keep the logs of all members and report it"),
    /// A snapshot did not arrive as it was sent.
    SnapshotDamaged = (7009, "SNAPSHOT_DAMAGED", Safe, "the node fetches another snapshot by itself; if this comes again, check memory and network of both nodes"),
    /// There is no such backup, or it was never finished.
    BackupMissing = (7010, "BACKUP_MISSING", No, "`quorate backup list` shows what is there; one without a manifest was never finished"),
    /// A backup is not as it was written.
    BackupDamaged = (7011, "BACKUP_DAMAGED", No, "use another backup; the message names the object"),
    /// The folder or the bucket of backups cannot be used.
    BackupPlaceFailed = (7012, "BACKUP_PLACE_FAILED", No, "check the path or the bucket, the rights to it and the variables AWS_*; the message says what failed"),
    /// A backup was made of other tables, slices or groups than the cluster file has.
    BackupMismatch = (7013, "BACKUP_MISMATCH", No, "use a cluster file with the same tables, slices and groups: `quorate backup cluster-file` writes that of the backup"),
    /// Nobody the cluster knows: no certificate, or one that it does not accept.
    Unauthenticated = (8001, "UNAUTHENTICATED", No, "use a certificate of this cluster that has not expired: --tls-dir DIR; `quorate cert show` reads it"),
    /// The caller is known and may not do this.
    PermissionDenied = (8002, "PERMISSION_DENIED", No, "nothing happened; have the right added for this client in rights.toml of the servers"),
    /// A certificate, a key or the certificate of the other side cannot be used.
    CertificateInvalid = (8003, "CERTIFICATE_INVALID", No, "the message names the certificate and what is wrong with it; `quorate cert show` reads it, `quorate cert rotate` renews it"),
    /// One side speaks TLS, the other plain text.
    TlsMismatch = (8004, "TLS_MISMATCH", No, "give the client --tls-dir DIR if the server has one, and not if the server runs with --insecure"),
    /// The node takes no orders to break its links.
    FaultsNotAllowed = (8005, "FAULTS_NOT_ALLOWED", No, "start a node of a demo or a test with --allow-faults; a node of real use has no need of it"),

    /// A bug of ours.
    Internal = (9001, "INTERNAL", No, "report the message; the node's log has more"),
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An error as it travels: code, message, and facts a program may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// The stable code.
    pub code: Code,
    /// What happened, a lower-case fragment without a full stop.
    pub message: String,
    /// How long to wait before trying again, if the server knows.
    pub retry_after: Option<Duration>,
    /// Facts by name, such as `leader` or `topology_version`.
    pub facts: BTreeMap<String, String>,
}

impl Error {
    /// An error with a message and no facts.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Error {
        Error { code, message: message.into(), retry_after: None, facts: BTreeMap::new() }
    }

    /// Adds a fact.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl fmt::Display) -> Error {
        self.facts.insert(name.to_owned(), value.to_string());
        self
    }

    /// Says how long to wait.
    #[must_use]
    pub fn after(mut self, wait: Duration) -> Error {
        self.retry_after = Some(wait);
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.code.name(), self.message, self.code.fix())
    }
}

impl std::error::Error for Error {}

impl Code {
    /// The code with this name, as read from the wire.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Code> {
        Code::ALL.iter().copied().find(|code| code.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_are_unique_and_found_again() {
        for (index, code) in Code::ALL.iter().enumerate() {
            assert_eq!(Code::from_name(code.name()), Some(*code));
            for other in &Code::ALL[index + 1..] {
                assert!(code.number() < other.number(), "{code} and {other} out of order");
                assert_ne!(code.name(), other.name());
            }
        }
    }
}
