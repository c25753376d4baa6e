"""Writes a row and reads it back, with nothing but gRPC and proto/: put.py UID KEY TEXT.

Where, and as whom, say QUORATE_ENDPOINTS and QUORATE_TLS_DIR, as for the command line; the certificate is that of
the client `me`. Start it with the Python that interop/python.sh prints.
"""

import os
import pathlib
import sys
import tempfile

import grpc

from harness import generate

SECONDS = 5


def channel(address):
    """In TLS if there are certificates."""
    folder = os.environ.get("QUORATE_TLS_DIR")
    if not folder:
        return grpc.insecure_channel(address)
    read = lambda name: (pathlib.Path(folder) / name).read_bytes()
    return grpc.secure_channel(
        address, grpc.ssl_channel_credentials(read("ca.crt"), read("client-me.key"), read("client-me.crt")))


def at_the_leader(addresses, call):
    """Asks one node after the other: all but one answer NOT_LEADER. What is lost is not sent again."""
    for address in addresses:
        with channel(address) as open_channel:
            try:
                return call(open_channel)
            except grpc.RpcError as error:
                code = dict(error.trailing_metadata() or ()).get("quorate-code")
                # One that cannot be reached has seen nothing; after any other loss nobody knows.
                unreached = code is None and "failed to connect" in (error.details() or "")
                if code != "NOT_LEADER" and not unreached:
                    raise SystemExit(f"{address}: {code or error.code().name}: {error.details()}") from None
    raise SystemExit("no node leads the group of this user at the moment")


def main():
    if len(sys.argv) != 4:
        raise SystemExit(__doc__)
    uid, key, text = int(sys.argv[1]), sys.argv[2].encode(), sys.argv[3].encode()
    addresses = os.environ.get("QUORATE_ENDPOINTS", "127.0.0.1:6440").split(",")
    with tempfile.TemporaryDirectory() as folder:
        generate(folder)
        from quorate.v1 import common_pb2, kv_pb2, kv_pb2_grpc
        row = {"table": "purchases", "uid": uid, "key": key}
        put = kv_pb2.PutRequest(**row, value=common_pb2.Value(data=text))
        written = at_the_leader(addresses, lambda at: kv_pb2_grpc.KvStub(at).Put(put, timeout=SECONDS))
        print(f"durable on a majority, at slot {written.header.at.slot}")
        get = kv_pb2.GetRequest(**row)
        read = at_the_leader(addresses, lambda at: kv_pb2_grpc.KvStub(at).Get(get, timeout=SECONDS))
        print(read.value.data.decode())


if __name__ == "__main__":
    main()
