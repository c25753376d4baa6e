"""A client that knows only proto/: starts three servers, uses every unary call, checks every answer.

Run by interop/run.sh. Exit code 0 if everything was as proto/ says. The servers and the client are in
harness.py, what spans units is in units.py, the same in TLS in secured.py.
"""

import argparse
import os
import pathlib
import shutil
import sys
import tempfile
import tomllib

import grpc

import secured
import units
from harness import CALL_SECONDS, Client, Cluster, checks, data, expect, generate, refused


def topology(cluster):
    """The cluster file travels as it is, and knows its version."""
    from quorate.v1 import topology_pb2, topology_pb2_grpc
    for address in cluster.addresses.values():
        stub = topology_pb2_grpc.TopologyStub(grpc.insecure_channel(address))
        answer = stub.GetTopology(topology_pb2.GetTopologyRequest(), timeout=CALL_SECONDS)
        expect("the cluster file", tomllib.loads(answer.toml), tomllib.loads(cluster.text))
        expect("its version", answer.version, 1)
        expect("the cluster id", answer.cluster_id, tomllib.loads(cluster.text)["cluster"]["id"])
        known = stub.GetTopology(topology_pb2.GetTopologyRequest(known_version=1), timeout=CALL_SECONDS)
        expect("the file for one who has it", known.toml, "")


def leaders(cluster):
    """Every node tells its status; returns the leader of each group."""
    from quorate.v1 import admin_pb2, admin_pb2_grpc
    found = {}
    for node, address in cluster.addresses.items():
        stub = admin_pb2_grpc.AdminStub(grpc.insecure_channel(address))
        status = stub.GetNodeStatus(admin_pb2.GetNodeStatusRequest(), timeout=CALL_SECONDS)
        expect("the node's number", status.node_id, node)
        expect("the node is ready", status.ready, True)
        expect("its groups", [group.group for group in status.groups], [1, 2])
        for group in status.groups:
            if group.role == admin_pb2.ROLE_LEADER and group.serving:
                found[group.group] = address
    expect("groups with a leader", sorted(found), [1, 2])
    return found


def rows(client, uid):
    """Put, get, delete, compare-and-set."""
    from quorate.v1 import kv_pb2
    where = {"table": "purchases", "uid": uid, "key": b"1998-01-01/1"}
    before = client.call("Get", kv_pb2.GetRequest(**where))
    expect("a row that does not exist", before.HasField("value"), False)
    put = client.call("Put", kv_pb2.PutRequest(**where, value=data("1 disc")))
    got = client.call("Get", kv_pb2.GetRequest(**where))
    expect("the row after a put", got.value.data, b"1 disc")
    expect("a read stands at or after the write", put.header.at.slot <= got.header.at.slot, True)

    swap = kv_pb2.CompareAndSetRequest(**where, expected=data("1 disc"), new=data("2 discs"))
    client.call("CompareAndSet", swap)
    expect("the row after a swap", client.call("Get", kv_pb2.GetRequest(**where)).value.data, b"2 discs")
    detail = refused(client, "CompareAndSet", swap, "CONDITION_FAILED")
    expect("a refusal says what to do", detail.fix != "" and detail.message != "", True)
    expect("its number", detail.number, 2001)
    expect("the row after a refused swap", client.call("Get", kv_pb2.GetRequest(**where)).value.data, b"2 discs")

    client.call("Delete", kv_pb2.DeleteRequest(**where))
    expect("a deleted row", client.call("Get", kv_pb2.GetRequest(**where)).HasField("value"), False)
    client.call("Delete", kv_pb2.DeleteRequest(**where))
    create = kv_pb2.CompareAndSetRequest(**where, new=data("new"))
    client.call("CompareAndSet", create)
    refused(client, "CompareAndSet", create, "CONDITION_FAILED")


def scans(client, uid):
    """Pages come in order of key and end."""
    from quorate.v1 import kv_pb2
    keys = [f"page/{index:03}".encode() for index in range(25)]
    for key in keys:
        client.call("Put", kv_pb2.PutRequest(table="purchases", uid=uid, key=key, value=data(key.decode())))
    found, after, pages = [], None, 0
    while True:
        request = kv_pb2.ScanRequest(table="purchases", uid=uid, prefix=b"page/", limit=10, after=after)
        page = client.call("Scan", request)
        pages += 1
        expect("a page keeps its limit", len(page.rows) <= 10, True)
        found += [(row.uid, row.key, row.value.data) for row in page.rows]
        if not page.HasField("next"):
            break
        after = page.next
    expect("the rows of all pages", found, [(uid, key, key) for key in keys])
    expect("there were several pages", 3 <= pages, True)


def transactions(client, uid):
    """Guarded adds count, and a guard that would break leaves everything alone."""
    from quorate.v1 import common_pb2, kv_pb2
    at = common_pb2.RowAddress(table="purchases", uid=uid, key=b"points")
    other = common_pb2.RowAddress(table="purchases", uid=uid, key=b"note")

    def add(delta):
        mutations = [kv_pb2.Mutation(add=kv_pb2.AddMutation(at=at, delta=delta, floor=0)),
                     kv_pb2.Mutation(put=kv_pb2.PutMutation(at=other, value=data(str(delta))))]
        return kv_pb2.TransactRequest(transaction=kv_pb2.Transaction(mutations=mutations, reads=[at]))

    first = client.call("Transact", add(100)).committed
    expect("the sum", list(first.sums), [100])
    expect("the row before the first add", first.reads[0].HasField("value"), False)
    second = client.call("Transact", add(-30)).committed
    expect("the sum", list(second.sums), [70])
    expect("the row before the second add", second.reads[0].value.integer, 100)
    refused(client, "Transact", add(-71), "GUARD_FAILED")
    where = {"table": "purchases", "uid": uid}
    expect("the note of the refused one", client.call("Get", kv_pb2.GetRequest(**where, key=b"note")).value.data, b"-30")
    on_bytes = kv_pb2.Mutation(add=kv_pb2.AddMutation(at=other, delta=1))
    request = kv_pb2.TransactRequest(transaction=kv_pb2.Transaction(mutations=[on_bytes]))
    refused(client, "Transact", request, "NOT_AN_INTEGER")


def money(client, uid):
    """Accounts and transfers: each transfer takes effect once, reserved money is not spent twice."""
    from quorate.v1 import bank_pb2, money_pb2
    source, target = (money_pb2.AccountAddress(uid=uid, ledger=840, code=code) for code in (1, 2))

    def create(at, **settings):
        account = money_pb2.NewAccount(address=at, settings=money_pb2.AccountSettings(**settings))
        return client.call("CreateAccount", bank_pb2.CreateAccountRequest(account=account))

    expect("a new account", create(source, no_floor=True).header.replayed, False)
    expect("the same account again", create(source, no_floor=True).header.replayed, True)
    create(target, history=True)
    other = bank_pb2.CreateAccountRequest(account=money_pb2.NewAccount(address=target))
    refused(client, "CreateAccount", other, "ACCOUNT_EXISTS")

    def move(number, debit, credit, amount, kind=money_pb2.TRANSFER_KIND_POST, **more):
        return money_pb2.Transfer(id=number.to_bytes(16, "big"), kind=kind, debit=debit, credit=credit, amount=amount, **more)

    def carry_out(*transfers):
        answer = client.call("CreateTransfers", bank_pb2.CreateTransfersRequest(transfers=transfers))
        return [(result.verdict, result.amount) for result in answer.results]

    created, again = money_pb2.TRANSFER_VERDICT_CREATED, money_pb2.TRANSFER_VERDICT_ALREADY_APPLIED
    fund = move(1, source, target, 100)
    hold = move(2, target, source, 60, kind=money_pb2.TRANSFER_KIND_PENDING)
    spend = move(3, target, source, 41)
    floor = money_pb2.TRANSFER_VERDICT_FLOOR_REACHED
    expect("a batch", carry_out(fund, fund, hold, spend), [(created, 100), (again, 100), (created, 60), (floor, 0)])
    post = move(4, target, source, 0, kind=money_pb2.TRANSFER_KIND_POST_PENDING, pending_id=hold.id)
    expect("a post of what is reserved", carry_out(post), [(created, 60)])
    account = client.call("GetAccount", bank_pb2.GetAccountRequest(address=target)).account
    expect("balance and what is reserved", (account.balance, account.reserved), (40, 0))
    name = money_pb2.TransferName(debit_uid=uid, id=hold.id)
    found = client.call("GetTransfer", bank_pb2.GetTransferRequest(name=name)).transfer
    expect("the hold was posted", (found.hold.posted.amount, found.hold.posted.by), (60, post.id))
    pages = bank_pb2.AccountHistoryRequest(range=money_pb2.HistoryRange(account=target))
    entries = client.call("AccountHistory", pages).page.entries
    expect("the history", [(entry.delta, entry.balance) for entry in entries], [(100, 100), (-60, 40)])
    broken = bank_pb2.CreateTransfersRequest(transfers=[money_pb2.Transfer(id=b"short")])
    detail = refused(client, "CreateTransfers", broken, "INVALID_REQUEST")
    expect("the field that is wrong", detail.facts["field"], "transfers[0].kind")


def sessions(client, uid):
    """The same request id takes effect once, however often it is sent."""
    from quorate.v1 import common_pb2, kv_pb2
    session = client.call("OpenSession", kv_pb2.OpenSessionRequest(table="purchases", uid=uid)).session
    at = common_pb2.RowAddress(table="purchases", uid=uid, key=b"visits")

    def visit(sequence, lowest):
        request_id = common_pb2.RequestId(session=session, sequence=sequence, lowest_unanswered=lowest)
        mutation = kv_pb2.Mutation(add=kv_pb2.AddMutation(at=at, delta=1))
        return kv_pb2.TransactRequest(context=kv_pb2.RequestContext(request_id=request_id),
                                      transaction=kv_pb2.Transaction(mutations=[mutation]))

    first = client.call("Transact", visit(1, 1))
    expect("the first answer is not a replay", first.header.replayed, False)
    again = client.call("Transact", visit(1, 1))
    expect("the second answer is a replay", again.header.replayed, True)
    expect("of the same sum", list(again.committed.sums), list(first.committed.sums))
    expect("the next request counts on", list(client.call("Transact", visit(2, 2)).committed.sums), [2])
    refused(client, "Transact", visit(1, 1), "SEQUENCE_REUSED")
    client.call("CloseSession", kv_pb2.CloseSessionRequest(session=session))
    refused(client, "Transact", visit(3, 2), "SESSION_EXPIRED")


def errors(client, uid):
    """What is wrong is named."""
    from quorate.v1 import kv_pb2
    refused(client, "Get", kv_pb2.GetRequest(table="no-such", uid=uid, key=b"k"), "UNKNOWN_TABLE")
    refused(client, "Get", kv_pb2.GetRequest(table="purchases", uid=uid, key=b"k" * 1025), "KEY_TOO_LARGE")
    refused(client, "Put", kv_pb2.PutRequest(table="purchases", uid=uid, key=b"k"), "INVALID_REQUEST")
    other = kv_pb2.RequestContext(cluster_id="f" * 32)
    refused(client, "Get", kv_pb2.GetRequest(context=other, table="purchases", uid=uid, key=b"k"), "CLUSTER_MISMATCH")
    # UID 7 is in slice 07, which belongs to group 1.
    wrong = kv_pb2.RequestContext(group=2)
    refused(client, "Get", kv_pb2.GetRequest(context=wrong, table="purchases", uid=uid, key=b"k"), "WRONG_UNIT")


def followers(client, found, cluster):
    """A follower names the leader, and the named one answers."""
    from quorate.v1 import kv_pb2
    request = kv_pb2.GetRequest(table="purchases", uid=7, key=b"k")
    for address in cluster.addresses.values():
        if address != found[1]:
            detail = refused(client, "Get", request, "NOT_LEADER", at=address)
            expect("the leader it names", detail.facts["leader_address"], found[1])
    lost = Client(a for a in cluster.addresses.values() if a != found[1])
    lost.call("Put", kv_pb2.PutRequest(table="purchases", uid=7, key=b"via", value=data("a hint")))
    expect("a hint was followed", (lost.leader, 1 <= lost.hops), (found[1], True))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quorate", required=True, help="the binary")
    parser.add_argument("--base-port", type=int, default=int(os.environ.get("BASE_PORT", "16440")))
    arguments = parser.parse_args()

    folder = pathlib.Path(tempfile.mkdtemp(prefix="quorate-interop."))
    (folder / "generated").mkdir()
    generate(folder / "generated")
    cluster = Cluster(str(pathlib.Path(arguments.quorate).resolve()), folder, arguments.base_port)
    good = False
    try:
        cluster.start()
        cluster.wait()
        topology(cluster)
        found = leaders(cluster)
        for uid, group in ((7, 1), (42, 1), (4257, 2)):
            client = Client(cluster.addresses.values())
            rows(client, uid)
            scans(client, uid)
            transactions(client, uid)
            money(client, uid)
            sessions(client, uid)
            expect(f"uid {uid} is led by", client.leader or client.addresses[0], found[group])
        clients = {group: Client([leader, *cluster.addresses.values()]) for group, leader in found.items()}
        units.far_transactions(clients)
        units.far_money(clients)
        units.cut(clients)
        errors(Client([found[1], *cluster.addresses.values()]), 7)
        followers(Client(cluster.addresses.values()), found, cluster)
        good = True
    finally:
        wrong = cluster.stop()
        if good and not wrong:
            shutil.rmtree(folder)
        else:
            print(f"logs are in {folder}", file=sys.stderr)
    if wrong:
        raise SystemExit("; ".join(wrong))
    with tempfile.TemporaryDirectory(prefix="quorate-interop.") as again:
        secured.check(cluster.binary, pathlib.Path(again), arguments.base_port)
    print(f"interop: {len(checks)} passed, 0 failed")


if __name__ == "__main__":
    main()
