use bytes::Bytes;
use quorate_types::{Ballot, Code, EntryId, ReplicaId, RowAddress, TableId, Uid, Value};

use super::*;

fn wanted(group: u32) -> v1::WantedRow {
    let at = v1::RowAddress { table: "t".into(), uid: 7, key: "k".into(), table_id: 0 };
    v1::WantedRow { at: Some(at), known: Some(v1::RowVersion { group, slot: 0 }) }
}

fn call(rows: Vec<v1::WantedRow>) -> Result<Call, String> {
    let tables = |name: &str| (name == "t").then_some(TableId(1));
    let asked = Some(v1::GetMany { rows, cut: 9 });
    let call = Call::from_get_many(v1::GetManyRequest { context: None, asked }, &tables);
    call.map_err(|error| error.field().to_owned())
}

#[test]
fn a_call_goes_to_the_group_of_its_first_row() {
    // Goal: the unary call is the request of the stream, and a version names a group, whatever its slot.
    let call_of_one = call(vec![wanted(3)]).expect("it is complete");
    assert_eq!(call_of_one.place, Place::Row(TableId(1), Uid(7)));
    let at = RowAddress { table: TableId(1), uid: Uid(7), key: Bytes::from_static(b"k") };
    let known = Some(RowVersion { group: GroupId(3), slot: Slot(0) });
    let body = RequestBody::GetMany { rows: vec![WantedRow { at, known }], cut: CutId(9) };
    assert_eq!(call_of_one.request.body, body);
    assert_eq!(call(Vec::new()), Err("asked.rows".to_owned()));
    assert_eq!(call(vec![wanted(3), wanted(0)]), Err("asked.rows[1].known.group".to_owned()));
    let nameless = v1::WantedRow { at: None, known: None };
    assert_eq!(call(vec![nameless]), Err("asked.rows[0].at".to_owned()));
}

#[test]
fn a_row_as_known_is_told_from_one_that_does_not_exist() {
    // Goal: both travel without a value, and another caller can tell them apart.
    let version = RowVersion { group: GroupId(3), slot: Slot(0) };
    let value = Some(Value::Integer(5));
    let rows = vec![FoundRow::AsKnown, FoundRow::Is(version, None), FoundRow::Is(version, value)];
    let at = EntryId { ballot: Ballot { round: 3, replica: ReplicaId(2) }, slot: Slot(11) };
    let body = ReplyBody::Rows(FoundRows { cut: CutId(4), rows });
    let reply = Reply { at, replayed: false, body };
    let response = get_many_response(GroupId(3), reply, None).expect("it answers the call");
    let found = response.found.expect("every response has it");
    assert_eq!(found.cut, 4);
    let shape = found.rows.iter().map(|row| (row.version.is_some(), row.value.is_some()));
    assert_eq!(shape.collect::<Vec<_>>(), [(false, false), (true, false), (true, true)]);

    let reply = Reply { at, replayed: false, body: ReplyBody::Row(None) };
    let error = get_many_response(GroupId(3), reply, None).expect_err("it answers another call");
    assert_eq!(error.code, Code::Internal);
}
