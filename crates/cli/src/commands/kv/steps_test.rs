//! The same transaction written in three ways, and the mistakes of each.

use clap::{Args as _, FromArgMatches as _};

use super::*;

fn flags(line: &str) -> Result<Vec<Step>, Failure> {
    let command = FlagSteps::augment_args(Command::new("txn").no_binary_name(true));
    let matches = command.try_get_matches_from(line.split_whitespace()).unwrap();
    FlagSteps::from_arg_matches(&matches).unwrap().parse()
}

fn at(key: &'static str) -> At {
    At { table: None, uid: None, key: Bytes::from_static(key.as_bytes()) }
}

fn text(text: &'static str) -> Value {
    Value::Bytes(Bytes::from_static(text.as_bytes()))
}

fn order() -> Vec<Step> {
    vec![
        Step::RequireAbsent(at("order-7")),
        Step::RequireEquals(at("state"), text("open")),
        Step::Put(at("order-7"), text("a=b")),
        Step::Add { at: at("stock"), delta: -1, floor: Some(0), ceiling: None },
        Step::Put(at("order-7"), Value::Integer(5)),
        Step::Add { at: at("sold"), delta: 1, floor: None, ceiling: Some(10) },
        Step::Delete(at("cart")),
        Step::Read(at("stock")),
    ]
}

#[test]
fn flags_keep_their_order_and_bounds_their_add() {
    let steps = flags(
        "--require-absent order-7 --require-equals state=open --put order-7=a=b --add stock=-1 \
         --floor 0 --put order-7=int:5 --add sold=+1 --ceiling 10 --delete cart --read stock",
    );
    assert_eq!(steps, Ok(order()));
    assert_eq!(
        flags("--add a=1 --floor -5 --ceiling -1"),
        Ok(vec![Step::Add { at: at("a"), delta: 1, floor: Some(-5), ceiling: Some(-1) }])
    );
}

#[test]
fn a_text_file_has_one_step_per_line() {
    let steps = parse_file(
        "# sell one\n\nrequire-absent order-7\nrequire-equals state=open\nput order-7=a=b\n\
         add stock=-1 floor=0\nput order-7=int:5\nadd sold=+1 ceiling=10\ndelete cart\nread stock\n",
    );
    assert_eq!(steps, Ok(order()));
    let steps = parse_file("table load\nuid 42\nput k= two words \nuid 7\nread k\n").unwrap();
    let row = |uid| At { table: Some("load".to_owned()), uid: Some(Uid(uid)), ..at("k") };
    assert_eq!(steps, [Step::Put(row(42), text(" two words ")), Step::Read(row(7))]);
}

#[test]
fn a_json_file_has_the_same_steps() {
    let steps = parse_file(
        r#"{"steps": [
            {"require-absent": {"key": "order-7"}},
            {"require-equals": {"key": {"text": "state"}, "value": "open"}},
            {"put": {"key": {"hex": "6f726465722d37"}, "value": {"text": "a=b"}}},
            {"add": {"key": "stock", "delta": -1, "floor": "0"}},
            {"put": {"key": "order-7", "value": {"integer": "5"}}},
            {"add": {"key": "sold", "delta": "1", "ceiling": 10}},
            {"delete": {"key": "cart"}},
            {"read": {"key": "stock"}}
        ]}"#,
    );
    assert_eq!(steps, Ok(order()));
    let steps = parse_file(
        r#"{"table": "load", "uid": "18446744073709551615", "steps": [
            {"read": {"key": "k"}}, {"read": {"key": "k", "table": "profiles", "uid": 7}}]}"#,
    );
    let row =
        |table: &str, uid| At { table: Some(table.to_owned()), uid: Some(Uid(uid)), ..at("k") };
    assert_eq!(steps, Ok(vec![Step::Read(row("load", u64::MAX)), Step::Read(row("profiles", 7))]));
}

#[test]
fn mistakes_name_their_place_and_what_would_be_right() {
    let cases = [
        (flags("--floor 0"), "--floor \"0\": floor belongs right after the add"),
        (flags("--add a=1 --read a --floor 0"), "floor belongs right after the add"),
        (flags("--put k"), "--put \"k\": \"k\" has no \"=\""),
        (flags("--put =v"), "the key is empty"),
        (flags("--add k=1.5"), "\"1.5\" is no integer"),
        (flags("--put k=hex:0"), "hexadecimal"),
        (parse_file("put a=b\nputt c=d\n"), "line 2: \"putt\" is no step; did you mean \"put\"?"),
        (parse_file("add a=1 flor=0\n"), "line 1: \"flor=0\" is neither floor=NUMBER nor"),
        (parse_file("uid x\n"), "line 1: \"x\" is no UID"),
        (parse_file("{\"steps\": [{\"put\": {\"key\": \"k\"}}]}"), "steps[0]: the field \"value\""),
        (parse_file("{\"steps\": [{\"get\": {\"key\": \"k\"}}]}"), "unknown variant `get`"),
        (parse_file("{\"steps\": [{\"read\": {\"key\": \"k\", \"delta\": 1}}]}"), "belong"),
        (parse_file("{\"steps\": [{\"read\": {\"kye\": \"k\"}}]}"), "unknown field `kye`"),
    ];
    for (steps, part) in cases {
        let failure = steps.unwrap_err();
        assert!(failure.to_string().contains(part), "{failure} lacks {part}");
    }
}
