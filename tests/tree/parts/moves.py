"""Renames: chains, swaps, over something, in and out of the root, of a large directory."""

import ctypes
import os

import entry

RENAME_EXCHANGE = 2
AT_FDCWD = -100

libc = ctypes.CDLL(None, use_errno=True)


def directory(path, files=3):
    """Files that differ in their times too: a walk after a time when nobody watched cannot tell a
    directory from one whose files have the same names, sizes and times."""
    os.mkdir(path)
    for number in range(files):
        entry.write(f"{path}/{number}", f"{path} {number}".encode())
        entry.set_unique_mtime(f"{path}/{number}")


def make(args):
    for path in "abcdefgh":
        entry.write(path, f"file {path}".encode())
        directory(f"dir {path}")
    for path in ("from", "to", "over"):
        entry.write(f"file {path}", path.encode())
    directory("dir from")
    os.mkdir("dir over")
    directory("going out")
    entry.write("going out alone")
    directory("nest")
    directory("nest/egg")
    directory("nest/egg/yolk")
    os.mkdir("large")
    for number in range(args.moved):
        if number % 500 == 0:
            os.mkdir(f"large/{number // 500}")
        entry.write(f"large/{number // 500}/{number}", b"%d" % number if number % 16 == 0 else b"")
    os.mkdir("new home")


def mutate(args):
    for prefix in ("", "dir "):
        swap(prefix)
        chain(prefix)
        exchange(f"{prefix}g", f"{prefix}h")
    # Over something: a file over a file, a directory over an empty one.
    os.rename("file from", "file over")
    os.rename("dir from", "dir over")
    # A name that is given away and taken again at once.
    os.rename("file to", "file away")
    entry.write("file to", b"a new one under the old name")
    in_and_out(args.outside)
    turn_over()
    os.rename("large", "new home/large")
    entry.write("new home/large/0/0", b"changed after the move")
    os.rename("new home/large/1", "new home/one level up")


def swap(prefix):
    """a becomes b while b becomes a."""
    os.rename(f"{prefix}a", f"{prefix}third")
    os.rename(f"{prefix}b", f"{prefix}a")
    os.rename(f"{prefix}third", f"{prefix}b")


def chain(prefix):
    """f goes, e becomes f, d becomes e, c becomes d."""
    os.rename(f"{prefix}f", f"{prefix}last")
    for name, then in ("ef", "de", "cd"):
        os.rename(f"{prefix}{name}", f"{prefix}{then}")


def exchange(one, other):
    """Both at once, as renameat2(2) can."""
    one, other = os.fsencode(one), os.fsencode(other)
    if libc.renameat2(AT_FDCWD, one, AT_FDCWD, other, RENAME_EXCHANGE) != 0:
        raise OSError(ctypes.get_errno(), "exchanging", one, None, other)


def in_and_out(outside):
    os.rename("going out", f"{outside}/went out")
    os.rename("going out alone", f"{outside}/went out alone")
    directory(f"{outside}/coming in")
    directory(f"{outside}/coming in/below")
    os.rename(f"{outside}/coming in", "came in")
    # Out, changed there, and back in under the old name.
    os.rename("nest/0", f"{outside}/0")
    entry.write(f"{outside}/0", b"changed outside")
    os.rename(f"{outside}/0", "nest/0")


def turn_over():
    """What was below comes to lie above."""
    os.rename("nest/egg/yolk", "yolk")
    os.rename("nest", "yolk/nest")
    os.rename("yolk", "nest")
    entry.write("nest/nest/egg/new", b"below what was above")
