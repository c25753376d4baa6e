//! Units, slices, groups, localities and members.

use super::{GOOD, check, check_change};

#[test]
fn unit_names_have_their_form() {
    let tail = "; unit names are two capital letters, then up to eight capital letters or digits, \
                such as RZ00";
    for name in ["rz00", "R0", "RZ-0", "RZ000000000", ""] {
        let text = GOOD.replace("\"RZ00\"", &format!("\"{name}\""));
        check(&text, &format!("cluster.toml:53: unit name {name:?} is not allowed{tail}"));
    }
}

#[test]
fn every_slice_has_exactly_one_unit() {
    check_change(
        "slices = \"50-99\"",
        "slices = \"40-89\"",
        "cluster.toml:1: slices 90-99 belong to no unit; give them to a [[unit]] of kind \"rzone\"
         cluster.toml:57: slices 40-49 of unit \"RZ01\" belong to unit \"RZ00\" too",
    );
    check_change(
        "slices = \"50-99\"",
        "slices = \"50-100\"",
        "cluster.toml:60: slice 100 is outside 00-99, the slices of this cluster",
    );
    check_change(
        "slices = \"50-99\"\n",
        "",
        "cluster.toml:57: unit \"RZ01\" is an rzone without slices; write the slices it owns, such \
         as slices = \"00-24\"",
    );
    check_change(
        "kind = \"gzone\"",
        "kind = \"gzone\"\nslices = \"00\"",
        "cluster.toml:65: unit \"GZ\" is a gzone and owns no slices; remove the key",
    );
}

#[test]
fn every_table_has_a_unit_to_live_in() {
    let without_gzone = GOOD
        .replace("[[unit]]\nname = \"GZ\"\nkind = \"gzone\"\n", "")
        .replace("[[group]]\nid = 3\nunit = \"GZ\"\nlocality = \"F@sh-a,F@sh-b,F@sh-c\"\n", "");
    check(
        &without_gzone,
        "cluster.toml:50: table \"rates\" has class global, but there is no gzone; declare a \
         [[unit]] with kind = \"gzone\"",
    );
}

#[test]
fn there_is_one_gzone_with_one_group() {
    check_change(
        "[[group]]\nid = 1",
        "[[unit]]\nname = \"GY\"\nkind = \"gzone\"\n[[group]]\nid = 1",
        "cluster.toml:66: unit \"GY\" is a second gzone, after \"GZ\"; a cluster has one gzone
         cluster.toml:66: unit \"GY\" has no group; declare a [[group]] with unit = \"GY\"",
    );
    check(
        &format!("{GOOD}\n[[group]]\nid = 4\nunit = \"GZ\"\nlocality = \"F@sh-a\"\n"),
        "cluster.toml:84: group 4 is a second group of gzone \"GZ\"; a gzone has one group",
    );
}

#[test]
fn czones_are_refused_for_now() {
    check(
        &format!("{GOOD}\n[[unit]]\nname = \"CZ\"\nkind = \"czone\"\n"),
        "cluster.toml:86: unit \"CZ\": czones are not served by this version; global tables are \
         read at the gzone; remove the unit",
    );
}

#[test]
fn groups_hold_each_slice_of_their_unit_once() {
    check_change(
        "unit = \"RZ00\"",
        "unit = \"RZ02\"",
        "cluster.toml:52: unit \"RZ00\" has no group; declare a [[group]] with unit = \"RZ00\"
         cluster.toml:68: group 1 is of unit \"RZ02\", which is not declared; did you mean \
         \"RZ00\"?",
    );
    check_change(
        "unit = \"RZ00\"",
        "unit = \"RZ00\"\nslices = \"00-39\"",
        "cluster.toml:52: slices 40-49 of unit \"RZ00\" belong to no group",
    );
    check_change(
        "unit = \"RZ00\"",
        "unit = \"RZ00\"\nslices = \"00-59\"",
        "cluster.toml:69: group 1 holds slices 50-59, which unit \"RZ00\" does not own",
    );
    check(
        &format!(
            "{}\n[[group]]\nid = 4\nunit = \"RZ00\"\nslices = \"30-49\"\nlocality = \
             \"F@sh-a\"\n",
            GOOD.replacen("unit = \"RZ00\"", "unit = \"RZ00\"\nslices = \"00-39\"", 1)
        ),
        "cluster.toml:85: slices 30-39 of group 4 belong to group 1 too",
    );
    check(
        &format!("{GOOD}\n[[group]]\nid = 4\nunit = \"RZ00\"\nlocality = \"F@sh-a\"\n"),
        "cluster.toml:66: group 1 does not say which slices it holds, and unit \"RZ00\" has 2 \
         groups; slices may be left out only where a unit has one group
         cluster.toml:84: group 4 does not say which slices it holds, and unit \"RZ00\" has 2 \
         groups; slices may be left out only where a unit has one group",
    );
    check_change(
        "unit = \"GZ\"",
        "unit = \"GZ\"\nslices = \"00\"",
        "cluster.toml:82: group 3 is of gzone \"GZ\", which owns no slices; remove the key",
    );
}

#[test]
fn localities_name_known_kinds_and_zones() {
    let first = "locality = \"F@sh-a,F@sh-b,F@sh-c\"";
    for (locality, expected) in [
        (
            "F@sh-a,L@sh-b,L@sh-c",
            "group 1 has 1 full among 3 replicas that vote; of those, 2 must be full, because 1 may be lost and only a full one can lead",
        ),
        ("R@sh-a,L@sh-b,R@sh-c", "group 1 has no full replica, and only those can lead"),
        ("F@sh-a,A@sh-b,A@sh-c", "group 1 has 2 arbiters, and may have one"),
        (
            "F@sh-a,A@sh-b,L@sh-c",
            "group 1 has an arbiter and log-only replicas, which do not go together",
        ),
        (
            "F@sh-a,A@sh-b",
            "group 1 has an arbiter beside 1 full replicas; it goes with 2 or 4 of them: an odd number needs none",
        ),
        (
            "F@sh-a,F@sh-b,F@sh-cc",
            "locality names zone \"sh-cc\", which is not declared; did you mean \"sh-c\"?",
        ),
        (
            "F@sh-a,F@sh-a,F@sh-c",
            "zone \"sh-a\" is named twice; a zone fails as one, so it holds at most one replica of a group (declare a [[zone]] for each part that fails alone)",
        ),
        (
            "F@sh-a,X@sh-b",
            "\"X\" is no replica kind; kinds are F (full), L (log-only), R (read-only), A (arbiter)",
        ),
        ("sh-a,sh-b", "\"sh-a\" is no replica; write KIND@ZONE, such as F@sh-a"),
    ] {
        let expected = format!("cluster.toml:69: {expected}");
        check_change(first, &format!("locality = \"{locality}\""), &expected);
    }
}

#[test]
fn leader_orders_name_zones_with_a_replica() {
    check_change(
        "leader-order = \"sh-a,sh-b;sh-c\"",
        "leader-order = \"sh-a,hz-a;sh-c\"",
        "cluster.toml:70: leader-order names zone \"hz-a\", where group 1 has no replica; known \
         zones: sh-a, sh-b, sh-c",
    );
    check_change(
        "leader-order = \"sh-a,sh-b;sh-c\"",
        "leader-order = \"sh-a;sh-a\"",
        "cluster.toml:70: leader-order: zone \"sh-a\" is named twice",
    );
    check_change(
        "locality = \"F@sh-a,F@sh-b,F@sh-c\"\nleader-order = \"sh-a,sh-b;sh-c\"",
        "locality = \"F@sh-a,F@sh-b,L@sh-c\"\nleader-order = \"sh-a,sh-b;sh-c\"",
        "cluster.toml:70: leader-order names zone \"sh-c\", where the replica of group 1 is log-only and cannot \
         lead; leave the zone out",
    );
}

#[test]
fn members_are_one_known_node_for_each_zone() {
    let members = "[\"n1\", \"n2\", \"n3\"]";
    check_change(
        members,
        "[\"n1\", \"n2\", \"n4\"]",
        "cluster.toml:77: members name node \"n4\", which is not declared; did you mean \"n1\"?",
    );
    check_change(
        members,
        "[\"n1\", \"n2\"]",
        "cluster.toml:77: members name no node of zone \"sh-c\"; nodes there: n3",
    );
    check_change(
        members,
        "[\"n1\", \"n2\", \"n2\", \"n3\"]",
        "cluster.toml:77: member \"n2\" is in zone \"sh-b\", which already gives \"n2\"",
    );
    check_change(
        "locality = \"F@sh-a,F@sh-b,F@sh-c\"\nleader-order = \"sh-b\"",
        "locality = \"F@sh-a,F@sh-b\"\nleader-order = \"sh-b\"",
        "cluster.toml:77: member \"n3\" is in zone \"sh-c\", where group 2 has no replica",
    );
}
