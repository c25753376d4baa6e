#!/usr/bin/env python3
"""How speed changes with callers, values, groups, rows and log length: the curves of docs/PERFORMANCE.md.

    scripts/curves.py ~/.cache/quorate/target/release/quorate                     # all of them, about 15 minutes
    scripts/curves.py ~/.cache/quorate/target/release/quorate callers values      # some of them
    scripts/curves.py --rows 20000000 ~/.cache/quorate/target/release/quorate rows

Prints Markdown with a Mermaid chart for each. Let nothing else run meanwhile; compare figures of one
machine and one run only.
"""

import argparse
import contextlib
import json
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request

SECONDS = 4
NODES = ["n1", "n2", "n3"]
CLIENT_PORTS = [6440, 6450, 6460]
ADMIN_PORTS = [6480, 6490, 6500]


class Curves:
    def __init__(self, quorate, rows_max):
        self.quorate = quorate
        self.rows_max = rows_max

    def bench(self, *arguments, seconds=SECONDS):
        """The report of one `quorate bench` on a cluster of its own."""
        command = [self.quorate, "bench", *map(str, arguments), "--seconds", str(seconds)]
        return report_of(subprocess.Popen([*command, "-o", "json"], stdout=subprocess.PIPE))

    def callers(self):
        rows = []
        for callers in (1, 4, 16, 64, 256, 1000, 4000, 10000):
            put = self.bench("put", "--callers", callers)
            get = self.bench("get", "--callers", callers)
            cost = put["cost"]
            rows.append([callers, *latencies(put), round(cost["server_cpu_us"], 1),
                         f"1/{1 / cost['syncs_per_node']:.0f}", *latencies(get)])
        head = ["callers", "puts/s", "p50 ms", "p99 ms", "CPU us", "syncs/op", "gets/s", "p50 ms",
                "p99 ms"]
        table("Callers", head, rows)
        chart("Operations a second by callers", "callers", rows, {"puts": 1, "gets": 6})

    def values(self):
        rows = []
        for size in (16, 256, 1024, 4096, 16384, 65536, 262144):
            # No more than 2 GB of rows.
            keys = min(100_000, 2_000_000_000 // size)
            put = self.bench("put", "--value-bytes", size, "--keys", keys)
            megabytes = put["ops_per_second"] * size / 1e6
            cpu = round(put["cost"]["server_cpu_us"], 1)
            rows.append([size, *latencies(put), round(megabytes, 1), cpu])
        head = ["value bytes", "puts/s", "p50 ms", "p99 ms", "MB/s", "CPU us"]
        table("Sizes of values (256 callers)", head, rows)
        chart("Megabytes of values a second by size", "bytes", rows, {"MB/s": 4})

    def groups(self):
        rows = []
        for each in (1, 5, 25, 125, 250):
            idle = self.bench("idle", "--groups-per-unit", each, seconds=6)
            put = self.bench("put", "--groups-per-unit", each, "--callers", 1000)
            rows.append([idle["groups"], round(idle["cpu_cores_per_node"] * 100, 2),
                         round(idle["peer_frames_per_second"]), *latencies(put)])
        head = ["groups", "idle: % of a core a node", "idle: frames/s, all", "puts/s, 1,000 callers",
                "p50 ms", "p99 ms"]
        table("Groups on each node", head, rows)
        chart("CPU of an idle node by groups", "groups", rows, {"% of a core": 1})

    def rows(self):
        rows = []
        for count in (100_000, 1_000_000, 5_000_000, 20_000_000):
            if self.rows_max < count:
                break
            get = self.bench("get", "--keys", count)
            rows.append([count, *latencies(get), round(get["cost"]["server_cpu_us"], 1)])
        table("Rows (gets, 256 callers)", ["rows", "gets/s", "p50 ms", "p99 ms", "CPU us"], rows)
        chart("Gets a second by rows", "rows", rows, {"gets": 1})

    def restart(self):
        rows = []
        for mebibytes in (0, 32, 64, 128, 224):
            rows.append([mebibytes, *self.restart_after(mebibytes)])
        head = ["MiB written since the start", "log of node n1 MiB", "ready after s"]
        table("Start of a killed node by its log", head, rows)
        chart("Seconds until a killed node is ready", "MiB", rows, {"s": 2})

    def restart_after(self, mebibytes):
        """Kills all nodes after so much was written, and times the next start."""
        with Cluster(self) as cluster:
            if mebibytes:
                # A put of 1 KiB takes about 1,060 bytes of log.
                rate, seconds = 10_000, max(1, round(mebibytes * 2**20 / 1060 / 10_000))
                cluster.bench("put", "--value-bytes", 1024, "--rate", rate, "--callers", 2000,
                              "--warm-up", "1ms", seconds=seconds)
            cluster.kill()
            log = sum(file.stat().st_size for file in (cluster.folder / "n1" / "log").rglob("*"))
            began = time.monotonic()
            cluster.start()
            return [round(log / 2**20), round(time.monotonic() - began, 2)]

    def overload(self):
        """Values of 4 KiB from three clients: what comes through when more is asked than fits."""
        rows = []
        with Cluster(self) as cluster:
            size = ["put", "--value-bytes", 4096, "--keys", 20_000]
            closed = cluster.bench_together([[*size, "--callers", 333]] * 3)
            capacity = sum(report["ops_per_second"] for report in closed)
            rows.append(["closed loop, 999 callers", "-", round(capacity), 0, "-", cluster.memory()])
            for factor in (0.5, 1, 2, 10):
                rate = ["--rate", round(capacity * factor / 3), "--callers", 20_000]
                reports = cluster.bench_together([[*size, *rate]] * 3)
                through = sum(report["ops_per_second"] for report in reports)
                failed = sum(report["errors"] for report in reports)
                codes = {each["code"] for report in reports for each in report["failed"]}
                rows.append([f"{factor} x", round(capacity * factor), round(through), failed,
                             ", ".join(sorted(codes)) or "-", cluster.memory()])
        head = ["offered", "puts/s offered", "puts/s done", "failed", "with", "MiB of the largest node"]
        table("Overload (4 KiB, three clients, open loop)", head, rows)

    def neighbours(self):
        """A follower that runs half of the time, and a unit that is asked for more than it can do."""
        rows = []
        with Cluster(self) as cluster:
            # Whoever was away leads nothing when he comes back.
            cluster.kill(NODES[2])
            time.sleep(3)
            cluster.start()
            time.sleep(3)
            load = ["put", "--callers", 256]
            rows.append(["nobody is slow", *latencies(cluster.bench(*load))])
            with cluster.half_asleep(NODES[2]):
                slow = cluster.bench(*load)
            rows.append(["a follower stands still half of the time", *latencies(slow)])
            time.sleep(3)
            # 25 users from 75 on live in the last RZone, those from 0 on in the first.
            calm = ["put", "--keys", 25, "--first-user", 75, "--rate", 1000, "--callers", 100]
            rows.append(["1,000 puts/s on RZ03 alone", *latencies(cluster.bench(*calm))])
            hot = ["put", "--keys", 25, "--callers", 4000]
            others, its_own = cluster.bench_together([calm, hot])
            rows.append(["the same while RZ00 has 4,000 callers", *latencies(others)])
            rows.append(["those 4,000 callers", *latencies(its_own)])
        table("Slow followers and hot units", ["", "puts/s", "p50 ms", "p99 ms"], rows)


class Cluster:
    """Three nodes that can be killed, put to sleep and looked into."""

    def __init__(self, curves):
        self.quorate = curves.quorate
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="quorate-curves-"))
        curves.bench("idle", "--dir", self.folder, seconds=1)
        self.nodes = {}

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.kill()
        shutil.rmtree(self.folder)

    def start(self):
        """Starts what does not run, and waits until all are ready."""
        for name in set(NODES) - set(self.nodes):
            command = [self.quorate, "server", "--cluster", self.folder / "cluster.toml"]
            command += ["--node", name, "--data", self.folder / name, "--threads", "1", "--insecure"]
            quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            self.nodes[name] = subprocess.Popen(command, **quiet)
        for port in ADMIN_PORTS:
            wait_until_ready(port)

    def kill(self, *names):
        for name in names or list(self.nodes):
            self.nodes[name].kill()
            self.nodes.pop(name).wait()

    @contextlib.contextmanager
    def half_asleep(self, name):
        """A node that stands still for 100 ms of every 200."""
        over = threading.Event()

        def doze():
            while not over.wait(0.1):
                self.nodes[name].send_signal(signal.SIGSTOP)
                time.sleep(0.1)
                self.nodes[name].send_signal(signal.SIGCONT)

        thread = threading.Thread(target=doze)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def bench(self, *arguments, seconds=SECONDS):
        return self.bench_together([arguments], seconds)[0]

    def bench_together(self, loads, seconds=SECONDS):
        """The reports of several loads at the same time."""
        ends = ["--table", "load", "--seconds", str(seconds), "-o", "json"]
        ends += ["--endpoints", ",".join(f"127.0.0.1:{port}" for port in CLIENT_PORTS)]
        running = [
            subprocess.Popen([self.quorate, "bench", *map(str, load), *ends], stdout=subprocess.PIPE)
            for load in loads
        ]
        return [report_of(each) for each in running]

    def memory(self):
        """MiB of the node that takes most."""
        most = 0
        for port in ADMIN_PORTS:
            text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()
            found = re.search(r"^quorate_process_resident_bytes (\S+)$", text, re.MULTILINE)
            most = max(most, float(found.group(1)))
        return round(most / 2**20)


def report_of(bench):
    """What a bench that runs comes to; its own words went to stderr if that is nothing."""
    items = json.loads(bench.communicate()[0] or "{}").get("items")
    if not items:
        raise SystemExit(f"{' '.join(map(str, bench.args))} ended with {bench.returncode}")
    return items[0]


def wait_until_ready(port):
    for _ in range(6000):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1).read()
            return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.01)
    raise SystemExit(f"the node at port {port} is not ready after a minute")


def latencies(report):
    times = report["latency_us"]
    milliseconds = [round(times[name] / 1000, 2) for name in ("p50", "p99")]
    return [round(report["ops_per_second"]), *milliseconds]


def table(title, head, rows):
    print(f"\n### {title}\n")
    print("| " + " | ".join(head) + " |")
    print("|" + "---:|" * len(head))
    for row in rows:
        shown = (f"{cell:,}" if isinstance(cell, (int, float)) else cell for cell in row)
        print("| " + " | ".join(shown) + " |", flush=True)


def chart(title, x, rows, lines):
    print(f"\n```mermaid\nxychart-beta\n  title \"{title}\"")
    print(f"  x-axis \"{x}\" [{', '.join(str(row[0]) for row in rows)}]")
    for name, column in lines.items():
        print(f"  line \"{name}\" [{', '.join(str(row[column]) for row in rows)}]")
    print("```", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("quorate", help="the program")
    every = ["callers", "values", "groups", "rows", "restart", "overload", "neighbours"]
    parser.add_argument("curves", nargs="*", default=every, help=f"some of {', '.join(every)}")
    parser.add_argument("--rows", type=int, default=5_000_000, help="at most so many rows")
    options = parser.parse_args()
    curves = Curves(options.quorate, options.rows)
    for name in options.curves or every:
        getattr(curves, name)()


if __name__ == "__main__":
    main()
