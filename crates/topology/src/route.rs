//! Who serves a row: table and UID to slice, unit and group.
//!
//! Clients ask before they send, servers to check what was sent. The answer borrows from the
//! topology, so asking allocates nothing.

use quorate_types::{Code, Error, SliceId, TableId, Uid};

use crate::model::{Group, Table, TableClass, Unit};
use crate::slices::slice_label;
use crate::suggest;
use crate::topology::Topology;

/// Where a row lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route<'t> {
    /// The table.
    pub table: &'t Table,
    /// The slice; `SliceId::UNSHARDED` for tables of class `home` and `global`.
    pub slice: SliceId,
    /// The unit that owns the slice.
    pub unit: &'t Unit,
    /// The group that holds it. Its members are in the order in which to look for the leader.
    pub group: &'t Group,
}

/// Why there is no route.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// No table has this number.
    #[error("no table has number {}", .0.0)]
    UnknownTable(TableId),
    /// No table has this name.
    #[error("no table has the name {name:?}{}", suggestion(.nearest.as_deref()))]
    UnknownTableName {
        /// The name asked for.
        name: String,
        /// The nearest name there is.
        nearest: Option<String>,
    },
    /// The slice is not one that rows of the table can have.
    #[error("table {table:?} has no rows in slice {}", slice_label(*.slice))]
    WrongSlice {
        /// The name of the table.
        table: String,
        /// The slice asked for.
        slice: SliceId,
    },
}

fn suggestion(nearest: Option<&str>) -> String {
    nearest.map(|name| format!("; did you mean {name:?}?")).unwrap_or_default()
}

impl RouteError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            RouteError::UnknownTable(_) | RouteError::UnknownTableName { .. } => Code::UnknownTable,
            RouteError::WrongSlice { .. } => Code::InvalidRequest,
        }
    }
}

impl From<RouteError> for Error {
    fn from(error: RouteError) -> Error {
        Error::new(error.code(), error.to_string())
    }
}

impl Topology {
    /// The slice of a UID: UID mod the number of slices.
    #[must_use]
    pub fn slice_of(&self, uid: Uid) -> SliceId {
        let slice = uid.0 % u64::from(self.slice_count());
        SliceId(u16::try_from(slice).expect("below the number of slices, which has 16 bits"))
    }

    /// The route of the rows of one user in one table. For `home` and `global` tables the UID does
    /// not matter.
    ///
    /// # Errors
    /// If there is no such table.
    pub fn route(&self, table: TableId, uid: Uid) -> Result<Route<'_>, RouteError> {
        let found = self.table(table).ok_or(RouteError::UnknownTable(table))?;
        let slice = match found.class {
            TableClass::Unit => self.slice_of(uid),
            TableClass::Home | TableClass::Global => SliceId::UNSHARDED,
        };
        self.route_slice(table, slice)
    }

    /// The group of a user's accounts. They are sharded by UID like the rows of a unit table.
    ///
    /// # Errors
    /// If no group holds the slice of the user.
    pub fn group_of_accounts(&self, uid: Uid) -> Result<&Group, RouteError> {
        let slice = self.slice_of(uid);
        let nobody = || RouteError::WrongSlice { table: "accounts".to_owned(), slice };
        self.group_of_slice(slice).ok_or_else(nobody)
    }

    /// The route of all rows of one slice in one table, for scans.
    ///
    /// # Errors
    /// If there is no such table, or the table has no rows in the slice.
    pub fn route_slice(&self, table: TableId, slice: SliceId) -> Result<Route<'_>, RouteError> {
        let table = self.table(table).ok_or(RouteError::UnknownTable(table))?;
        let wrong_slice = || RouteError::WrongSlice { table: table.name.clone(), slice };
        let is_unsharded = slice == SliceId::UNSHARDED;
        if is_unsharded != (table.class != TableClass::Unit) {
            return Err(wrong_slice());
        }
        let group = self.group_of_slice(slice).ok_or_else(wrong_slice)?;
        let unit = self.unit(&group.unit).expect("validation lets no group without unit pass");
        Ok(Route { table, slice, unit, group })
    }

    /// The table a user named.
    ///
    /// # Errors
    /// If there is no such table; the error names the nearest one.
    pub fn require_table(&self, name: &str) -> Result<&Table, RouteError> {
        self.table_by_name(name).ok_or_else(|| {
            let known = self.tables().map(|table| table.name.as_str());
            let nearest = suggest::nearest(name, known).map(str::to_owned);
            RouteError::UnknownTableName { name: name.to_owned(), nearest }
        })
    }
}
