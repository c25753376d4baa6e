#!/usr/bin/env python3
"""Where the time of one operation goes: perf on all processes of a `quorate bench`, by stage.

    scripts/profile.py ~/.cache/quorate/target/release/quorate put --callers 1000
    scripts/profile.py ~/.cache/quorate/target/release/quorate idle --groups-per-unit 250

Needs `perf` and the right to use it. A sample belongs to the first stage below that its stack passes
through, from the innermost idea outwards, so the shares add up to all there is. With the throughput of
the same run they become microseconds of CPU for one operation, client included.
"""

import collections
import json
import re
import subprocess
import sys
import tempfile
import time

# Name of the stage, and functions whose presence in a stack gives it the sample.
STAGES = [
    ("client: callers of the bench, calls, retries", r"bench::(drive|work|keys)|quorate_client::call"),
    ("client: stream", r"quorate_client"),
    ("store: row table", r"RowTable::apply"),
    ("leader: settle overlay and waiters, answer", r"Overlay::settle|Pending::settle|Waiters::settle"),
    ("txn: apply an entry", r"quorate_txn::apply|apply_entry"),
    ("store: checkpoint", r"CheckpointJob|write_checkpoint|rocksdb"),
    ("leader: evaluate a request", r"GroupDriver::request|GroupDriver::stage"),
    ("paxos: core", r"quorate_paxos"),
    ("log: sync", r"fdatasync|sync_data"),
    ("log: write", r"LogWriter"),
    ("log: thread", r"log_thread|LogThread"),
    ("shard: carry out, round", r"carry_out|Shard::"),
    ("edge: requests in", r"pipeline::Reader::(frame|item)"),
    ("edge: answers out", r"pipeline::"),
    ("peers: frames in and out", r"peer_service|peer_network"),
    ("wire: protobuf", r"prost"),
    ("wire: gRPC, HTTP/2, TCP", r"tonic|h2::|hyper|tcp_"),
    ("waiting and switching", r"epoll|park|schedule|futex|tokio"),
]
SECONDS_BEFORE = 5
SECONDS = 4
FREQUENCY = 1499


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    quorate, arguments = sys.argv[1], sys.argv[2:]
    length = str(SECONDS_BEFORE + SECONDS + 5)
    command = [quorate, "bench", *arguments, "--seconds", length, "-o", "json"]
    bench = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    time.sleep(SECONDS_BEFORE)
    children = subprocess.run(["pgrep", "-P", str(bench.pid)], capture_output=True, text=True)
    processes = [str(bench.pid), *children.stdout.split()]
    with tempfile.NamedTemporaryFile(suffix=".perf") as data:
        record = ["perf", "record", "-q", "-F", str(FREQUENCY), "--call-graph", "dwarf,16384"]
        record += ["-o", data.name, "-p", ",".join(processes), "--", "sleep", str(SECONDS)]
        subprocess.run(record, check=True)
        report = json.loads(bench.communicate()[0])["items"][0]
        show(shares(data.name), report)


def shares(data):
    """Samples by stage."""
    script = ["perf", "script", "-i", data, "-F", "comm,ip,sym"]
    text = subprocess.run(script, capture_output=True, text=True, check=True).stdout
    stages = [(name, re.compile(pattern)) for name, pattern in STAGES]
    counted = collections.Counter()
    for stack in text.split("\n\n"):
        if stack.count("\n") == 0:
            continue
        found = (name for name, pattern in stages if pattern.search(stack))
        counted[next(found, "everything else")] += 1
    return counted


def show(counted, report):
    """A table in Markdown."""
    total = sum(counted.values())
    spent = None
    if "cost" in report:
        cost = report["cost"]
        spent = cost["server_cpu_us"] + cost["client_cpu_us"]
        print(f"{report['ops_per_second']:.0f} operations a second, {spent:.1f} us of CPU each\n")
    print("| stage | share |" + (" us |" if spent else ""))
    print("|---|---:|" + ("---:|" if spent else ""))
    for name, count in counted.most_common():
        share = count / total
        line = f"| {name} | {share:.1%} |"
        print(line + (f" {share * spent:.1f} |" if spent else ""))


if __name__ == "__main__":
    main()
