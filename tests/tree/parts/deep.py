"""A way down that is longer than the kernel's PATH_MAX. rsync cannot go there; the own judge does."""

import os

import entry

LEVEL = "a level with a long name " + "d" * 180
# 40 levels of 205 bytes: twice PATH_MAX.
LEVELS = 40


def make(args):
    for level in range(LEVELS):
        entry.write("at this level", b"%d" % level)
        os.mkdir(LEVEL)
        os.chdir(LEVEL)
    at_bottom()
    climb_with_times()


def at_bottom():
    entry.write("file", b"deeper than PATH_MAX\n")
    entry.write("large", entry.pattern(300_000))
    os.symlink("file", "symlink")
    entry.fifo("fifo")
    os.mkdir("dir")
    entry.write("dir/file")
    entry.xattr("file", "user.deep", b"yes")
    entry.acl("file", "-m", "u:1234:r")
    entry.chown("symlink", 3, 4)
    entry.set_mtime("fifo", entry.LONG_AGO_NS)


def climb_with_times():
    for level in range(LEVELS):
        entry.set_mtime(".", entry.LONG_AGO_NS + level)
        os.chdir("..")


def mutate(args):
    for _ in range(LEVELS):
        os.chdir(LEVEL)
    entry.write("file", b"changed deeper than PATH_MAX\n")
    entry.write_at("large", 100_000, b"changed")
    os.unlink("fifo")
    os.rename("dir", "dir renamed")
    entry.write("dir renamed/new")
    entry.xattr("file", "user.deep", b"changed")
    entry.set_mtime("symlink", 1)
    for _ in range(LEVELS // 2):
        os.chdir("..")
    # All that is below moves, with its paths beyond PATH_MAX.
    os.rename(LEVEL, "a level with a short name")
    for _ in range(LEVELS // 2):
        os.chdir("..")
