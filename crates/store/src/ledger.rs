//! The loss ledger of a group: one record for each entry, by the slot it was opened at. Read by operators
//! through the leader; written only when log entries are applied.
//!
//! What is told of a loss is encoded once: the same bytes stand in the log entry of a forced recovery and in
//! the record. Integers are big-endian.
//!
//! | bytes | field of what is told |
//! |---:|---|
//! | 1 | format, `0x01` |
//! | 1 | kind: 1 forced recovery, 2 single copy |
//! | 4, 4 | number of the history before, after |
//! | 8, 8 | proven through, kept through: slots |
//! | 8 | clock of whoever asked, ms |
//! | 1 + 8 each | replicas kept |
//! | 1 + 8 each | replicas given up |
//! | 2 + n | operator, UTF-8 |
//! | 2 + n | reason, UTF-8 |
//!
//! | bytes | field of a record |
//! |---:|---|
//! | 1 | format, `0x01` |
//! | 16 | ballot of the opening entry: round, replica; its slot is in the key |
//! | 8 | log time then, ms |
//! | 8, 16, 8 | slot and ballot of the closing entry, log time then; all 0: none |
//! | ... | what is told |

use bytes::{Buf, BufMut, Bytes, BytesMut};
use quorate_types::{Ballot, EntryId, LogTime, Loss, LossEntry, LossKind, ReplicaId, Slot, limits};

use crate::error::StoreError;
use crate::key::Key;
use crate::keys::Keyspace;
use crate::view::{Change, View};

const FORMAT: u8 = 0x01;
/// Bytes of a record before what is told.
const HEAD_BYTES: usize = 1 + 16 + 8 + 8 + 16 + 8;
/// Longest operator or reason, in bytes; longer ones are cut.
const TEXT_BYTES_MAX: usize = 1024;
/// Entries read at once.
const SCAN_ENTRIES: usize = 256;

/// The bytes of what is told of a loss.
#[must_use]
pub fn encode_loss(loss: &Loss) -> Bytes {
    let mut out = BytesMut::new();
    out.put_u8(FORMAT);
    out.put_u8(match loss.kind {
        LossKind::ForcedRecovery => 1,
        LossKind::SingleCopy => 2,
    });
    out.put_u32(loss.history_before);
    out.put_u32(loss.history_after);
    out.put_u64(loss.proven_through.0);
    out.put_u64(loss.kept_through.0);
    out.put_u64(loss.told_at_ms);
    for replicas in [&loss.kept, &loss.given_up] {
        let count = replicas.len().min(limits::GROUP_MEMBERS_MAX);
        out.put_u8(u8::try_from(count).expect("bounded by GROUP_MEMBERS_MAX"));
        replicas.iter().take(count).for_each(|replica| out.put_u64(replica.0));
    }
    for text in [&loss.operator, &loss.reason] {
        let text = &text[..text.floor_char_boundary(TEXT_BYTES_MAX)];
        out.put_u16(u16::try_from(text.len()).expect("bounded by TEXT_BYTES_MAX"));
        out.put_slice(text.as_bytes());
    }
    out.freeze()
}

/// What is told of a loss, from the bytes of a log entry or a record.
///
/// # Errors
/// Says what is wrong with them.
pub fn decode_loss(mut bytes: &[u8]) -> Result<Loss, &'static str> {
    let short = "it is cut short";
    if bytes.try_get_u8().map_err(|_| short)? != FORMAT {
        return Err("its format is unknown");
    }
    let kind = match bytes.try_get_u8().map_err(|_| short)? {
        1 => LossKind::ForcedRecovery,
        2 => LossKind::SingleCopy,
        _ => return Err("its kind is unknown"),
    };
    let history_before = bytes.try_get_u32().map_err(|_| short)?;
    let history_after = bytes.try_get_u32().map_err(|_| short)?;
    let proven_through = Slot(bytes.try_get_u64().map_err(|_| short)?);
    let kept_through = Slot(bytes.try_get_u64().map_err(|_| short)?);
    let told_at_ms = bytes.try_get_u64().map_err(|_| short)?;
    let mut replicas = || -> Result<Vec<ReplicaId>, &'static str> {
        let count = bytes.try_get_u8().map_err(|_| short)?;
        (0..count).map(|_| bytes.try_get_u64().map(ReplicaId).map_err(|_| short)).collect()
    };
    let (kept, given_up) = (replicas()?, replicas()?);
    let mut text = || -> Result<String, &'static str> {
        let length = usize::from(bytes.try_get_u16().map_err(|_| short)?);
        let text = bytes.get(..length).ok_or(short)?.to_vec();
        bytes.advance(length);
        String::from_utf8(text).map_err(|_| "a text in it is no UTF-8")
    };
    let (operator, reason) = (text()?, text()?);
    if !bytes.is_empty() {
        return Err("bytes follow its end");
    }
    if kept_through < proven_through {
        return Err("it keeps less than is proven");
    }
    Ok(Loss {
        kind,
        history_before,
        history_after,
        proven_through,
        kept_through,
        kept,
        given_up,
        operator,
        reason,
        told_at_ms,
    })
}

/// The change that writes an entry, as it is opened or once it is closed.
#[must_use]
pub fn write_loss(keyspace: Keyspace, entry: &LossEntry) -> Change {
    let told = encode_loss(&entry.loss);
    let mut out = BytesMut::with_capacity(HEAD_BYTES + told.len());
    let (closed, closed_at) = entry.closed.unwrap_or((EntryId::ZERO, LogTime(0)));
    let ballot = |out: &mut BytesMut, ballot: Ballot| {
        out.put_u64(ballot.round);
        out.put_u64(ballot.replica.0);
    };
    out.put_u8(FORMAT);
    ballot(&mut out, entry.opened.ballot);
    out.put_u64(entry.opened_at.0);
    out.put_u64(closed.slot.0);
    ballot(&mut out, closed.ballot);
    out.put_u64(closed_at.0);
    out.put_slice(&told);
    Change { key: keyspace.loss(entry.opened.slot), value: Some(out.freeze()) }
}

/// Every entry of a group's ledger, in the order in which they were opened.
///
/// # Errors
/// `StoreError` if the engine cannot read them, or one does not decode.
pub fn read_losses(view: &impl View, keyspace: Keyspace) -> Result<Vec<LossEntry>, StoreError> {
    let prefix = keyspace.loss_prefix();
    let (mut from, end) = (prefix.clone(), prefix.prefix_end());
    let mut entries = Vec::new();
    loop {
        let page = view.scan(&from, &end, SCAN_ENTRIES)?;
        for (key, stored) in &page {
            let damaged = |reason: &str| StoreError::Damaged {
                key: format!("{key:?}"),
                reason: reason.to_owned(),
            };
            entries.push(decode_entry(key, stored).map_err(damaged)?);
        }
        match page.last() {
            Some((last, _)) if page.len() == SCAN_ENTRIES => {
                from = Key::of_parts(&[last.as_bytes(), &[0]]);
            }
            Some(_) | None => return Ok(entries),
        }
    }
}

/// Entries that are about something that goes on.
///
/// # Errors
/// As [`read_losses`].
pub fn open_losses(view: &impl View, keyspace: Keyspace) -> Result<Vec<LossEntry>, StoreError> {
    let mut entries = read_losses(view, keyspace)?;
    entries.retain(|entry| entry.loss.kind == LossKind::SingleCopy && entry.closed.is_none());
    Ok(entries)
}

fn decode_entry(key: &Key, mut stored: &[u8]) -> Result<LossEntry, &'static str> {
    let slot: [u8; 8] = key.as_bytes().last_chunk().copied().ok_or("its key is cut short")?;
    if stored.len() < HEAD_BYTES {
        return Err("it is cut short");
    }
    if stored.get_u8() != FORMAT {
        return Err("its format is unknown");
    }
    let ballot = |stored: &mut &[u8]| Ballot {
        round: stored.get_u64(),
        replica: ReplicaId(stored.get_u64()),
    };
    let opened = EntryId { slot: Slot(u64::from_be_bytes(slot)), ballot: ballot(&mut stored) };
    let opened_at = LogTime(stored.get_u64());
    let closed_slot = Slot(stored.get_u64());
    let closed = EntryId { slot: closed_slot, ballot: ballot(&mut stored) };
    let closed_at = LogTime(stored.get_u64());
    let closed = (closed_slot != Slot::ZERO).then_some((closed, closed_at));
    Ok(LossEntry { opened, opened_at, closed, loss: decode_loss(stored)? })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use quorate_types::GroupId;

    use super::*;
    use crate::engine::twin::Twin;
    use crate::store::Store;

    const GROUP: GroupId = GroupId(1);

    fn loss() -> Loss {
        Loss {
            kind: LossKind::ForcedRecovery,
            history_before: 0,
            history_after: 1,
            proven_through: Slot(7),
            kept_through: Slot(9),
            kept: vec![ReplicaId(3)],
            given_up: vec![ReplicaId(1), ReplicaId(2)],
            operator: "client ops".to_owned(),
            reason: "the data centre burnt down".to_owned(),
            told_at_ms: 1_700_000_000_000,
        }
    }

    fn entry(slot: u64) -> LossEntry {
        let ballot = Ballot { round: 4, replica: ReplicaId(3) };
        let opened = EntryId { slot: Slot(slot), ballot };
        LossEntry { opened, opened_at: LogTime(5), closed: None, loss: loss() }
    }

    /// Goal: what is told comes back, and a flipped bit or a part is noticed or means something else.
    #[test]
    fn what_is_told_comes_back() {
        let bytes = encode_loss(&loss());
        assert_eq!(decode_loss(&bytes), Ok(loss()));
        for length in 0..bytes.len() {
            assert!(decode_loss(&bytes[..length]).is_err(), "{length}");
        }
        assert_eq!(decode_loss(&[&bytes[..], &[0]].concat()), Err("bytes follow its end"));
        let long = Loss { reason: "ä".repeat(2000), ..loss() };
        let cut = decode_loss(&encode_loss(&long)).expect("it is cut where a character ends");
        assert_eq!(cut.reason.len(), TEXT_BYTES_MAX);
    }

    proptest! {
        /// Goal: bytes of a disk never make it panic.
        #[test]
        fn noise_is_refused_or_read(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode_loss(&bytes);
        }
    }

    /// Goal: entries are found in the order in which they were opened; one that is closed takes the place of
    /// itself; none is an answer too.
    #[test]
    fn entries_are_rows() {
        let store = Store::open(Arc::new(Twin::default()), [GROUP]).expect("a twin opens");
        let space = Keyspace::first(GROUP);
        assert_eq!(read_losses(&store, space).expect("readable"), Vec::new());
        let single = |closed| {
            let loss = Loss { kind: LossKind::SingleCopy, ..loss() };
            LossEntry { closed, loss, ..entry(12) }
        };
        store.apply(GROUP, Slot(1), vec![write_loss(space, &single(None))]);
        store.apply(GROUP, Slot(2), vec![write_loss(space, &entry(5))]);
        assert_eq!(open_losses(&store, space).expect("readable"), [single(None)]);
        let ended = single(Some((entry(20).opened, LogTime(9))));
        store.apply(GROUP, Slot(3), vec![write_loss(space, &ended)]);
        assert_eq!(read_losses(&store, space).expect("readable"), [entry(5), ended]);
        assert_eq!(open_losses(&store, space).expect("readable"), []);
    }
}
