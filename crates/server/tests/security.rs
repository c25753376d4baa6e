//! Real nodes with certificates: who gets in, who may do what, and what happens to the others.
#![cfg(not(madsim))]
#![allow(missing_docs, unreachable_pub)]

#[allow(dead_code, reason = "each file of tests uses a part of it")]
mod common;

use std::path::Path;

use common::{Cluster, within, write_certificates};
use quorate_client::{Client, Outcome, Paths, Reads, Tls, TransferOutcome, Value};
use quorate_proto::convert::error::error_from_status;
use quorate_proto::convert::recovery::order_to_wire;
use quorate_proto::recovery::{HistoryReport, RecoveryOrder};
use quorate_proto::v1;
use quorate_server::{Security, ServerOptions, serve};
use quorate_tls::{Dial, Expected, FirstWord, Folder, YEAR};
use quorate_topology::Topology;
use quorate_types::{
    AccountAddress, AccountSettings, Ballot, Code, EntryId, GroupId, Loss, LossKind, NodeId,
    ReplicaId, Slot, Transfer, TransferId, Uid,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

/// Users of RZ00, RZ01 and RZ02.
const ANN: Uid = Uid(1);
const BOB: Uid = Uid(26);
const CAT: Uid = Uid(51);

/// `shop` writes in RZ00 and reads in RZ01; `ops` looks after RZ01.
const RIGHTS: &str = "\
[[client]]
name = \"shop\"
read = [\"RZ01\"]
write = [\"RZ00\"]
[[client]]
name = \"ops\"
admin = [\"RZ01\"]
";

async fn channel(address: &str, tls: &Tls) -> Result<Channel, tonic::transport::Error> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
    endpoint.connect_with_connector(Dial::new(tls.clone(), Expected::AnyNode)).await
}

/// The code that a status of ours carries.
fn code_of<T: std::fmt::Debug>(answer: Result<T, tonic::Status>) -> Code {
    let status = answer.expect_err("refused");
    error_from_status(&status).unwrap_or_else(|| panic!("no code of ours: {status:?}")).code
}

fn refused<T: std::fmt::Debug>(answer: Result<T, quorate_client::Error>) -> Code {
    let error = answer.expect_err("refused");
    assert_eq!(error.outcome(), Outcome::NotApplied, "{error}");
    error.code()
}

/// Goal: a client does what its rights say, in the units they name, and a refusal changes nothing;
/// rights that are taken away are gone on connections that are open.
#[tokio::test(flavor = "multi_thread")]
async fn clients_do_what_they_may_and_nothing_else() {
    let cluster = Cluster::start_secured(RIGHTS).await;
    let root = cluster.client().await;
    for uid in [ANN, BOB, CAT] {
        root.put("load", uid, "k", "root").await.expect("root may");
    }
    let shop = cluster.client_of(cluster.tls("shop")).await;
    shop.put("load", ANN, "k", "shop").await.expect("its own unit");
    assert!(shop.get("load", BOB, "k").await.expect("it may read").is_some());
    assert_eq!(refused(shop.put("load", BOB, "k", "shop").await), Code::PermissionDenied);
    assert_eq!(refused(shop.get("load", CAT, "k").await), Code::PermissionDenied);
    // Of many rows each must be readable, and another replica asks for the same rights.
    let known = shop.get_many(&[("load", ANN, "k"), ("load", BOB, "k")]).await;
    assert_eq!(known.expect("it may read both").iter().flatten().count(), 2);
    let many = shop.get_many(&[("load", ANN, "k"), ("load", CAT, "k")]).await;
    assert_eq!(refused(many), Code::PermissionDenied);
    let near = shop.with_reads(Reads::CityLocal);
    near.get("load", BOB, "k").await.expect("it may read");
    assert_eq!(refused(near.get("load", CAT, "k").await), Code::PermissionDenied);
    // Over several units every part of a transaction counts.
    let over = shop.transaction().put("load", ANN, "both", "x").put("load", BOB, "both", "x");
    assert_eq!(refused(over.commit().await), Code::PermissionDenied);
    let over = shop.transaction().put("load", ANN, "one", "x").require_exists("load", BOB, "k");
    over.commit().await.expect("it writes here and reads there");
    let moved = shop.transfer_leader(GroupId(1), None).await;
    assert_eq!(refused(moved), Code::PermissionDenied);
    for (uid, want) in [(ANN, "shop"), (BOB, "root"), (CAT, "root")] {
        assert_eq!(root.get("load", uid, "k").await.expect("get"), Some(Value::Bytes(want.into())));
        assert_eq!(root.get("load", uid, "both").await.expect("get"), None);
    }

    let account = |uid| AccountAddress { uid, ledger: 1, code: AccountAddress::CODE_USUAL };
    for uid in [ANN, BOB] {
        let settings = AccountSettings { floor: None, ..AccountSettings::default() };
        root.create_account(account(uid), settings).await.expect("made");
    }
    let pay = Transfer::post(TransferId(1), account(ANN), account(BOB), 5);
    match shop.transfer(pay).await {
        TransferOutcome::Failed(error) => {
            assert_eq!(refused(Err::<(), _>(error)), Code::PermissionDenied);
        }
        other => panic!("{other:?}"),
    }
    let bob = root.account(account(BOB)).await.expect("read").expect("it exists");
    assert_eq!(bob.balance, 0);

    let ops = cluster.client_of(cluster.tls("ops")).await;
    assert_eq!(refused(ops.get("load", BOB, "k").await), Code::PermissionDenied);
    assert_eq!(refused(ops.transfer_leader(GroupId(1), None).await), Code::PermissionDenied);
    ops.transfer_leader(GroupId(2), None).await.expect("RZ01 is its own");
    // Somebody of the cluster whom nobody gave a right.
    let stranger = Client::builder(cluster.endpoints()).tls(cluster.tls("stranger")).build().await;
    assert_eq!(stranger.expect_err("refused").code(), Code::PermissionDenied);

    let rights = cluster.certs().join("rights.toml");
    let text = std::fs::read_to_string(&rights).expect("a file");
    std::fs::write(&rights, text.replace("write = [\"RZ00\"]", "")).expect("written");
    within(async || match shop.put("load", ANN, "k", "shop").await {
        Ok(_) => None,
        Err(error) => {
            assert_eq!(error.code(), Code::PermissionDenied);
            Some(())
        }
    })
    .await;
}

/// Goal: the calls of any language are held against the same rights as the stream of our own client.
#[tokio::test(flavor = "multi_thread")]
async fn unary_calls_know_their_caller() {
    let cluster = Cluster::start_secured(RIGHTS).await;
    let leader = cluster.leader_of(GroupId(2)).await;
    let node = cluster.topology.node(leader).expect("known");
    let put = v1::PutRequest {
        table: "load".to_owned(),
        uid: BOB.0,
        key: b"k".to_vec().into(),
        value: Some(v1::Value { kind: Some(v1::value::Kind::Integer(1)) }),
        ..v1::PutRequest::default()
    };
    let shop = channel(&node.client, &cluster.tls("shop")).await.expect("a channel");
    let mut kv = v1::kv_client::KvClient::new(shop.clone());
    assert_eq!(code_of(kv.put(put.clone()).await), Code::PermissionDenied);
    let get = v1::GetRequest {
        table: "load".to_owned(),
        uid: BOB.0,
        key: b"k".to_vec().into(),
        ..v1::GetRequest::default()
    };
    kv.get(get.clone()).await.expect("it may read");
    let at = |uid: Uid| {
        let table = "load".to_owned();
        v1::RowAddress { table, uid: uid.0, key: b"k".to_vec().into(), table_id: 0 }
    };
    let many = |uid| {
        let rows = vec![v1::WantedRow { at: Some(at(uid)), known: None }];
        v1::GetManyRequest { context: None, asked: Some(v1::GetMany { rows, cut: 0 }) }
    };
    kv.get_many(many(BOB)).await.expect("it may read");
    assert_eq!(code_of(kv.get_many(many(CAT)).await), Code::PermissionDenied);
    let cut = v1::ReadCutTransfersRequest {
        context: Some(v1::RequestContext { group: 3, ..v1::RequestContext::default() }),
        cut: 1,
        transfers: Some(v1::CutTransfers { id: vec![7; 16].into(), after_uid: None }),
    };
    let mut cuts = v1::cuts_client::CutsClient::new(shop.clone());
    assert_eq!(code_of(cuts.read_cut_transfers(cut).await), Code::PermissionDenied);
    let mut health = HealthClient::new(shop.clone());
    health.check(HealthCheckRequest::default()).await.expect("every client may");
    let stranger = channel(&node.client, &cluster.tls("stranger")).await.expect("a channel");
    let unknown = HealthClient::new(stranger).check(HealthCheckRequest::default()).await;
    assert_eq!(code_of(unknown), Code::PermissionDenied);
    let mut admin = v1::admin_client::AdminClient::new(shop);
    admin.get_node_status(v1::GetNodeStatusRequest {}).await.expect("every client may");
    let transfer = v1::TransferLeaderRequest { group: 2, to_node: None };
    assert_eq!(code_of(admin.transfer_leader(transfer).await), Code::PermissionDenied);

    // A node has nothing to do with rows, whatever it may say to its peers.
    let tls = Tls::open(Paths::of_node(&cluster.certs(), &node.name)).expect("a node");
    let channel = channel(&node.client, &tls).await.expect("a channel");
    let mut kv = v1::kv_client::KvClient::new(channel.clone());
    assert_eq!(code_of(kv.get(get).await), Code::PermissionDenied);
    assert_eq!(code_of(kv.put(put).await), Code::PermissionDenied);
    let mut admin = v1::admin_client::AdminClient::new(channel);
    admin.get_node_status(v1::GetNodeStatusRequest {}).await.expect("on its own machine it helps");
}

/// Goal: only whoever looks after a group may give up what its lost members held: others are refused before anything
/// else is looked at, whatever they type, and nothing begins.
#[tokio::test(flavor = "multi_thread")]
async fn a_recovery_is_forced_by_those_only_who_look_after_the_group() {
    let cluster = Cluster::start_secured(RIGHTS).await;
    let root = cluster.client().await;
    let (own, other) = (GroupId(2), GroupId(1)); // Of RZ01, and of RZ00.
    let name = |group: GroupId| cluster.topology.group(group).expect("known").label();
    // Each node is to go on alone.
    let order = |node: NodeId, group: GroupId, confirm: &str| RecoveryOrder {
        group,
        confirm: confirm.to_owned(),
        history: HistoryReport::default(),
        promised: Ballot::ZERO,
        proven: EntryId::ZERO,
        loss: Loss {
            kind: LossKind::ForcedRecovery,
            history_before: 0,
            history_after: 1,
            proven_through: Slot::ZERO,
            kept_through: Slot::ZERO,
            kept: vec![ReplicaId::first_on(node)],
            given_up: Vec::new(),
            operator: "root".to_owned(),
            reason: "none".to_owned(),
            told_at_ms: 0,
        },
    };
    let shop = cluster.client_of(cluster.tls("shop")).await;
    let ops = cluster.client_of(cluster.tls("ops")).await;
    for node in cluster.topology.nodes() {
        let force = async |client: &Client, group, confirm: &str| {
            let forced = client.force_recovery(node.id, &order(node.id, group, confirm)).await;
            forced.expect_err("refused").code()
        };
        for confirm in [name(own), name(other), String::new()] {
            assert_eq!(force(&shop, own, &confirm).await, Code::PermissionDenied);
            assert_eq!(force(&shop, other, &confirm).await, Code::PermissionDenied);
            assert_eq!(force(&ops, other, &confirm).await, Code::PermissionDenied);
        }
        // Those who may are asked for the name, and the group is not lost.
        assert_eq!(force(&ops, own, &name(other)).await, Code::InvalidRequest);
        assert_eq!(force(&ops, own, &name(own)).await, Code::GroupNotLost);

        // A node is none of those, whatever it may say to its peers.
        let tls = Tls::open(Paths::of_node(&cluster.certs(), &node.name)).expect("a node");
        let channel = channel(&node.client, &tls).await.expect("a channel");
        let mut admin = v1::admin_client::AdminClient::new(channel);
        let forced = admin.force_recovery(order_to_wire(&order(node.id, own, &name(own)))).await;
        assert_eq!(code_of(forced), Code::PermissionDenied);
    }
    for group in [own, other] {
        let standings = root.standings(group, Slot::ZERO).await;
        assert_eq!(standings.len(), 3);
        for standing in standings {
            let standing = standing.standing.expect("it answers");
            assert_eq!((standing.history.number, standing.outlived), (0, false));
        }
        assert!(root.losses(group).await.expect("it is led").is_empty());
    }
}

/// Goal: without a certificate of this cluster nobody gets further than the handshake, and hears why.
#[tokio::test(flavor = "multi_thread")]
async fn strangers_get_no_connection() {
    let cluster = Cluster::start_secured(RIGHTS).await;
    let open = async |tls: Option<Tls>| {
        let builder = Client::builder(cluster.endpoints());
        let builder = match tls {
            Some(tls) => builder.tls(tls),
            None => builder,
        };
        builder.build().await.map(drop).expect_err("refused")
    };
    let plain = open(None).await;
    assert_eq!(plain.code(), Code::TlsMismatch, "{plain}");

    let other = tempfile::tempdir().expect("a folder");
    write_certificates(other.path(), &cluster.topology, &["shop"]);
    let shop = Paths::of_client(other.path(), &"shop".parse().expect("a name"));
    let stranger = open(Some(Tls::open(shop.clone()).expect("a client"))).await;
    assert_eq!(stranger.code(), Code::CertificateInvalid, "{stranger}");
    // It trusts us, we do not trust it: the same names, signed by somebody else.
    let (ours, theirs) = (cluster.certs().join("ca.crt"), shop.ca.clone());
    let text = [theirs, ours].map(|file| std::fs::read_to_string(file).expect("a file"));
    std::fs::write(&shop.ca, text.concat()).expect("written");
    let stranger = open(Some(Tls::open(shop).expect("a client"))).await;
    assert_eq!(stranger.code(), Code::Unauthenticated, "{stranger}");
    assert!(stranger.message().contains("it trusts no authority that signed it"), "{stranger}");
}

/// Goal: on the port of peers a client is nobody, and a node is only itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_peer_is_who_its_certificate_says() {
    let cluster = Cluster::start_secured(RIGHTS).await;
    let n1 = cluster.topology.node(NodeId(1)).expect("known");
    let error = channel(&n1.peer, &cluster.tls("root")).await.expect_err("no node");
    let text = format!("{error:?}");
    assert!(text.contains("Unauthenticated") && text.contains("not for its kind"), "{text}");

    let n2 = Tls::open(Paths::of_node(&cluster.certs(), "n2")).expect("a node");
    let mut peer = v1::peer_client::PeerClient::new(channel(&n1.peer, &n2).await.expect("a node"));
    let hello = v1::Hello {
        protocol_version: quorate_proto::PEER_PROTOCOL_VERSION,
        cluster_id: cluster.topology.cluster_id().to_string(),
        node_id: 3,
        incarnation: 7,
        to_node: 1,
        ..v1::Hello::default()
    };
    let frame = v1::PeerFrame { hello: Some(hello), ..v1::PeerFrame::default() };
    let answer = peer.stream(futures::stream::iter([frame])).await;
    assert_eq!(code_of(answer.map(drop)), Code::Unauthenticated);
}

async fn start(cluster: &Cluster, name: &str, dir: &Path) -> quorate_types::Error {
    let data = cluster.dir.path().join("never");
    let options = ServerOptions {
        data: data.clone(),
        security: Security::Tls { dir: dir.to_owned() },
        ..cluster.options(name)
    };
    let error = serve(options, std::future::pending()).await.expect_err("it does not start");
    assert!(!data.exists(), "nothing was written");
    error
}

/// Goal: a node does not start with what its peers would refuse, and says which file is wrong.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_starts_with_its_own_certificate_only() {
    let mut cluster = Cluster::start_secured(RIGHTS).await;
    cluster.stop_node("n1").await.expect("a clean end");
    let other = tempfile::tempdir().expect("a folder");
    let text = cluster.topology.text();
    let id = cluster.topology.cluster_id().to_string();
    let elsewhere = Topology::parse(&text.replace(&id, &"7".repeat(32))).expect("another cluster");
    write_certificates(other.path(), &elsewhere, &[]);
    let error = start(&cluster, "n1", other.path()).await;
    assert_eq!(error.code, Code::CertificateInvalid, "{error}");
    assert!(error.message.contains("node-n1.crt is of quorate://7777"), "{error}");

    let mixed = tempfile::tempdir().expect("a folder");
    write_certificates(mixed.path(), &cluster.topology, &[]);
    for end in ["crt", "key"] {
        let file = |name: &str| mixed.path().join(format!("node-{name}.{end}"));
        std::fs::copy(file("n2"), file("n1")).expect("copied");
    }
    let error = start(&cluster, "n1", mixed.path()).await;
    assert_eq!(error.code, Code::CertificateInvalid, "{error}");
    std::fs::write(cluster.certs().join("rights.toml"), "[[client]]\nname = 1").expect("written");
    let error = start(&cluster, "n1", &cluster.certs()).await;
    assert_eq!(error.code, Code::ConfigInvalid, "{error}");
    std::fs::remove_file(cluster.certs().join("rights.toml")).expect("removed");
    let error = start(&cluster, "n1", &cluster.certs()).await;
    assert!(error.message.contains("rights.toml cannot be read"), "{error}");
}

async fn ask(address: &str, tls: &Tls, path: &str) -> String {
    let connection = TcpStream::connect(address).await.expect("a connection");
    let calling = tls.connect(connection, address, Expected::AnyNode, FirstWord::Caller);
    let mut stream = calling.await.expect("TLS");
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("it writes");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("it reads");
    answer
}

/// Goal: the admin port speaks TLS, and tells its metrics to members with rights.
#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_for_members() {
    let cluster = Cluster::start_secured(RIGHTS).await;
    let admin = &cluster.topology.node(NodeId(1)).expect("known").admin;
    let metrics = ask(admin, &cluster.tls("ops"), "/metrics").await;
    assert!(metrics.contains("quorate_certificate_left_seconds 31"), "{metrics}");
    assert!(ask(admin, &cluster.tls("ops"), "/livez").await.ends_with("ok\n"));
    let refused = ask(admin, &cluster.tls("stranger"), "/metrics").await;
    assert!(refused.starts_with("HTTP/1.1 403"), "{refused}");
    assert!(ask(admin, &cluster.tls("stranger"), "/livez").await.starts_with("HTTP/1.1 200"));
}

/// Goal: certificates, and the authority itself, are replaced while the cluster serves.
#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_replaced_while_nodes_run() {
    let mut cluster = Cluster::start_secured(RIGHTS).await;
    let folder = Folder::new(&cluster.certs());
    let client = cluster.client().await;
    client.put("load", ANN, "k", 1_i64).await.expect("put");
    folder.rotate_authority(YEAR).expect("another authority");
    for name in cluster.names() {
        folder.rotate(&Paths::of_node(&cluster.certs(), &name), YEAR).expect("rotated");
    }
    let root = Paths::of_client(&cluster.certs(), &common::ROOT.parse().expect("a name"));
    folder.rotate(&root, YEAR).expect("rotated");
    assert_eq!(folder.forget_old_authorities(), Ok(1));
    // Every node has seen the new files once somebody who trusts the new authority alone gets in there.
    let newest = within(async || {
        let tls = Tls::open(root.clone()).ok()?;
        let client = Client::builder(cluster.endpoints()).tls(tls).build().await.ok()?;
        let reports = client.cluster_status().await;
        reports.iter().all(|report| report.status.is_ok()).then_some(client)
    })
    .await;
    newest.put("load", ANN, "k", 2_i64).await.expect("put");
    // Streams between nodes are made anew too: a node that starts again finds its peers.
    for name in cluster.names() {
        cluster.stop_node(&name).await.expect("a clean end");
        cluster.start_node(&name);
        let node = cluster.topology.node_by_name(&name).expect("known").id;
        within(async || {
            let reports = newest.cluster_status().await;
            let caught_up = reports.into_iter().filter_map(|r| r.status.ok()).all(|status| {
                status.groups.iter().all(|g| {
                    g.members.iter().all(|m| m.node != node || m.slot_synced >= g.slot_committed)
                })
            });
            caught_up.then_some(())
        })
        .await;
    }
    let found = within(async || client.get("load", ANN, "k").await.ok()).await;
    assert_eq!(found, Some(Value::Integer(2)), "the first client found its way with the new files");
}

/// Goal: a backup copies whole units and keeps views for hours: it takes the right to read and the right to
/// administer, and neither alone is enough.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_takes_two_rights() {
    let client = |name: &str, rights: &str| format!("[[client]]\nname = \"{name}\"\n{rights}\n");
    let rights = [
        client("reader", "read = [\"*\"]"),
        client("ops", "admin = [\"*\"]"),
        client("keeper", "read = [\"*\"]\nadmin = [\"*\"]"),
    ];
    let cluster = Cluster::start_secured(&rights.concat()).await;
    let root = cluster.client().await;
    root.put("load", ANN, "k", "root").await.expect("root may");
    let ops = cluster.client_of(cluster.tls("ops")).await;
    assert_eq!(ops.cut().await.expect_err("refused").code(), Code::PermissionDenied);
    let reader = cluster.client_of(cluster.tls("reader")).await;
    let cut = within(async || reader.cut().await.ok()).await;
    let group = cut.groups()[0];
    assert_eq!(refused(cut.records(group, None).await), Code::PermissionDenied);
    assert_eq!(refused(cut.hold().await), Code::PermissionDenied);
    let keeper = cluster.client_of(cluster.tls("keeper")).await;
    let cut = within(async || keeper.cut().await.ok()).await;
    cut.hold().await.expect("it may both");
    let page = cut.records(group, None).await.expect("it may both");
    let end = cut.records(group, page.next).await.expect("it may both");
    assert_eq!((end.next, end.records.len()), (None, 0));
    assert!(!page.records.is_empty() && page.upto == end.upto);
}
