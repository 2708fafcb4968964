"""Rows that run a command to its end: copies of whole trees, fresh or with little or nothing to do."""

import os
import shutil
import subprocess

from benchmarks import trees
from benchmarks.harness import Row, fail
from benchmarks.programs import must_be_equal, timed

# What a file costs on tmpfs beside its content: page rounding, inode, directory entry.
FILE_OVERHEAD_BYTES = 4096


def warm_up_memory(directory, size):
    """Writes and removes a file as large as the run will need.

    A virtual machine hands free memory back to its host; getting it again would be charged to whichever
    tool runs first.
    """
    path = os.path.join(directory, "warm-up")
    chunk = bytes(4 * 1024 * 1024)
    with open(path, "wb", buffering=0) as file:
        for _ in range(-(-size // len(chunk))):
            file.write(chunk)
    os.unlink(path)


class Copy(Row):
    """A tree is copied to a place where there is nothing."""

    tools = ("osync", "tar", "rsync -a")
    anchors = ("tar", "rsync -a")

    def __init__(self, place, options):
        super().__init__(place, options)
        self.bytes_needed = 0
        self.checked = set()

    def need(self, size):
        """Makes sure that there is room for the source and the target."""
        self.bytes_needed = size
        free = shutil.disk_usage(self.place).free
        if free < 2 * size:
            fail(f"{self.place} has {free >> 20} MiB free, {self.name} needs {2 * size >> 20} MiB")

    def large_file(self, full_size):
        """Makes a source of one file that does not compress."""
        size = self.options.size(full_size)
        os.mkdir(self.source)
        trees.large_file(os.path.join(self.source, "large"), size)
        self.need(size)
        return f"{size / (1 << 20):.0f} MiB that do not compress"

    def command(self, tool):
        source, target = self.source, self.target
        # pipefail: a reader that fails must not pass as a fast one.
        pipe = 'set -o pipefail; tar -C "$1" -cf - . | tar -C "$2" -xf -'
        return {
            "osync": [self.options.osync, "push", "--once", source, target],
            "osync compressed": [self.options.osync, "push", "--once", "--compression", "1", source, target],
            "tar": ["bash", "-c", pipe, "tar", source, target],
            "rsync -a": ["rsync", "-a", source + "/", target + "/"],
            "rsync -aHAX": ["rsync", "-aHAX", source + "/", target + "/"],
            "cp -a": ["cp", "-a", source + "/.", target + "/"],
        }[tool]

    def measure(self, tool):
        self.clear()
        warm_up_memory(self.place, self.bytes_needed)
        os.mkdir(self.target)
        return self.timed(tool)

    def timed(self, tool):
        environment = dict(os.environ, OSYNC_STATE_DIR=self.state)
        figures = timed(self.command(tool), os.path.join(self.place, "log"), environment)
        if tool == "osync" and tool not in self.checked:
            must_be_equal(self.source, self.target, "--checksum")
            self.checked.add(tool)
        return figures

    def clear(self):
        for path in (self.target, self.state):
            shutil.rmtree(path, ignore_errors=True)


class Fresh(Copy):
    name = "fresh"
    title = "a fresh copy of many small files"

    def prepare(self):
        files = self.options.size(100_000)
        content = trees.small_files(self.source, files, max(files // 100, 1))
        self.need(content + files * FILE_OVERHEAD_BYTES)
        return f"{files} files of {content / 1e6:.0f} MB in {max(files // 100, 1)} directories"


class Usr(Copy):
    name = "usr"
    title = "a fresh copy of a real tree"
    tools = ("osync", "osync compressed", "tar", "rsync -a", "rsync -aHAX")
    anchors = ("tar", "rsync -a", "rsync -aHAX")

    def prepare(self):
        self.source = self.options.tree
        entries, size = 0, 0
        for top, dirs, files in os.walk(self.source):
            entries += len(dirs) + len(files)
            size += sum(os.lstat(os.path.join(top, name)).st_size for name in files)
        self.need(size + entries * FILE_OVERHEAD_BYTES)
        # What is not in memory yet would be charged to whichever tool runs first.
        read = 'tar -C "$1" -cf - . | cat >/dev/null'
        subprocess.run(["bash", "-c", read, "read", self.source], check=True)
        return f"{self.source}, {entries} entries of {size / 1e6:.0f} MB"


class Unchanged(Copy):
    name = "unchanged"
    title = "nothing has changed since the last time"
    tools = ("osync", "rsync -a", "rsync -aHAX")
    anchors = ("rsync -a", "rsync -aHAX")
    # The first comes to know the tree; what changed shortly before its end is compared by content.
    pushes_before = 2

    def prepare(self):
        files = self.options.size(1_000_000)
        self.need_files(files + files // 100)
        trees.small_files(self.source, files, max(files // 100, 1), sizes=(0, 64))
        self.need(files * FILE_OVERHEAD_BYTES)
        os.mkdir(self.target)
        for _ in range(self.pushes_before):
            self.timed("osync")
        return f"{files} files in {max(files // 100, 1)} directories"

    def measure(self, tool):
        return self.timed(tool)


class OneDirectory(Copy):
    name = "one-directory"
    title = "a fresh copy of one directory of empty files"

    def prepare(self):
        files = self.options.size(1_000_000)
        self.need_files(files)
        trees.empty_files(self.source, files)
        self.need(files * FILE_OVERHEAD_BYTES)
        return f"{files} files"


class Wide(Copy):
    name = "wide"
    title = "a fresh copy of directories without files"

    def prepare(self):
        count = self.options.size(100_000)
        trees.directories(self.source, count, 50)
        self.need(count * FILE_OVERHEAD_BYTES)
        return f"{count} directories, 50 in each"


class Deep(Copy):
    name = "deep"
    title = "a fresh copy of chains of directories"

    def prepare(self):
        chains = self.options.size(200)
        os.mkdir(self.source)
        for number in range(chains):
            trees.chain(os.path.join(self.source, f"c{number}"), 200)
        self.need(chains * 400 * FILE_OVERHEAD_BYTES)
        return f"{chains} chains of 200 directories with a file each"


class Large(Copy):
    name = "large"
    title = "a fresh copy of one large file"
    tools = ("osync", "cp -a", "rsync -a")
    anchors = ("cp -a", "rsync -a")

    def prepare(self):
        return self.large_file(2 << 30)


ROWS = (Fresh, Usr, Unchanged, OneDirectory, Wide, Deep, Large)
