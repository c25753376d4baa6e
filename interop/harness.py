"""What the checks stand on: three servers, a client made from proto/ alone, and the count of what held."""

import pathlib
import signal
import socket
import subprocess
import sys
import time

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
        from quorate.v1 import bank_pb2_grpc, cut_pb2_grpc, kv_pb2_grpc
        if address not in self.stubs:
            channel = self.channels[address] = grpc.insecure_channel(address)
            self.stubs[address] = [kv_pb2_grpc.KvStub(channel), bank_pb2_grpc.BankStub(channel),
                                   cut_pb2_grpc.CutsStub(channel)]
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


checks = []


def expect(what, found, wanted):
    """Counts a check; ends the run if it fails."""
    checks.append(what)
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
