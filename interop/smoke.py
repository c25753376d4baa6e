"""A client that knows only proto/: starts three servers, uses every unary call, checks every answer.

Run by interop/run.sh. Exit code 0 if everything was as proto/ says.
"""

import argparse
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import tomllib

import grpc
from grpc_tools import protoc

ROOT = pathlib.Path(__file__).resolve().parent.parent
START_SECONDS = 60
STOP_SECONDS = 30
CALL_SECONDS = 10
HOPS_MAX = 5

CLUSTER = """\
[cluster]
name = "interop"
id = "1b7e5f3a8c2d4e6f9a0b1c2d3e4f5a6b"
lease = "lan"

[[city]]
name = "sh"
{places}
[[table]]
id = 1
name = "purchases"
class = "unit"

[[unit]]
name = "RZ00"
kind = "rzone"
slices = "00-49"

[[unit]]
name = "RZ01"
kind = "rzone"
slices = "50-99"

[[group]]
id = 1
unit = "RZ00"
locality = "F@sh-a,F@sh-b,F@sh-c"
leader-order = "sh-a;sh-b,sh-c"

[[group]]
id = 2
unit = "RZ01"
locality = "F@sh-a,F@sh-b,F@sh-c"
leader-order = "sh-b;sh-a,sh-c"
"""

PLACE = """
[[idc]]
name = "sh-{letter}"
city = "sh"

[[node]]
id = {node}
zone = "sh-{letter}"
client = "127.0.0.1:{client}"
peer = "127.0.0.1:{peer}"
admin = "127.0.0.1:{admin}"
"""


def generate(folder):
    """Generates the Python code of proto/ into a folder and makes it importable."""
    files = [str(p) for p in sorted((ROOT / "proto").rglob("*.proto"))]
    code = protoc.main(["protoc", f"-I{ROOT / 'proto'}", f"--python_out={folder}", f"--grpc_python_out={folder}", *files])
    if code != 0:
        raise SystemExit("proto/ does not compile with protoc")
    sys.path.insert(0, str(folder))


class Cluster:
    """Three server processes on this machine."""

    def __init__(self, binary, folder, base_port, security=("--insecure",)):
        self.binary, self.folder, self.security = binary, folder, list(security)
        self.addresses = {node: f"127.0.0.1:{base_port + 10 * (node - 1)}" for node in (1, 2, 3)}
        places = ""
        for node, letter in ((1, "a"), (2, "b"), (3, "c")):
            port = base_port + 10 * (node - 1)
            places += PLACE.format(letter=letter, node=node, client=port, peer=port + 1, admin=port + 2)
        self.text = CLUSTER.format(places=places)
        self.file = folder / "cluster.toml"
        self.file.write_text(self.text)
        self.processes = {}

    def start(self):
        for node, address in self.addresses.items():
            for port in range(int(address.split(":")[1]), int(address.split(":")[1]) + 3):
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        raise SystemExit(f"port {port} is taken; set BASE_PORT to other ones")
            log = open(self.folder / f"n{node}.log", "wb")
            command = [self.binary, "server", "--cluster", str(self.file), "--node", f"n{node}",
                       "--data", str(self.folder / f"n{node}"), "--profile", "small", *self.security]
            self.processes[node] = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def wait(self):
        """Waits until `quorate status` says that every group serves."""
        command = [self.binary, "status", "--endpoints", ",".join(self.addresses.values())]
        if "--insecure" not in self.security:
            command += [*self.security, "--identity", "writer"]
        deadline = time.monotonic() + START_SECONDS
        while True:
            for node, process in self.processes.items():
                if process.poll() is not None:
                    raise SystemExit(f"n{node} ended with exit code {process.returncode}")
            status = subprocess.run(command, capture_output=True, text=True)
            if status.returncode == 0:
                return
            if deadline < time.monotonic():
                raise SystemExit(f"no healthy cluster within {START_SECONDS} s:\n{status.stdout}{status.stderr}")
            time.sleep(0.2)

    def stop(self):
        """Asks every process to stop; returns those that did not end well."""
        for process in self.processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        wrong = []
        for node, process in self.processes.items():
            try:
                if process.wait(STOP_SECONDS) != 0:
                    wrong.append(f"n{node} ended with exit code {process.returncode}")
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                wrong.append(f"n{node} did not stop within {STOP_SECONDS} s of SIGTERM")
        return wrong


class Failed(Exception):
    """A call was refused: its code, its number, its details and who leads."""

    def __init__(self, call, details):
        super().__init__(f"{call}: {details.code}: {details.message}")
        self.code, self.number, self.detail = details.code, details.number, details


class Client:
    """Sends each call to the node it believes to lead and follows NOT_LEADER."""

    def __init__(self, addresses):
        self.channels, self.stubs = {}, {}
        self.addresses, self.leader, self.hops = list(addresses), None, 0

    def method(self, address, name):
        from quorate.v1 import bank_pb2_grpc, kv_pb2_grpc
        if address not in self.stubs:
            channel = self.channels[address] = grpc.insecure_channel(address)
            self.stubs[address] = [kv_pb2_grpc.KvStub(channel), bank_pb2_grpc.BankStub(channel)]
        return next(getattr(stub, name) for stub in self.stubs[address] if hasattr(stub, name))

    def call(self, name, request, at=None):
        address = at or self.leader or self.addresses[0]
        for _ in range(HOPS_MAX):
            try:
                return self.method(address, name)(request, timeout=CALL_SECONDS)
            except grpc.RpcError as error:
                metadata, detail = read_error(error)
                if detail.code != "NOT_LEADER" or at is not None:
                    raise Failed(name, detail) from None
                self.hops += 1
                address = self.leader = metadata.get("quorate-leader") or self.addresses[self.hops % 3]
                time.sleep(0.05)
        raise SystemExit(f"{name} was sent on {HOPS_MAX} times and found no leader")


def read_error(error):
    """Metadata and detail of a failed call, checked against each other."""
    from quorate.v1 import error_pb2
    metadata = dict(error.trailing_metadata() or ())
    if "quorate-code" not in metadata:
        raise SystemExit(f"an error without quorate-code: {error}")
    detail = error_pb2.ErrorDetail()
    # Python's gRPC hands out the binary details of a status under this key.
    raw = metadata.get("grpc-status-details-bin", b"")
    detail.ParseFromString(raw)
    expect("the code in metadata", metadata["quorate-code"], detail.code)
    expect("the number in metadata", metadata["quorate-number"], str(detail.number))
    if "quorate-leader" in metadata:
        expect("the leader in metadata", metadata["quorate-leader"], detail.facts["leader_address"])
    return metadata, detail


checks = 0


def expect(what, found, wanted):
    """Counts a check; ends the run if it fails."""
    global checks
    checks += 1
    if found != wanted:
        raise SystemExit(f"{what}: found {found!r}, wanted {wanted!r}")


def refused(client, name, request, code, at=None):
    """The call must fail with this code. Returns the detail."""
    try:
        answer = client.call(name, request, at=at)
    except Failed as failed:
        expect(f"the code of a refused {name}", failed.code, code)
        return failed.detail
    raise SystemExit(f"{name} should have failed with {code}, answered {answer}")


def data(text):
    from quorate.v1 import common_pb2
    return common_pb2.Value(data=text.encode())


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


def secured(binary, folder, base_port):
    """The same wire in TLS: gRPC of another language compares names of hosts and insists on HTTP/2."""
    from quorate.v1 import common_pb2, kv_pb2, kv_pb2_grpc
    folder.mkdir()
    certs = folder / "certs"
    cluster = Cluster(binary, folder, base_port, ["--tls-dir", str(certs)])
    make = [binary, "cert", "--tls-dir", str(certs)]
    for arguments in (["create-ca", "--cluster", cluster.file], ["create-node", "--all", "--cluster", cluster.file],
                      ["create-client", "writer", "--write", "*"], ["create-client", "reader", "--read", "*"]):
        subprocess.run([*make, *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)
    read = lambda name: (certs / name).read_bytes()
    show = lambda name: grpc.ssl_channel_credentials(read("ca.crt"), read(f"client-{name}.key"), read(f"client-{name}.crt"))
    put = kv_pb2.PutRequest(table="purchases", uid=7, key=b"k", value=common_pb2.Value(integer=1))

    def said(credentials):
        """What a put is answered with, at whichever node leads."""
        codes = set()
        for address in cluster.addresses.values():
            with grpc.secure_channel(address, credentials) as channel:
                try:
                    kv_pb2_grpc.KvStub(channel).Put(put, timeout=CALL_SECONDS)
                    return "done"
                except grpc.RpcError as error:
                    codes.add(dict(error.trailing_metadata() or ()).get("quorate-code", error.code().name))
        return " ".join(sorted(codes - {"NOT_LEADER"}))

    try:
        cluster.start()
        cluster.wait()
        expect("a reader that writes", said(show("reader")), "PERMISSION_DENIED")
        expect("a writer", said(show("writer")), "done")
        expect("nobody", said(grpc.ssl_channel_credentials(read("ca.crt"))), "UNAVAILABLE")
    finally:
        wrong = cluster.stop()
    if wrong:
        raise SystemExit("; ".join(wrong))


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
        secured(cluster.binary, pathlib.Path(again) / "secured", arguments.base_port)
    print(f"interop: {checks} passed, 0 failed")


if __name__ == "__main__":
    main()
