//! Every limit of the data path in one place, with what happens when it is reached.

use crate::money::TRANSFER_BYTES;

/// Longest row key in bytes. Longer: `KEY_TOO_LARGE` at the edge.
pub const KEY_BYTES_MAX: usize = 1024;
/// Longest value in bytes. Longer: `VALUE_TOO_LARGE` at the edge.
pub const VALUE_BYTES_MAX: usize = 512 * 1024;
/// Largest log entry, and largest transaction, in bytes. Larger: `TXN_TOO_LARGE` at the edge.
pub const ENTRY_BYTES_MAX: usize = 1024 * 1024;
/// Most conditions plus mutations of a transaction. More: `TXN_TOO_LARGE` at the edge.
pub const TXN_OPS_MAX: usize = 1024;
/// Members of one group, learners included. Quorums are counted over them for every answer.
pub const GROUP_MEMBERS_MAX: usize = 16;
/// Most groups of one transaction. More: `SEVERAL_GROUPS` at the edge.
pub const TXN_GROUPS_MAX: usize = 16;
/// Cross-unit transactions that a group coordinates at once. Beyond: `OVERLOADED`.
pub const GROUP_CROSS_MAX: usize = 4096;
/// Attempts that a group remembers at once, decided ones too. Beyond: `OVERLOADED`, and no votes.
pub const GROUP_ATTEMPTS_MAX: usize = 65_536;
/// Requests of a group that wait for a lock at once. Beyond: `OVERLOADED`.
pub const GROUP_PARKED_MAX: usize = 4096;
/// Transfers between groups that are not decided in a group. Beyond: `OVERLOADED`, and no votes.
pub const GROUP_ESCROW_MAX: usize = 262_144;
/// Open reservations of a group. Beyond: the verdict `hold_limit`. One with a time-out takes about 100
/// bytes of memory on each replica.
pub const GROUP_HOLDS_MAX: usize = 4_194_304;
/// Messages from behind a cut that a leader keeps until its log has the cut. Beyond: dropped, they are
/// said again.
pub const CUT_HELD_MAX: usize = 1024;
/// Bytes of these messages. Beyond: dropped, they are said again.
pub const CUT_HELD_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Views at cuts that a leader keeps of a group at once. Beyond: a new cut is `OVERLOADED` in the group
/// that numbers them; elsewhere the oldest view goes, and who reads it is told `CUT_LOST`.
pub const GROUP_CUTS_MAX: usize = 4;
/// Bytes of effects that a view at a cut keeps of transactions that were decided after it. Beyond:
/// the view goes.
pub const CUT_EFFECT_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Views at cuts of a group that are kept for backups at once. Beyond: a view is not kept for longer.
pub const GROUP_CUTS_HELD_MAX: usize = 2;
/// Accounts that one page of a search for transfers at a cut walks past. The page ends there and says
/// where the next one begins.
pub const CUT_LOOKS_MAX: usize = 4096;
/// Requests of a group that wait for a cut, or for what was in doubt at one. Beyond: `OVERLOADED`.
pub const CUT_WAITING_MAX: usize = 256;
/// Most bytes of entries in one batch; an entry alone may reach `ENTRY_BYTES_MAX`.
pub const BATCH_BYTES_MAX: usize = 1024 * 1024;
/// Most entries in one batch.
pub const BATCH_ENTRIES_MAX: usize = 4096;
/// Largest frame between processes in bytes. A writer closes a frame before it.
pub const WIRE_FRAME_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Largest frame a decoder takes. Larger closes the stream with `FRAME_TOO_LARGE`.
pub const WIRE_DECODE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes a leader keeps in flight to one lagging follower. At the limit it waits for answers.
pub const PEER_IN_FLIGHT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Uncommitted bytes of a group. At the limit the edge answers `OVERLOADED`.
pub const GROUP_UNCOMMITTED_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Changed records that a node holds in memory and the engine does not have yet, in bytes. At the limit the leaders on
/// it answer writes with `OVERLOADED`; what is chosen is applied all the same.
pub const NODE_UNWRITTEN_BYTES_MAX: u64 = 512 * 1024 * 1024;
/// Bytes of requests a node holds, all groups together. At the limit the edge answers `OVERLOADED`.
pub const NODE_REQUEST_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Bytes queued to one peer. At the limit the oldest frames are dropped and sent again by protocol.
pub const PEER_QUEUE_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Bytes of records in one page of what a backup reads of a cut; a single record may have more.
pub const CUT_PAGE_BYTES: usize = 1024 * 1024;
/// Bytes of records in one page of a snapshot; a single record may have more. What is done with a page is done in one
/// go, and requests of clients wait for it where there are few cores: so pages are small.
pub const SNAPSHOT_PAGE_BYTES: usize = 128 * 1024;
/// Bytes of a snapshot after which its sender and its receiver compare what they have counted.
pub const SNAPSHOT_PART_BYTES: u64 = 64 * 1024 * 1024;
/// Snapshots that a node keeps for others at once, those included that may be gone on with. Beyond: the one
/// that has waited longest goes.
pub const SNAPSHOTS_KEPT_MAX: usize = 4;
/// Entry bytes a group keeps in memory for followers; older ones are read back from the log.
pub const GROUP_CACHE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Unanswered requests of a session. Beyond: `SESSION_FULL`; results are never evicted.
pub const SESSION_IN_FLIGHT_MAX: usize = 1024;
/// Sessions of a group. Beyond: `SESSION_LIMIT`.
pub const GROUP_SESSIONS_MAX: usize = 4096;
/// Requests in flight on one client stream. Beyond: `OVERLOADED`.
pub const STREAM_IN_FLIGHT_MAX: usize = 4096;
/// Rows of one scan page, and the default.
pub const SCAN_ROWS_MAX: usize = 1000;
/// Bytes of one scan page. The page ends early and carries a resume token.
pub const SCAN_BYTES_MAX: usize = 1024 * 1024;
/// Most rows that are read at one moment. More: `TXN_TOO_LARGE`; none: `INVALID_REQUEST`.
pub const READ_ROWS_MAX: usize = 64;
/// Most bytes of values that one group returns of them. More: `TXN_TOO_LARGE`.
pub const READ_BYTES_MAX: usize = 1024 * 1024;
/// Most transfers of one request. More, or none: `BATCH_TOO_LARGE` at the edge.
pub const TRANSFERS_MAX: usize = 8190;
/// Most transfers of a chain. More: `INVALID_REQUEST` at the edge.
pub const CHAIN_MAX: usize = 1024;
/// Greatest amount of a transfer. More: the verdict `invalid`.
pub const TRANSFER_AMOUNT_MAX: u64 = i64::MAX as u64;
/// Entries of one page of an account's history, and the default.
pub const HISTORY_ENTRIES_MAX: usize = 1000;

const _: () = assert!(KEY_BYTES_MAX + VALUE_BYTES_MAX < ENTRY_BYTES_MAX);
const _: () = assert!(BATCH_BYTES_MAX <= ENTRY_BYTES_MAX);
const _: () = assert!(2 * ENTRY_BYTES_MAX <= WIRE_FRAME_BYTES_MAX);
const _: () = assert!(WIRE_FRAME_BYTES_MAX < WIRE_DECODE_BYTES_MAX);
// A batch as received, a verdict and two slices for each transfer, and the head of the entry.
const _: () = assert!(TRANSFERS_MAX * (TRANSFER_BYTES + 1 + 4) + 64 <= ENTRY_BYTES_MAX);
// The same on the debit side of two groups: two amounts more, or what is known of the first time.
const _: () = assert!(TRANSFERS_MAX * (TRANSFER_BYTES + 1 + 23) + 32 * 1024 <= ENTRY_BYTES_MAX);
const _: () = assert!(TRANSFERS_MAX < GROUP_ESCROW_MAX && TRANSFERS_MAX < GROUP_HOLDS_MAX);
const _: () = assert!(CHAIN_MAX <= TRANSFERS_MAX && TRANSFERS_MAX <= u16::MAX as usize);
const _: () = assert!(PEER_IN_FLIGHT_BYTES_MAX <= PEER_QUEUE_BYTES_MAX);
const _: () = assert!(GROUP_CUTS_HELD_MAX < GROUP_CUTS_MAX);
const _: () = assert!(GROUP_UNCOMMITTED_BYTES_MAX <= GROUP_CACHE_BYTES_MAX);
