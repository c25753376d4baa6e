//! The value of an applied-position record: one slot, 8 bytes big-endian.
//!
//! Used by the engines, which write it in the same batch as the rows it speaks of.

use bytes::Bytes;
use quorate_types::{GroupId, Slot};

use crate::error::StoreError;

/// The bytes to store.
pub(crate) fn encode(slot: Slot) -> Bytes {
    Bytes::copy_from_slice(&slot.0.to_be_bytes())
}

/// The position in `stored`; slot 0 if the group has no record yet.
pub(crate) fn decode(group: GroupId, stored: Option<&[u8]>) -> Result<Slot, StoreError> {
    let Some(stored) = stored else { return Ok(Slot::ZERO) };
    match <[u8; 8]>::try_from(stored) {
        Ok(slot) => Ok(Slot(u64::from_be_bytes(slot))),
        Err(_) => Err(StoreError::Applied { group }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GROUP: GroupId = GroupId(3);

    proptest! {
        #[test]
        fn a_position_survives_its_bytes(slot: u64) {
            let stored = encode(Slot(slot));
            prop_assert_eq!(decode(GROUP, Some(&stored)).unwrap(), Slot(slot));
        }

        #[test]
        fn only_eight_bytes_are_a_position(bytes in proptest::collection::vec(any::<u8>(), 0..20)) {
            prop_assert_eq!(decode(GROUP, Some(&bytes)).is_ok(), bytes.len() == 8);
        }
    }

    #[test]
    fn a_group_without_a_record_stands_before_its_first_entry() {
        assert_eq!(decode(GROUP, None).unwrap(), Slot::ZERO);
    }
}
