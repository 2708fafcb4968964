"""Making single entries with everything that they are."""

import itertools
import os
import stat
import subprocess
import sys

# An owner and a group that no host knows.
NOBODYS = 2_000_000_017
# A time that no clock shows by accident: before 1970, with nanoseconds.
LONG_AGO_NS = -1_000_000_000 * 10**9 + 123_456_789


def write(path, data=b"content\n", mode=0o644, flags=os.O_TRUNC):
    """Writes a file in place: what it was before stays the same inode."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | flags, mode)
    try:
        while data:
            data = data[os.write(fd, data) :]
    finally:
        os.close(fd)


def write_at(path, offset, data):
    """Changes a piece of an existing file."""
    fd = os.open(path, os.O_WRONLY)
    try:
        os.pwrite(fd, data, offset)
    finally:
        os.close(fd)


def fifo(path, mode=0o644):
    os.mknod(path, stat.S_IFIFO | mode)


def socket(path, mode=0o755):
    os.mknod(path, stat.S_IFSOCK | mode)


def char_device(path, major, minor, mode=0o600):
    os.mknod(path, stat.S_IFCHR | mode, os.makedev(major, minor))


def block_device(path, major, minor, mode=0o600):
    os.mknod(path, stat.S_IFBLK | mode, os.makedev(major, minor))


def replace(path, make):
    """Makes something aside and puts it in the place of `path` by one rename."""
    make(b"aside")
    os.rename(b"aside", path)


unique = itertools.count(1_500_000_000 * 10**9, 1001)


def set_unique_mtime(path):
    """Gives an entry a time that no other has, in the same order in every tree."""
    set_mtime(path, next(unique))


def set_mtime(path, time_ns):
    """Sets the time of change of an entry, not of what it points to; the access time goes along."""
    os.utime(path, ns=(time_ns, time_ns), follow_symlinks=False)


def chown(path, uid, gid):
    os.chown(path, uid, gid, follow_symlinks=False)


def xattr(path, name, value):
    os.setxattr(path, name, value, follow_symlinks=False)


def remove_xattr(path, name):
    os.removexattr(path, name, follow_symlinks=False)


def acl(path, *changes):
    """Changes ACLs as setfacl(1) does."""
    subprocess.run(["setfacl", *changes, "--", path], check=True)


def pattern(length, seed=0):
    """Bytes of which no block equals the next, none of them zero."""
    line = b"".join(b"%d.%d|" % (seed, number) for number in range(length // 8 + 1))
    return line[:length]


def require_root(program):
    """Ends the program if it could not make what only root can."""
    if os.geteuid() != 0:
        sys.exit(f"{program}: run it as root: devices, foreign owners and trusted attributes need that")
