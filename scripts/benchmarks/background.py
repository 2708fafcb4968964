"""The row about a production host: how soon its own readers are answered while a backlog runs."""

import os
import shutil
import subprocess
import sys
import time

from benchmarks import trees
from benchmarks.harness import fail
from benchmarks.live import Live, percentile
from benchmarks.programs import Osync

# A foreground reader answers requests that come at a steady pace, whether it is ready for them or not: time
# counts from when a request was due. Each opens and reads some files chosen at random. Prints microseconds.
READER = """
import os, random, sys, time
top, seconds, pause, files = sys.argv[1], float(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
paths = [entry.path for entry in os.scandir(top)]
rng = random.Random(5)
due = time.monotonic()
end = due + seconds
while due < end:
    wait = due - time.monotonic()
    if wait > 0:
        time.sleep(wait)
    for _ in range(files):
        fd = os.open(rng.choice(paths), os.O_RDONLY)
        while os.read(fd, 65536):
            pass
        os.close(fd)
    print(round((time.monotonic() - due) * 1e6))
    due += pause
"""
SECONDS = 3
PAUSE_SECONDS = 0.005
FILES_A_REQUEST = 20
LIMITS = ("10MB/s", "--iops", "2000")
# What both endpoints are told, and what an operator tells the source then.
TOOLS = {
    "osync away": None,
    "osync": ((), ("none",)),
    "osync --nice": (("--nice",), ("none",)),
    "osync limited": ((), LIMITS),
    "osync limited --nice": (("--nice",), LIMITS),
}


class Background(Live):
    name = "background"
    title = "requests to a foreground reader while the backlog of a fresh copy runs, until they are answered"
    tools = tuple(TOOLS)
    anchors = ("osync away",)
    unit = "ms"

    def prepare(self):
        self.files = self.options.size(250_000)
        trees.small_files(os.path.join(self.source, "backlog"), self.files, max(self.files // 100, 1))
        self.foreground = os.path.join(self.source, "foreground")
        trees.small_files(self.foreground, 2000, 1)
        return (f"{self.files} small files on their way, limited to {LIMITS[0]} and {LIMITS[2]} operations/s; a "
                f"request for {FILES_A_REQUEST} files each {PAUSE_SECONDS * 1e3:g} ms, for {SECONDS} s; the figure "
                "is the 99th percentile")

    def measure(self, tool):
        if TOOLS[tool] is None:
            return self.answers(lambda: 0)
        for path in (self.target, self.state):
            shutil.rmtree(path, ignore_errors=True)
        os.mkdir(self.target)
        options, limits = TOOLS[tool]
        pair = Osync(self, self.source, self.target, self.state, options)
        pair.ask("limit", *limits)
        pair.start_sink()
        pair.wait_for_phase("transfer")
        answers = self.answers(lambda: pair.ask("report", "transfer")["sinks"][0]["sent_entries"])
        if pair.ask("status")["sinks"][0]["converged"]:
            fail("the backlog was over before the reader was: --scale more")
        pair.stop()
        return answers

    def answers(self, sent):
        """The 99th percentile, and what was sent meanwhile."""
        top = os.path.join(self.foreground, "d00000")
        reader = [sys.executable, "-c", READER, top, str(SECONDS), str(PAUSE_SECONDS), str(FILES_A_REQUEST)]
        start, before = time.monotonic(), sent()
        answered = subprocess.run(reader, capture_output=True, check=True, text=True).stdout
        sent_a_second = (sent() - before) / (time.monotonic() - start)
        found = sorted(int(line) / 1e3 for line in answered.split())
        figures = {"p50_ms": percentile(found, 0.5), "max_ms": found[-1], "sent_a_second": round(sent_a_second)}
        return percentile(found, 0.99), figures


ROWS = (Background,)
