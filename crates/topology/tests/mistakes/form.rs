//! The file as TOML, the cluster section, places and nodes.

use super::{GOOD, check, check_change};

#[test]
fn broken_toml_is_refused_with_its_line() {
    check_change("version = 3", "version 3", "cluster.toml:4: key with no value, expected `=`");
    check_change(
        "kind = \"gzone\"",
        "kind = \"gzone\nname = 1",
        "cluster.toml:64: invalid basic string, expected `\"`
         cluster.toml:65: duplicate key",
    );
}

#[test]
fn unknown_keys_name_the_nearest_one() {
    check_change(
        "leader-order",
        "leader-oder",
        "cluster.toml:70: unknown key \"leader-oder\" in [[group]]; did you mean \"leader-order\"?",
    );
    check_change(
        "leader-order",
        "leader_order",
        "cluster.toml:70: unknown key \"leader_order\" in [[group]]; did you mean \"leader-order\"?",
    );
    check_change(
        "name = \"sh\"",
        "name = \"sh\"\ncolour = \"red\"",
        "cluster.toml:8: unknown key \"colour\" in [[city]]; known keys: name",
    );
    check_change(
        "[cluster]",
        "top = 1\n[cluster]",
        "cluster.toml:1: unknown key \"top\" at the top of the file; known sections: cluster, city, \
         idc, zone, node, table, unit, group",
    );
}

#[test]
fn missing_and_mistyped_values_name_key_and_type() {
    check_change(
        "id = 1\nzone = \"sh-a\"\n",
        "zone = \"sh-a\"\nname = \"n1\"\n",
        "cluster.toml:21: id is missing in [[node]]",
    );
}

#[test]
fn wrong_types_name_what_was_found() {
    check_change(
        "version = 3",
        "version = \"3\"",
        "cluster.toml:4: version in [cluster] must be an integer, found a text",
    );
    check_change(
        "name = \"purchases\"",
        "name = 7.5",
        "cluster.toml:44: name in [[table]] must be a text in quotes, found a decimal number",
    );
    check_change(
        "slices = \"00-49\"",
        "slices = [0, 49]",
        "cluster.toml:55: slices in [[unit]] must be a text in quotes, found a list",
    );
    check_change(
        "members = [\"n1\", \"n2\", \"n3\"]",
        "members = [\"n1\", 2, \"n3\"]",
        "cluster.toml:77: members in [[group]] must be a list of texts in quotes, found an integer",
    );
    check_change(
        "[[city]]",
        "[city]",
        "cluster.toml:6: city must be a list of tables, found a table; write [[city]], once for each
         cluster.toml:11: idc \"sh-a\" is in city \"sh\", which is not declared
         cluster.toml:15: idc \"sh-b\" is in city \"sh\", which is not declared
         cluster.toml:19: idc \"sh-c\" is in city \"sh\", which is not declared
         cluster.toml: there is no [[city]]",
    );
    check_change(
        "[cluster]",
        "[[cluster]]",
        "cluster.toml:1: cluster must be one table, found a list; write [cluster], once",
    );
}

#[test]
fn numbers_out_of_range_name_the_range() {
    check_change(
        "[[table]]\nid = 1",
        "[[table]]\nid = 0",
        "cluster.toml:43: id in [[table]] is 0, outside 1 to 65535",
    );
    check_change(
        "[[node]]\nid = 1",
        "[[node]]\nid = -1\nname = \"n1\"",
        "cluster.toml:22: id in [[node]] is -1, outside 1 to 4294967295",
    );
    check_change(
        "version = 3",
        "version = 99999999999999999999",
        "cluster.toml:4: version in [cluster] is 99999999999999999999, outside 1 to \
         9223372036854775807",
    );
    check_change(
        "version = 3",
        "slices = 0",
        "cluster.toml:4: slices in [cluster] is 0, outside 1 to 10000",
    );
}

#[test]
fn words_name_the_nearest_word() {
    check_change(
        "version = 3",
        "lease = \"lam\"",
        "cluster.toml:4: lease in [cluster] is \"lam\"; did you mean \"lan\"?",
    );
    check_change(
        "class = \"global\"",
        "class = \"everywhere\"",
        "cluster.toml:50: class in [[table]] is \"everywhere\"; known words: unit, home, global",
    );
    check_change(
        "kind = \"gzone\"",
        "kind = \"zone\"",
        "cluster.toml:64: kind in [[unit]] is \"zone\"; did you mean \"rzone\"?",
    );
}

#[test]
fn the_cluster_section_is_checked() {
    check_change(
        "000102030405060708090a0b0c0d0e0f",
        "0001",
        "cluster.toml:3: a cluster id has 32 hexadecimal digits, this one has 4",
    );
    check_change(
        "name = \"pay\"",
        "name = \"pay demo\"",
        "cluster.toml:2: cluster name \"pay demo\" is not allowed; names have 1 to 63 letters, \
         digits, \"-\", \"_\" and \".\", and start with a letter or digit",
    );
}

#[test]
fn an_empty_file_says_everything_that_is_missing() {
    check(
        "",
        "cluster.toml: the section [cluster] is missing
         cluster.toml: there is no [[city]]
         cluster.toml: there is no [[idc]]
         cluster.toml: there is no [[node]]
         cluster.toml: there is no [[unit]]",
    );
}

#[test]
fn places_need_declared_parents() {
    check_change(
        "city = \"sh\"",
        "city = \"hs\"",
        "cluster.toml:11: idc \"sh-a\" is in city \"hs\", which is not declared; did you mean \
         \"sh\"?",
    );
    check_change(
        "zone = \"sh-b\"",
        "zone = \"shb\"",
        "cluster.toml:30: node \"n2\" is in zone \"shb\", which is not declared; did you mean \
         \"sh-b\"?",
    );
}

#[test]
fn declared_zones_replace_the_idcs() {
    let zone = |name: &str, idc: &str| format!("[[zone]]\nname = \"{name}\"\nidc = \"{idc}\"\n");
    let zones = zone("sh-a", "sh-a") + &zone("sh-b", "sh-x");
    check_change(
        "[[node]]",
        &format!("{zones}[[node]]"),
        "cluster.toml:26: zone \"sh-b\" is in idc \"sh-x\", which is not declared; did you mean \
         \"sh-a\"?
         cluster.toml:43: node \"n3\" is in zone \"sh-c\", which is not declared; did you mean \
         \"sh-a\"?
         cluster.toml:75: locality names zone \"sh-c\", which is not declared; did you mean \
         \"sh-a\"?
         cluster.toml:81: locality names zone \"sh-c\", which is not declared; did you mean \
         \"sh-a\"?
         cluster.toml:88: locality names zone \"sh-c\", which is not declared; did you mean \
         \"sh-a\"?",
    );
}

#[test]
fn a_zone_of_a_locality_needs_a_node() {
    let zone = "[[idc]]\nname = \"sh-d\"\ncity = \"sh\"\n";
    let text =
        GOOD.replacen("F@sh-c\"\nleader-order = \"sh-a", "F@sh-d\"\nleader-order = \"sh-a", 1);
    let text = text.replacen("sh-a,sh-b;sh-c", "sh-a,sh-b;sh-d", 1) + zone;
    check(&text, "cluster.toml:66: group 1 has a replica in zone \"sh-d\", which has no node");
}

#[test]
fn names_numbers_and_addresses_are_used_once() {
    check_change(
        "[[idc]]\nname = \"sh-a\"",
        "[[idc]]\nname = \"sh-b\"\ncity = \"sh\"\n[[idc]]\nname = \"sh-a\"",
        "cluster.toml:17: idc name \"sh-b\" is used twice; the first is on line 10",
    );
    check_change(
        "[[node]]\nid = 2",
        "[[node]]\nid = 1",
        "cluster.toml:29: node id 1 is used twice; the first is on line 22
         cluster.toml:29: node name \"n1\" is used twice; the first is on line 22
         cluster.toml:77: members name node \"n2\", which is not declared; did you mean \"n1\"?",
    );
    check_change(
        "client = \"127.0.0.1:6450\"",
        "client = \"127.0.0.1:6441\"",
        "cluster.toml:31: address \"127.0.0.1:6441\" is used twice; the first is on line 25",
    );
    check_change(
        "[[table]]\nid = 2\nname = \"rates\"",
        "[[table]]\nid = 1\nname = \"purchases\"",
        "cluster.toml:48: table id 1 is used twice; the first is on line 43
         cluster.toml:49: table name \"purchases\" is used twice; the first is on line 44",
    );
    check_change(
        "[[group]]\nid = 2",
        "[[group]]\nid = 1",
        "cluster.toml:73: group id 1 is used twice; the first is on line 67",
    );
}

#[test]
fn addresses_must_be_dialable() {
    let tail = "; write \"host:port\", as other nodes dial it";
    for (address, reason) in [
        ("127.0.0.1", "has no port"),
        ("0.0.0.0:6440", "cannot be dialled"),
        ("127.0.0.1:66440", "has a port outside 1 to 65535"),
        ("sh a:6440", "has a broken host name"),
    ] {
        let expected = format!("cluster.toml:24: client address \"{address}\" {reason}{tail}");
        check_change("127.0.0.1:6440", address, &expected);
    }
}

#[test]
fn a_node_must_not_be_called_like_another_number() {
    check_change(
        "[[node]]\nid = 1\n",
        "[[node]]\nid = 1\nname = \"n7\"\n",
        "cluster.toml:23: node 1 has the name \"n7\", the name of node 7; call it \"n1\", or \
         something without a number
         cluster.toml:78: members name node \"n1\", which is not declared; did you mean \"n2\"?",
    );
}
