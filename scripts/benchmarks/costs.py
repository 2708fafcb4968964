"""Rows about what each end takes: processor time and memory."""

import os
import shutil
import time

from benchmarks import trees
from benchmarks.live import Live
from benchmarks.programs import Osync, peak_memory, piped_costs


class EachEnd(Live):
    """A fresh copy, of which each end is asked for something."""

    def clear_target(self):
        for path in (self.target, self.state):
            shutil.rmtree(path, ignore_errors=True)
        os.mkdir(self.target)

    def of_each_end(self, figure):
        """That figure of the source and of the sink, when they are equal."""
        self.clear_target()
        pair = Osync(self, self.source, self.target, self.state)
        pair.start_sink()
        pair.wait_until_equal()
        figures = [figure(pair.source), figure(pair.sink)]
        pair.stop()
        return figures


class Memory(EachEnd):
    name = "memory"
    title = "peak resident memory of each process, a fresh copy to its end"
    tools = ("osync source", "osync sink", "rsync -a")
    anchors = ("rsync -a",)
    unit = "MiB"

    def prepare(self):
        self.files = self.options.size(1_000_000)
        dirs = max(self.files // 100, 1)
        self.need_files(self.files + dirs)
        trees.small_files(self.source, self.files, dirs, sizes=(0, 64))
        return f"{self.files} files in {dirs} directories"

    def measure(self, tool):
        if tool.startswith("osync"):
            peaks = self.of_each_end(lambda daemon: daemon.peak_mib())
            return peaks[tool == "osync sink"], {}
        self.clear_target()
        command = ["rsync", "-a", self.source + "/", self.target + "/"]
        return peak_memory(command, os.path.join(self.place, "log")), {}


class Cost(EachEnd):
    name = "cost"
    title = "processor time of each end, a fresh copy of many small files"
    tools = ("osync source", "osync sink", "tar -c", "tar -x")
    anchors = ("tar -c", "tar -x")
    unit = "us a file"

    def prepare(self):
        files = self.options.size(100_000)
        dirs = max(files // 100, 1)
        size = trees.small_files(self.source, files, dirs)
        self.units_a_second = 1e6 / files
        return f"{files} files of {size / 1e6:.0f} MB in {dirs} directories"

    def measure(self, tool):
        if tool.startswith("osync"):
            used = self.of_each_end(lambda daemon: daemon.cpu_seconds())
        else:
            self.clear_target()
            used = piped_costs(["tar", "-C", self.source, "-cf", "-", "."], ["tar", "-C", self.target, "-xf", "-"])
        return used[tool in ("osync sink", "tar -x")] * self.units_a_second, {}


class CostLarge(Cost):
    name = "cost-large"
    title = "processor time of each end, a fresh copy of one large file"
    unit = "s a GB"

    def prepare(self):
        size = self.options.size(2 << 30)
        os.makedirs(self.source)
        trees.large_file(os.path.join(self.source, "large"), size)
        self.units_a_second = 1e9 / size
        return f"{size >> 20} MiB that do not compress"


class Idle(Live):
    name = "idle"
    title = "processor time of both ends together while nothing happens"
    unit = "ms a minute"
    seconds = 30

    def prepare(self):
        files = self.options.size(1_000_000)
        dirs = max(files // 100, 1)
        trees.small_files(self.source, files, dirs, sizes=(0, 64))
        self.pair = self.begin("osync")
        return f"{files} files in {dirs} directories, {self.seconds} s each"

    def measure(self, tool):
        def used():
            return self.pair.source.cpu_seconds() + self.pair.sink.cpu_seconds()

        before = used()
        time.sleep(self.seconds)
        return (used() - before) * 1e3 * 60 / self.seconds, {}

    def finish(self):
        self.pair.stop()


ROWS = (Memory, Cost, CostLarge, Idle)
