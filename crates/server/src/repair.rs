//! Damaged rows: what says that they are, and what a start did about it: see `damaged_rows.rs`, which does it in real
//! processes.

use std::error::Error as StdError;

use quorate_store::StoreError;
use quorate_types::Code;

/// Damaged rows that a start has moved aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repaired {
    /// The name of the folder they are in now, in the data folder.
    pub folder: String,
    /// What was wrong with them.
    pub reason: String,
}

impl Repaired {
    /// For people, a fragment.
    pub(crate) fn notice(&self) -> String {
        let Repaired { folder, reason } = self;
        format!("its rows were damaged ({reason}); they are in `{folder}`, and others were fetched")
    }
}

/// True if an error that stops a node says that its rows are damaged, or not those that its log made.
#[must_use]
pub fn is_damage(stops: &(dyn StdError + 'static)) -> bool {
    let mut at = Some(stops);
    while let Some(error) = at {
        if let Some(error) = error.downcast_ref::<StoreError>() {
            return error.code() == Code::StoreDamaged;
        }
        if let Some(error) = error.downcast_ref::<quorate_txn::ApplyError>()
            && error.code() == Code::StoreDamaged
        {
            return true;
        }
        at = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use std::io::{self, ErrorKind};

    use quorate_types::GroupId;

    use super::*;

    /// Goal: only what says that bytes are wrong counts as damage; a full disk or a lock must never throw rows
    /// away.
    #[test]
    fn only_damage_is_damage() {
        let reason = || "text".to_owned();
        let damage = [
            StoreError::Corrupt { what: "read", reason: reason() },
            StoreError::Damaged { key: reason(), reason: reason() },
            StoreError::Applied { group: GroupId(1) },
        ];
        assert!(damage.iter().all(|error| is_damage(error)));
        let other = [
            StoreError::Engine { what: "write", reason: "No space left on device".to_owned() },
            StoreError::Locked { path: reason() },
        ];
        assert!(!other.iter().any(|error| is_damage(error)));
        assert!(!is_damage(&io::Error::from(ErrorKind::StorageFull)));
    }
}
