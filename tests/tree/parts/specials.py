"""Pipes, sockets and devices with their numbers."""

import os

import entry


def make(args):
    entry.fifo("fifo", 0o620)
    entry.fifo("fifo mode 000", 0)
    entry.socket("socket", 0o777)
    entry.char_device("null", 1, 3, 0o666)
    entry.char_device("large number", 4095, 1_048_575)
    entry.block_device("loop", 7, 200, 0o660)
    entry.block_device("zero", 0, 0)
    for path in ("fifo", "socket", "null", "loop"):
        entry.chown(path, entry.NOBODYS, entry.NOBODYS + 1)
        entry.xattr(path, "trusted.of a special", path.encode())
        entry.set_mtime(path, entry.LONG_AGO_NS)


def mutate(args):
    os.chmod("fifo", 0o600)
    entry.chown("socket", 1, 2)
    entry.set_mtime("loop", 5_000_000_000 * 10**9 + 1)
    entry.remove_xattr("loop", "trusted.of a special")
    entry.xattr("null", "trusted.of a special", b"another")
    entry.replace("large number", lambda path: entry.char_device(path, 4094, 1_048_574))
    # Only the kind differs, and only one of the two numbers.
    entry.replace("zero", lambda path: entry.char_device(path, 0, 0))
    entry.block_device("new", 259, 3)
    entry.replace("new", lambda path: entry.block_device(path, 259, 4))
    os.rename("fifo mode 000", "fifo renamed")
    entry.fifo("passing")
    os.unlink("passing")
