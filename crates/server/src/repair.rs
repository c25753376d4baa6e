//! What a start did about damaged rows: see `damaged_rows.rs`, which does it in real processes.

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
