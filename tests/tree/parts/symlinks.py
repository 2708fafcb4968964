"""Symlinks of every target, with owners and times of their own; never followed."""

import os

import entry

TARGETS = {
    "dangling": "nowhere/at all",
    "absolute": "/etc/passwd",
    "relative": "dir/file",
    "to a directory": "dir",
    "up and out": "../../../../../../etc",
    "to itself": "to itself",
    "dot": ".",
    "longest": b"t/" * 2047 + b"t",
    "bytes": b"\xff\n -target \\",
}


def make(args):
    os.mkdir("dir")
    entry.write("dir/file")
    for number, (path, target) in enumerate(TARGETS.items()):
        os.symlink(target, path)
        entry.chown(path, entry.NOBODYS + number, number)
        entry.set_mtime(path, entry.LONG_AGO_NS + number)


def mutate(args):
    entry.replace("dangling", lambda path: os.symlink("somewhere else", path))
    # The same length, owner and time: the target alone differs.
    entry.replace("absolute", lambda path: os.symlink("/etc/shadow", path))
    entry.chown("absolute", entry.NOBODYS + 1, 1)
    entry.set_mtime("absolute", entry.LONG_AGO_NS + 1)
    entry.chown("relative", 1, 1)
    entry.set_mtime("longest", 5_000_000_000 * 10**9 + 999_999_999)
    entry.replace("bytes", lambda path: os.symlink(b"\xfe" * 4095, path))
    # A directory where a link to one was, with something below, and the reverse.
    os.unlink("up and out")
    os.mkdir("up and out")
    entry.write("up and out/inside")
    os.rename("dir", "dir renamed")
    os.symlink("dir renamed", "dir")
