//! Reads of many rows: the messages that the unary call and the stream share, the call and its response.

use quorate_types::{
    CutId, Error, FoundRow, FoundRows, GroupId, Reply, ReplyBody, RequestBody, RowVersion, Slot,
    WantedRow,
};

use super::error::LeaderHint;
use super::reply::{header, other_answer};
use super::request::{Call, Place};
use super::words::{self, required};
use super::{ConvertError, Tables};
use crate::v1;

pub(super) fn many_to_wire(rows: Vec<WantedRow>, cut: CutId) -> v1::GetMany {
    let row_to_wire = |row: WantedRow| v1::WantedRow {
        at: Some(words::address_to_wire(row.at)),
        known: row.known.map(version_to_wire),
    };
    v1::GetMany { rows: rows.into_iter().map(row_to_wire).collect(), cut: cut.0 }
}

pub(super) fn many_from_wire(
    many: v1::GetMany,
    tables: Tables<'_>,
) -> Result<(Vec<WantedRow>, CutId), ConvertError> {
    let row_from_wire = |row: v1::WantedRow| {
        let known = row.known.map(version_from_wire).transpose();
        Ok(WantedRow {
            at: words::required_address(row.at, "at", tables)?,
            known: known.map_err(|error| error.inside("known"))?,
        })
    };
    let rows = words::each(many.rows, "rows", row_from_wire)?;
    Ok((rows, CutId(many.cut)))
}

pub(super) fn found_to_wire(found: FoundRows) -> v1::FoundRows {
    let row_to_wire = |row| match row {
        FoundRow::AsKnown => v1::FoundRow::default(),
        FoundRow::Is(version, value) => v1::FoundRow {
            version: Some(version_to_wire(version)),
            value: value.map(words::value_to_wire),
        },
    };
    v1::FoundRows { cut: found.cut.0, rows: found.rows.into_iter().map(row_to_wire).collect() }
}

pub(super) fn found_from_wire(found: v1::FoundRows) -> Result<FoundRows, ConvertError> {
    let row_from_wire = |row: v1::FoundRow| {
        let value = words::optional_value(row.value, "value")?;
        let Some(version) = row.version else {
            return Ok(FoundRow::AsKnown);
        };
        let version = version_from_wire(version).map_err(|error| error.inside("version"))?;
        Ok(FoundRow::Is(version, value))
    };
    Ok(FoundRows { cut: CutId(found.cut), rows: words::each(found.rows, "rows", row_from_wire)? })
}

fn version_to_wire(version: RowVersion) -> v1::RowVersion {
    v1::RowVersion { group: version.group.0, slot: version.slot.0 }
}

/// The slot may be 0: nothing was ever deleted.
fn version_from_wire(version: v1::RowVersion) -> Result<RowVersion, ConvertError> {
    match version.group {
        0 => Err(ConvertError::missing("group")),
        group => Ok(RowVersion { group: GroupId(group), slot: Slot(version.slot) }),
    }
}

impl Call {
    /// A call of `GetMany`.
    ///
    /// # Errors
    /// Names the field that is wrong.
    pub fn from_get_many(
        call: v1::GetManyRequest,
        tables: Tables<'_>,
    ) -> Result<Call, ConvertError> {
        let asked = required(call.asked, "asked")?;
        let (rows, cut) = many_from_wire(asked, tables).map_err(|error| error.inside("asked"))?;
        let first = &rows.first().ok_or_else(|| ConvertError::missing("asked.rows"))?.at;
        let place = Place::Row(first.table, first.uid);
        Call::new(call.context, place, RequestBody::GetMany { rows, cut })
    }
}

/// The response of `GetMany`.
///
/// # Errors
/// `INTERNAL` if the reply answers something else.
pub fn get_many_response(
    group: GroupId,
    reply: Reply,
    leader: Option<&LeaderHint>,
) -> Result<v1::GetManyResponse, Error> {
    let header = header(group, &reply, leader);
    let ReplyBody::Rows(found) = reply.body else {
        return Err(other_answer("GetMany", &reply.body));
    };
    Ok(v1::GetManyResponse { header, found: Some(found_to_wire(found)) })
}

#[cfg(test)]
#[path = "many_tests.rs"]
mod tests;
