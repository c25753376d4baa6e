use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use prost::Message as _;
use quorate_types::{Code, SessionId, Slot, Value};

use super::super::strategies;
use super::*;

fn no_tables(_: &str) -> Option<TableId> {
    None
}

fn two_tables(name: &str) -> Option<TableId> {
    match name {
        "profiles" => Some(TableId(3)),
        "load" => Some(TableId(2)),
        _ => None,
    }
}

fn item() -> impl Strategy<Value = Item> {
    let id = option::of(strategies::request_id());
    let time_left = option::of(strategies::millis());
    let elsewhere = option::of(elsewhere());
    let head = (any::<u64>(), strategies::group(), time_left, any::<u64>(), elsewhere);
    (head, id, strategies::body()).prop_map(
        |((number, group, time_left, topology_version, elsewhere), id, body)| Item {
            id: number,
            group,
            time_left,
            topology_version,
            elsewhere,
            request: Request { id, body },
        },
    )
}

fn elsewhere() -> impl Strategy<Value = Elsewhere> {
    let stale_max = option::of((0..=60_000_u64).prop_map(Duration::from_millis));
    (any::<u64>(), stale_max, any::<bool>()).prop_map(|(slot, stale_max, around_locks)| Elsewhere {
        at_least: Slot(slot),
        stale_max,
        around_locks,
    })
}

proptest! {
    #[test]
    fn items_round_trip(item in item()) {
        // Goal: what a client asks is what the server reads, byte for byte.
        let encoded = item.clone().into_wire().encode_to_vec();
        let decoded = v1::PipelineItem::decode(&encoded[..]).expect("we encoded it");
        prop_assert_eq!(Item::from_wire(decoded, &no_tables), Ok(item));
    }

    #[test]
    fn bytes_from_the_network_never_panic(bytes in vec(any::<u8>(), 0..200)) {
        // Goal: whatever decodes is converted or refused.
        if let Ok(frame) = v1::PipelineRequest::decode(&bytes[..]) {
            for item in frame.items {
                let _no_panic = Item::from_wire(item, &no_tables);
            }
        }
        if let Ok(call) = v1::TransactRequest::decode(&bytes[..]) {
            let _no_panic = Call::from_transact(call, &two_tables);
        }
        if let Ok(call) = v1::ScanRequest::decode(&bytes[..]) {
            let _no_panic = Call::from_scan(call, &two_tables);
        }
        if let Ok(call) = v1::CompareAndSetRequest::decode(&bytes[..]) {
            let _no_panic = Call::from_compare_and_set(call, &two_tables);
        }
        if let Ok(call) = v1::CloseSessionRequest::decode(&bytes[..]) {
            let _no_panic = Call::from_close_session(call);
        }
    }

    #[test]
    fn damaged_items_never_panic(item in item(), at in any::<usize>(), flip in 1..=255_u8) {
        // Goal: the same for bytes that look almost right.
        let mut encoded = item.into_wire().encode_to_vec();
        let at = at % encoded.len();
        encoded[at] ^= flip;
        if let Ok(decoded) = v1::PipelineItem::decode(&encoded[..]) {
            let _no_panic = Item::from_wire(decoded, &no_tables);
        }
    }
}

#[test]
fn no_time_left_is_not_the_same_as_nothing_said() {
    // Goal: an item sent at its deadline is not given the server's default.
    let body = RequestBody::CloseSession(SessionId { group: GroupId(1), slot: Slot(1) });
    let mut item = Item {
        id: 1,
        group: GroupId(1),
        time_left: Some(Duration::ZERO),
        topology_version: 0,
        elsewhere: None,
        request: Request { id: None, body },
    };
    assert_eq!(item.clone().into_wire().deadline_ms, 1);
    item.time_left = None;
    assert_eq!(item.into_wire().deadline_ms, 0);
}

#[test]
fn a_refused_item_names_the_field() {
    // Goal: whoever wrote a client in another language finds the mistake from the message.
    let mutation = |kind| v1::Mutation { kind };
    let put = |value| {
        let at = v1::RowAddress { table: "load".into(), uid: 1, key: "k".into(), table_id: 0 };
        mutation(Some(v1::mutation::Kind::Put(v1::PutMutation { at: Some(at), value })))
    };
    let good = || put(Some(v1::Value { kind: Some(v1::value::Kind::Integer(1)) }));
    let cases = [
        (vec![good(), mutation(None)], "transact.mutations[1].kind"),
        (vec![put(None)], "transact.mutations[0].put.value"),
        (vec![put(Some(v1::Value { kind: None }))], "transact.mutations[0].put.value.kind"),
    ];
    for (mutations, field) in cases {
        let transaction = v1::Transaction { mutations, ..v1::Transaction::default() };
        let body = Some(v1::pipeline_item::Body::Transact(transaction));
        let item = v1::PipelineItem { group: 1, body, ..v1::PipelineItem::default() };
        let error = Item::from_wire(item, &two_tables).expect_err(field);
        assert_eq!((error.field(), error.code()), (field, Code::InvalidRequest));
        let error = quorate_types::Error::from(error);
        assert!(error.message.contains(field), "{error}");
        assert_eq!(error.facts["field"], field);
    }
}

#[test]
fn tables_are_found_by_name_or_number() {
    // Goal: names for people, numbers for our client, and a code of its own for unknown names.
    let get = |table: &str, table_id| {
        let at = v1::RowAddress { table: table.into(), uid: 1, key: "k".into(), table_id };
        let body = Some(v1::pipeline_item::Body::Get(at));
        let item = v1::PipelineItem { group: 1, body, ..v1::PipelineItem::default() };
        match Item::from_wire(item, &two_tables).map(|item| item.request.body) {
            Ok(RequestBody::Get(at)) => Ok(at.table),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err((error.code(), error.field().to_owned())),
        }
    };
    assert_eq!(get("load", 0), Ok(TableId(2)));
    assert_eq!(get("load", 9), Ok(TableId(9)));
    assert_eq!(get("", 65_535), Ok(TableId(65_535)));
    assert_eq!(get("", 0), Err((Code::InvalidRequest, "get.table".to_owned())));
    assert_eq!(get("", 65_536), Err((Code::InvalidRequest, "get.table_id".to_owned())));
    assert_eq!(get("loads", 0), Err((Code::UnknownTable, "get.table".to_owned())));
}

#[test]
fn a_request_id_must_make_sense() {
    // Goal: ids that would confuse a session do not get in.
    let check = |slot, sequence, lowest_unanswered| {
        let session = Some(v1::SessionId { group: 1, slot });
        let id = v1::RequestId { session, sequence, lowest_unanswered };
        let context = v1::RequestContext { request_id: Some(id), ..v1::RequestContext::default() };
        let call = v1::DeleteRequest {
            context: Some(context),
            table: "load".into(),
            uid: 1,
            key: "k".into(),
        };
        Call::from_delete(call, &two_tables).map_err(|error| error.field().to_owned())
    };
    assert!(check(7, 3, 3).is_ok());
    assert_eq!(check(0, 3, 3).unwrap_err(), "context.request_id.session.slot");
    assert_eq!(check(7, 0, 0).unwrap_err(), "context.request_id.sequence");
    assert_eq!(check(7, 3, 4).unwrap_err(), "context.request_id.lowest_unanswered");
}

#[test]
fn unary_calls_become_requests() {
    // Goal: each call means what its comment in the .proto file says.
    let at = RowAddress { table: TableId(3), uid: Uid(42), key: "k".into() };
    let context = v1::RequestContext {
        cluster_id: "00000000000000000000000000000007".into(),
        timeout_ms: 250,
        group: 5,
        request_id: None,
        elsewhere: None,
    };
    let integer = |n| Some(v1::Value { kind: Some(v1::value::Kind::Integer(n)) });
    let table = || "profiles".to_owned();

    let call = v1::CompareAndSetRequest {
        context: Some(context),
        table: table(),
        uid: 42,
        key: "k".into(),
        expected: None,
        new: integer(1),
    };
    let call = Call::from_compare_and_set(call, &two_tables).expect("it is well formed");
    let body = RequestBody::Transact {
        conditions: vec![Condition::Absent(at.clone())],
        mutations: vec![Mutation::Put(at.clone(), Value::Integer(1))],
        reads: Vec::new(),
    };
    let want = Call {
        cluster: Some(ClusterId(7)),
        group: Some(GroupId(5)),
        place: Place::Row(TableId(3), Uid(42)),
        time_left: Some(Duration::from_millis(250)),
        elsewhere: None,
        request: Request { id: None, body },
    };
    assert_eq!(call, want);

    let call = v1::CompareAndSetRequest {
        context: None,
        table: table(),
        uid: 42,
        key: "k".into(),
        expected: integer(1),
        new: None,
    };
    let call = Call::from_compare_and_set(call, &two_tables).expect("it is well formed");
    let body = RequestBody::Transact {
        conditions: vec![Condition::Equals(at.clone(), Value::Integer(1))],
        mutations: vec![Mutation::Delete(at.clone())],
        reads: Vec::new(),
    };
    assert_eq!(call.request.body, body);
    assert_eq!(addresses(&body).collect::<Vec<_>>(), [&at, &at]);

    let call = v1::ScanRequest { table: table(), slice: 17, ..v1::ScanRequest::default() };
    let call = Call::from_scan(call, &two_tables).expect("it is well formed");
    assert_eq!(call.place, Place::Slice(TableId(3), SliceId(17)));

    let call = v1::OpenSessionRequest { context: None, table: table(), uid: 42 };
    let call = Call::from_open_session(call, &two_tables).expect("it is well formed");
    assert_eq!(call.place, Place::Row(TableId(3), Uid(42)));

    let call = v1::PutRequest { table: table(), key: "k".into(), ..v1::PutRequest::default() };
    let error = Call::from_put(call, &two_tables).expect_err("there is no value");
    assert_eq!(error, ConvertError::missing("value"));
    let error = Call::from_transact(v1::TransactRequest::default(), &two_tables);
    assert_eq!(error, Err(ConvertError::missing("transaction")));
}

#[test]
fn a_read_may_not_be_of_any_age_it_likes() {
    // Goal: a bound that nobody keeps is refused, and not read as none.
    let with_bound = |stale_max_ms| {
        let elsewhere = v1::Elsewhere { stale_max_ms, ..v1::Elsewhere::default() };
        let context = v1::RequestContext { elsewhere: Some(elsewhere), ..Default::default() };
        let (table, key) = ("load".to_owned(), "k".into());
        let call = v1::GetRequest { context: Some(context), table, uid: 1, key };
        Call::from_get(call, &two_tables).map(|call| call.elsewhere.expect("it says so").stale_max)
    };
    assert_eq!(with_bound(None), Ok(None));
    assert_eq!(with_bound(Some(0)), Ok(Some(Duration::ZERO)));
    assert_eq!(with_bound(Some(60_000)), Ok(Some(Elsewhere::STALE_MAX)));
    let error = with_bound(Some(60_001)).unwrap_err();
    assert!(error.to_string().contains("context.elsewhere.stale_max_ms"), "{error}");
}
