//! Two records of the store about installed rows: where they stand, and how far an installation has
//! come. Used by `store.rs` and `install.rs`.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::error::StoreError;
use crate::key::Key;
use crate::portable::Tally;

const FORMAT: u8 = 0x01;
const PROGRESS_FORMAT: u8 = 0x02;
/// Bytes of a base record.
const BASE_BYTES: usize = 1 + 4;

/// Which copy of a group's rows counts: it was installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Base {
    /// The incarnation of the rows.
    pub incarnation: u32,
}

impl Base {
    /// The value of a base record: format `0x01`, incarnation (4, big-endian).
    pub(crate) fn encode(self) -> Bytes {
        let mut out = BytesMut::with_capacity(BASE_BYTES);
        out.put_u8(FORMAT);
        out.put_u32(self.incarnation);
        out.freeze()
    }

    pub(crate) fn decode(key: &Key, mut stored: Bytes) -> Result<Base, StoreError> {
        check_head(key, &stored, FORMAT, BASE_BYTES)?;
        if stored.len() != BASE_BYTES {
            let reason = "bytes follow the incarnation".to_owned();
            return Err(StoreError::Damaged { key: format!("{key:?}"), reason });
        }
        stored.advance(1);
        Ok(Base { incarnation: stored.get_u32() })
    }
}

/// How far an installation has come: everything through `after` is in the engine, and perhaps more of the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The snapshot being installed.
    pub snapshot: u128,
    /// The incarnation it goes to.
    pub incarnation: u32,
    /// So many streams of these rows broke off before.
    pub broken: u32,
    /// The portable key of the last record written; `None` before the first.
    pub after: Option<Bytes>,
    /// The records through it.
    pub tally: Tally,
}

impl Progress {
    /// The value of a progress record: format `0x02`, snapshot (16, big-endian), incarnation (4), records
    /// (8), bytes (8), digest (4), streams that broke (4), last key, if there is one.
    pub(crate) fn encode(&self) -> Bytes {
        let after = self.after.as_deref().unwrap_or_default();
        let mut out = BytesMut::with_capacity(45 + after.len());
        out.put_u8(PROGRESS_FORMAT);
        out.put_u128(self.snapshot);
        out.put_u32(self.incarnation);
        out.put_u64(self.tally.records);
        out.put_u64(self.tally.bytes);
        out.put_u32(self.tally.digest);
        out.put_u32(self.broken);
        out.put_slice(after);
        out.freeze()
    }

    pub(crate) fn decode(key: &Key, mut stored: Bytes) -> Result<Progress, StoreError> {
        check_head(key, &stored, PROGRESS_FORMAT, 45)?;
        stored.advance(1);
        let (snapshot, incarnation) = (stored.get_u128(), stored.get_u32());
        let (records, bytes) = (stored.get_u64(), stored.get_u64());
        let tally = Tally { records, bytes, digest: stored.get_u32() };
        let broken = stored.get_u32();
        let after = Some(stored).filter(|after| !after.is_empty());
        Ok(Progress { snapshot, incarnation, tally, broken, after })
    }
}

fn check_head(key: &Key, stored: &[u8], format: u8, bytes_min: usize) -> Result<(), StoreError> {
    let reason = match stored.first() {
        Some(found) if *found != format => format!("its format is {found}"),
        Some(_) if bytes_min <= stored.len() => return Ok(()),
        Some(_) | None => "it is cut short".to_owned(),
    };
    Err(StoreError::Damaged { key: format!("{key:?}"), reason })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use quorate_types::GroupId;

    use super::*;
    use crate::keys;

    proptest! {
        #[test]
        fn both_records_survive_their_bytes(
            incarnation: u32, snapshot: u128, records: u64, bytes: u64, digest: u32, broken: u32,
            rest in proptest::collection::vec(any::<u8>(), 0..50),
        ) {
            let key = keys::base(GroupId(1));
            let base = Base { incarnation };
            prop_assert_eq!(Base::decode(&key, base.encode()).unwrap(), base);
            let tally = Tally { records, bytes, digest };
            let after = Some(Bytes::from(rest)).filter(|after| !after.is_empty());
            let progress = Progress { snapshot, incarnation, after, tally, broken };
            prop_assert_eq!(Progress::decode(&key, progress.encode()).unwrap(), progress);
        }

        #[test]
        fn other_bytes_are_refused(rest in proptest::collection::vec(any::<u8>(), 0..60)) {
            let key = keys::progress(GroupId(1));
            let is_base = rest.first() == Some(&FORMAT) && rest.len() == 5;
            prop_assert_eq!(Base::decode(&key, rest.clone().into()).is_ok(), is_base);
            let is_progress = rest.first() == Some(&PROGRESS_FORMAT) && 45 <= rest.len();
            prop_assert_eq!(Progress::decode(&key, rest.into()).is_ok(), is_progress);
        }
    }
}
