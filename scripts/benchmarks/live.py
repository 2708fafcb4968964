"""Rows about daemons: how soon changes arrive."""

import ctypes
import os
import random
import shutil
import statistics
import struct
import subprocess
import threading
import time

from benchmarks import trees
from benchmarks.counter import Counter
from benchmarks.harness import Row, fail
from benchmarks.programs import NAMES_AND_SIZES, Lsyncd, Osync, difference, must_be_equal, timed, wait_until

LIBC = ctypes.CDLL(None, use_errno=True)
IN_CLOSE_WRITE, IN_MOVED_TO, IN_CREATE = 0x8, 0x80, 0x100
CHANGE = b"a small change"
EVENT_HEAD = struct.Struct("iIII")
# Changes whose latency is measured, and how far they lie apart.
CHANGES = 500
PAUSE_SECONDS = 0.01


class Arrivals:
    """Tells when a file has arrived in a directory, without busy waiting."""

    def __init__(self, directory):
        self.directory = directory
        self.fd = LIBC.inotify_init1(os.O_CLOEXEC)
        mask = IN_CLOSE_WRITE | IN_MOVED_TO | IN_CREATE
        if self.fd < 0 or LIBC.inotify_add_watch(self.fd, directory.encode(), mask) < 0:
            fail(f"cannot watch {directory}: {os.strerror(ctypes.get_errno())}")

    def wait_for(self, name):
        wanted = name.encode()
        while True:
            events = os.read(self.fd, 65536)
            at = 0
            while at < len(events):
                length = EVENT_HEAD.unpack_from(events, at)[3]
                at += EVENT_HEAD.size
                found = events[at : at + length].rstrip(b"\0") == wanted
                # Some make it first and write it then.
                if found and os.path.getsize(os.path.join(self.directory, name)) == len(CHANGE):
                    return
                at += length

    def close(self):
        os.close(self.fd)


def latencies(source, target, more=lambda: True):
    """Milliseconds from before a small file is written until it is on the target, sorted."""
    arrivals = Arrivals(target)
    found = []
    for number in range(CHANGES):
        name = f"change{number}"
        start = time.monotonic()
        with open(os.path.join(source, name), "wb", buffering=0) as file:
            file.write(CHANGE)
        arrivals.wait_for(name)
        found.append((time.monotonic() - start) * 1e3)
        time.sleep(PAUSE_SECONDS)
        if not more():
            break
    arrivals.close()
    return sorted(found)


def percentile(values, share):
    return values[min(int(len(values) * share), len(values) - 1)]


def rsync_bytes(*arguments):
    """What a run of rsync sends and receives."""
    *how, source, target = arguments
    run = ["rsync", *how, "--stats", source + "/", target + "/"]
    stats = subprocess.run(run, capture_output=True, check=True, env={**os.environ, "LC_ALL": "C"})
    lines = stats.stdout.decode().splitlines()
    totals = [line.split(":")[1] for line in lines if line.startswith("Total bytes")]
    return sum(int(total.replace(",", "")) for total in totals)


class Live(Row):
    """A pair of daemons, made anew for each run."""

    def clear(self):
        for path in (self.source, self.target, self.state):
            shutil.rmtree(path, ignore_errors=True)

    def begin(self, tool):
        """Starts a tool on trees that are equal."""
        os.makedirs(self.target, exist_ok=True)
        if tool == "osync":
            pair = Osync(self, self.source, self.target, self.state)
            pair.start_sink()
            pair.wait_until_equal()
            return pair
        daemon = Lsyncd(self, self.source, self.target, tool.split()[1])
        self.wait_for_equal(daemon)
        return daemon

    def wait_for_equal(self, daemon):
        if isinstance(daemon, Osync):
            daemon.flush()
        else:
            wait_until("lsyncd to be done",
                       lambda: not difference(self.source, self.target, *NAMES_AND_SIZES), pause=0.2)

    def until_equal(self, daemon, start):
        """Seconds from the start until all has arrived; ends the tool."""
        self.wait_for_equal(daemon)
        seconds = time.monotonic() - start
        if isinstance(daemon, Osync):
            must_be_equal(self.source, self.target)
        daemon.stop()
        return seconds


class Latency(Live):
    name = "latency"
    title = "one change, idle, until it is visible"
    tools = ("osync", "lsyncd direct", "lsyncd rsync")
    anchors = ("lsyncd direct", "lsyncd rsync")
    unit = "ms"

    def prepare(self):
        return f"{CHANGES} new files, {PAUSE_SECONDS * 1e3:.0f} ms apart; the figure is the 50th percentile"

    def measure(self, tool):
        self.clear()
        os.mkdir(self.source)
        daemon = self.begin(tool)
        found = latencies(self.source, self.target)
        daemon.stop()
        return percentile(found, 0.5), {"p99_ms": round(percentile(found, 0.99), 3)}


class LatencyBusy(Live):
    name = "latency-busy"
    title = "one change, while the backlog runs, until it is visible"
    unit = "ms"

    def prepare(self):
        self.files = self.options.size(300_000)
        return f"{self.files} small files are on their way; the figure is the 99th percentile"

    def measure(self, tool):
        self.clear()
        trees.small_files(os.path.join(self.source, "backlog"), self.files, max(self.files // 100, 1))
        live = os.path.join(self.source, "live")
        os.mkdir(live)
        os.mkdir(self.target)
        pair = Osync(self, self.source, self.target, self.state)
        pair.start_sink()
        arrived = os.path.join(self.target, "live")
        wait_until("the directory of the changes", lambda: os.path.isdir(arrived))
        # Whether it is over by then is asked seldom: it takes a process.
        over = threading.Event()
        watcher = threading.Thread(target=lambda: (pair.wait_until_equal(), over.set()), daemon=True)
        watcher.start()
        found = latencies(live, arrived, lambda: not over.is_set())
        watcher.join()
        pair.stop()
        figures = {"p50_ms": round(percentile(found, 0.5), 3), "changes": len(found)}
        return percentile(found, 0.99), figures


class Storm(Live):
    name = "storm"
    title = "a storm of changes, until equal"
    tools = ("osync", "lsyncd rsync")
    anchors = ("lsyncd rsync",)

    def prepare(self):
        self.files = self.options.size(20_000)
        tenth = self.files // 10
        return f"{self.files} files made, {tenth} removed, {tenth} renamed, {tenth} appended to"

    def measure(self, tool):
        self.clear()
        tenth = self.files // 10
        trees.small_files(self.source, 3 * tenth, 100)
        before = sorted(os.path.join(top, name) for top, _, names in os.walk(self.source) for name in names)
        random.Random(3).shuffle(before)
        daemon = self.begin(tool)
        start = time.monotonic()
        for number in range(self.files):
            path = os.path.join(self.source, f"d{number % 100:05}", f"new{number}")
            with open(path, "wb", buffering=0) as file:
                file.write(b"x" * (512 + number % 4096))
        for path in before[:tenth]:
            os.unlink(path)
        for path in before[tenth : 2 * tenth]:
            os.rename(path, path + " renamed")
        for path in before[2 * tenth :]:
            with open(path, "ab", buffering=0) as file:
                file.write(b"appended")
        made = time.monotonic() - start
        seconds = self.until_equal(daemon, start)
        return seconds, {"making_s": round(made, 3)}


class RenameDirectory(Live):
    name = "rename"
    title = "a directory is renamed, until equal"
    tools = ("osync", "lsyncd rsync")
    anchors = ("lsyncd rsync",)

    def prepare(self):
        self.files = self.options.size(100_000)
        return f"{self.files} small files in 100 directories below it"

    def measure(self, tool):
        self.clear()
        os.mkdir(self.source)
        trees.small_files(os.path.join(self.source, "before"), self.files, 100, sizes=(0, 512))
        daemon = self.begin(tool)
        start = time.monotonic()
        os.rename(os.path.join(self.source, "before"), os.path.join(self.source, "after"))
        seconds = self.until_equal(daemon, start)
        return seconds, {}


class CatchUp(Live):
    name = "catch-up"
    title = "changes made while the sink was away, until equal"
    tools = ("osync", "rsync -a")
    anchors = ("rsync -a",)

    def prepare(self):
        self.files = self.options.size(100_000)
        return f"{self.files} of {2 * self.files} small files written anew"

    def measure(self, tool):
        self.clear()
        trees.small_files(self.source, 2 * self.files, max(self.files // 50, 1))
        pair = self.begin("osync")
        pair.sink.stop()
        if tool != "osync":
            pair.stop()
        for number in range(0, 2 * self.files, 2):
            path = os.path.join(self.source, f"d{number % max(self.files // 50, 1):05}", f"f{number:07}")
            with open(path, "wb", buffering=0) as file:
                file.write(b"y" * (512 + number % 4096))
        if tool == "osync":
            start = time.monotonic()
            pair.start_sink()
            pair.wait_until_equal()
            seconds = time.monotonic() - start
            pair.stop()
        else:
            command = ["rsync", "-a", "--delete", self.source + "/", self.target + "/"]
            seconds = timed(command, os.path.join(self.place, "log"))[0]
        if tool == "osync":
            must_be_equal(self.source, self.target)
        return seconds, {}


class Append(Live):
    name = "append"
    title = "1 MiB is appended to a large file: bytes on the wire, both ways together"
    tools = ("osync", "rsync")
    anchors = ("rsync",)
    unit = "MiB"

    def prepare(self):
        self.size = self.options.size(1 << 30)
        os.mkdir(self.source)
        trees.large_file(os.path.join(self.source, "large"), self.size)
        return f"a file of {self.size >> 20} MiB"

    def measure(self, tool):
        for path in (self.target, self.state):
            shutil.rmtree(path, ignore_errors=True)
        os.mkdir(self.target)
        path = os.path.join(self.source, "large")
        os.truncate(path, self.size)
        if tool == "osync":
            pair = Osync(self, self.source, self.target, self.state)
            command, data = Counter(pair.command), Counter(pair.data)
            pair.start_sink(command.address, data.address)
            pair.wait_until_equal()
        else:
            shutil.copy2(path, self.target)
        with open(path, "ab", buffering=0) as file:
            file.write(random.Random(11).randbytes(1 << 20))
        if tool == "osync":
            before = command.bytes + data.bytes
            start = time.monotonic()
            pair.flush()
            seconds = time.monotonic() - start
            sent = command.bytes + data.bytes - before
            pair.stop()
        else:
            start = time.monotonic()
            sent = rsync_bytes("-a", "--no-whole-file", self.source, self.target)
            seconds = time.monotonic() - start
        if tool == "osync":
            must_be_equal(self.source, self.target)
        return sent / (1 << 20), {"seconds": round(seconds, 3)}


class Wire(Live):
    name = "wire"
    title = "bytes on the wire, both ways together, to find that nothing has changed"
    tools = ("osync", "rsync -a")
    anchors = ("rsync -a",)
    unit = "bytes a file"

    def prepare(self):
        self.files = self.options.size(100_000)
        trees.small_files(self.source, self.files, max(self.files // 100, 1), sizes=(0, 64))
        # What changed shortly before its end is sent again by the second, and by no other.
        for _ in range(2):
            self.end(self.begin("osync"))
        return f"{self.files} files in {max(self.files // 100, 1)} directories"

    def measure(self, tool):
        if tool == "osync":
            pair = Osync(self, self.source, self.target, self.state)
            command, data = Counter(pair.command), Counter(pair.data)
            pair.start_sink(command.address, data.address)
            pair.wait_until_equal()
            sent = command.bytes + data.bytes
            self.end(pair)
        else:
            sent = rsync_bytes("-a", self.source, self.target)
        return sent / self.files, {}

    def end(self, pair):
        """Stops both once the source has noted that nothing is open, which it does each second."""
        time.sleep(3)
        pair.stop()


def inotify_slab_bytes():
    """Kernel memory of all inotify marks, without the inodes that they pin; `None` if it is not told."""
    try:
        with open("/proc/slabinfo") as slabs:
            for line in slabs:
                if line.startswith("inotify_inode_mark "):
                    fields = line.split()
                    return int(fields[1]) * int(fields[3])
    except PermissionError:
        pass
    return None


class Start(Live):
    name = "start"
    title = "from the start of the source until the first change is replicated, and until all is watched"
    unit = "s"

    def prepare(self):
        self.dirs = self.options.size(100_000)
        trees.directories(self.source, self.dirs, 50)
        os.mkdir(self.target)
        pair = Osync(self, self.source, self.target, self.state)
        pair.start_sink()
        pair.wait_until_equal()
        pair.stop()
        return f"{self.dirs} directories, 50 in each; equal before"

    def measure(self, tool):
        slab = inotify_slab_bytes()
        path = os.path.join(self.source, "first")
        if os.path.exists(path):
            os.unlink(path)
        if os.path.exists(os.path.join(self.target, "first")):
            os.unlink(os.path.join(self.target, "first"))
        arrivals = Arrivals(self.target)
        start = time.monotonic()
        pair = Osync(self, self.source, self.target, self.state)
        pair.start_sink()
        with open(path, "wb", buffering=0) as file:
            file.write(CHANGE)
        arrivals.wait_for("first")
        first = time.monotonic() - start
        arrivals.close()
        def all_watched():
            return pair.ask("status").get("events", {}).get("watched_dirs", 0) > self.dirs

        wait_until("all watches", all_watched)
        watched = time.monotonic() - start
        pair.wait_until_equal()
        more = {"watched_s": round(watched, 3), "source_mib": round(pair.source.peak_mib(), 1)}
        if slab is not None:
            more["slab_bytes_a_watch"] = round((inotify_slab_bytes() - slab) / self.dirs)
        pair.stop()
        return first, more


class Churn(Live):
    name = "churn"
    title = "the highest rate of new files at which lag stays below one second"
    tools = ("osync", "lsyncd rsync", "lsyncd direct")
    anchors = ("lsyncd rsync", "lsyncd direct")
    unit = "files a second"
    # Each rate is held for so long.
    seconds = 5
    lag_max = 1.0

    def prepare(self):
        return f"rates rise by half until lag exceeds {self.lag_max:g} s within {self.seconds} s"

    def measure(self, tool):
        self.clear()
        os.mkdir(self.source)
        for number in range(100):
            os.mkdir(os.path.join(self.source, f"d{number}"))
        daemon = self.begin(tool)
        rate, best, number = 20.0, 0.0, 0
        while True:
            number, lag = self.hold(rate, number)
            if lag > self.lag_max:
                break
            best, rate = rate, rate * 1.5
        daemon.stop()
        return best, {}

    def hold(self, rate, number):
        """Makes files at a rate; how far behind the last of them the target was at the end."""
        start = time.monotonic()
        made = 0
        while (now := time.monotonic() - start) < self.seconds:
            while made < now * rate:
                path = os.path.join(f"d{number % 100}", f"f{number}")
                with open(os.path.join(self.source, path), "wb", buffering=0) as file:
                    file.write(b"x" * 1000)
                made, number = made + 1, number + 1
            time.sleep(0.002)
        if made < 0.9 * rate * self.seconds:
            # Whoever makes them is the limit.
            return number, float("inf")
        last = time.monotonic()
        arrived = os.path.join(self.target, path)
        while not os.path.exists(arrived) and time.monotonic() - last < 30:
            time.sleep(0.01)
        return number, time.monotonic() - last


ROWS = (Latency, LatencyBusy, Storm, RenameDirectory, CatchUp, Append, Wire, Start, Churn)
