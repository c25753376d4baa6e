//! The words every other crate shares: ids, ballots, slots, time, limits, commands, error codes.
//!
//! Plain data only. Nothing here does I/O, reads a clock or knows a protocol rule, and nothing here
//! depends on another crate of this workspace.

pub mod attempt;
pub mod ballot;
pub mod check;
pub mod code;
pub mod command;
pub mod cross;
pub mod cut;
pub mod elsewhere;
pub mod folder;
pub mod identity;
pub mod ids;
pub mod ledger;
pub mod limits;
pub mod link;
pub mod many;
pub mod member;
pub mod money;
pub mod planted;
pub mod slot;
pub mod time;

pub use attempt::{Age, Attempt, Watermark};
pub use ballot::Ballot;
pub use check::{CheckBody, CheckMessage, CheckReport, CheckState, Difference, RowsDigest};
pub use code::{Code, Error, RetryClass};
pub use command::{
    Condition, Mutation, Outcome, Reply, ReplyBody, Request, RequestBody, RequestId, RowAddress,
    ScanPage, ScanRange, ScannedRow, Value,
};
pub use cross::{
    AttemptState, AttemptStatus, CrossBody, CrossMessage, Part, PartReply, Refusal, Vote,
};
pub use cut::{AccountsPage, CutId, CutRange, FoundTransfers, RecordsPage, cut_group};
pub use elsewhere::Elsewhere;
pub use folder::{FolderState, PeerFolder};
pub use identity::{ClientName, Identity, Who};
pub use ids::{
    ClusterId, GroupId, Incarnation, NodeId, ReplicaId, SessionId, SliceId, TableId, Uid,
};
pub use ledger::{Loss, LossEntry, LossKind};
pub use link::Link;
pub use many::{FoundRow, FoundRows, RowVersion, WantedRow};
pub use member::{MemberRole, MemberSeat, ReplicaKind};
pub use money::{
    Account, AccountAddress, AccountChange, AccountSettings, HistoryEntry, HistoryPage,
    HistoryPosition, Hold, Invalid, Transfer, TransferBatch, TransferDetail, TransferId,
    TransferKind, TransferRecord, TransferResults, Verdict,
};
pub use slot::{EntryId, Slot};
pub use time::{BootTime, LogTime};
