"""Files with holes, at each end, in the middle and throughout."""

import ctypes
import os

import entry

BLOCK = 64 * 1024
MIB = 1024 * 1024
PUNCH_HOLE_KEEP_SIZE = 3

libc = ctypes.CDLL(None, use_errno=True)
libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_longlong, ctypes.c_longlong)


def make(args):
    sparse("hole at start", 4 * MIB, [4 * MIB - BLOCK])
    sparse("hole in the middle", 4 * MIB, [0, 4 * MIB - BLOCK])
    sparse("hole at end", 4 * MIB, [0])
    sparse("many holes", 4 * MIB, range(0, 4 * MIB, 8 * BLOCK))
    sparse("all hole", 64 * MIB, [])
    sparse("small all hole", 100 * 1024, [])
    sparse("odd size", 3 * MIB + 1234, [MIB])
    sparse("to be filled", 2 * MIB, [0])
    sparse("to be extended", MIB, [0])
    entry.write("to be punched", entry.pattern(2 * MIB))
    entry.write("to be emptied", entry.pattern(2 * MIB))
    entry.write("zeros that are no hole", bytes(MIB))
    entry.write("no hole", entry.pattern(MIB))


def sparse(path, size, blocks):
    """A file of `size` bytes with data at `blocks` and holes elsewhere."""
    entry.write(path, b"")
    os.truncate(path, size)
    for offset in blocks:
        entry.write_at(path, offset, entry.pattern(BLOCK, offset))


def punch(path, offset, length):
    fd = os.open(path, os.O_WRONLY)
    try:
        if libc.fallocate(fd, PUNCH_HOLE_KEEP_SIZE, offset, length) != 0:
            raise OSError(ctypes.get_errno(), "punching a hole", path)
    finally:
        os.close(fd)


def mutate(args):
    punch("to be punched", MIB // 2, MIB)
    punch("to be emptied", 0, 2 * MIB)
    entry.write_at("to be filled", 0, entry.pattern(2 * MIB, 7))
    # Grown by a hole, and cut off within one.
    os.truncate("to be extended", 8 * MIB)
    os.truncate("hole at end", 2 * MIB)
    entry.write_at("all hole", 32 * MIB, entry.pattern(BLOCK))
    # The same size and time, other holes: nothing but the change itself tells.
    before = os.stat("hole in the middle").st_mtime_ns
    entry.write_at("hole in the middle", 2 * MIB, entry.pattern(BLOCK, 3))
    punch("hole in the middle", 0, BLOCK)
    entry.set_mtime("hole in the middle", before)
