"""The same wire in TLS: gRPC of another language compares names of hosts and insists on HTTP/2."""

import subprocess

import grpc

from harness import CALL_SECONDS, Cluster, expect


def check(binary, folder, base_port):
    """A writer writes, a reader is refused, and nobody gets in."""
    from quorate.v1 import common_pb2, kv_pb2, kv_pb2_grpc
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
