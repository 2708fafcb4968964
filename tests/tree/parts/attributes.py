"""Extended attributes of all namespaces, ACLs, capabilities."""

import errno
import os
import struct

import entry

# One value as large as can be where that is a matter of memory; ext4 has room for less than a block.
LARGE_BYTES, BLOCK_BYTES = 60_000, 3_000
CHOWN, NET_RAW = 1 << 0, 1 << 13


def capability(permitted, effective=True):
    """security.capability, revision 2, as setcap(8) writes it."""
    return struct.pack("<5I", 0x02000000 | effective, permitted, 0, 0, 0)


def make(args):
    for path in ("file", "changed", "swapped", "dropped", "large", "many", "capable", "capable too"):
        entry.write(path)
    for path in ("dir", "dir with acl", "dir with default acl"):
        os.mkdir(path)
    for path in ("file", "dir"):
        entry.xattr(path, "user.plain", b"a value")
        entry.xattr(path, "user.empty", b"")
        entry.xattr(path, "user.bytes", bytes(range(256)))
        entry.xattr(path, b"user.odd \n\xff name", b"odd")
        entry.xattr(path, b"user." + b"n" * 250, b"longest name")
        entry.xattr(path, "trusted.plain", b"for root alone")
        entry.xattr(path, "security.osync-test", b"of no module")
    entry.xattr("changed", "user.one", b"1")
    entry.xattr("changed", "user.two", b"2")
    entry.xattr("swapped", "user.before", b"the same value")
    entry.xattr("dropped", "user.only", b"going")
    large("large", entry.pattern)
    for number in range(40):
        entry.xattr("many", f"user.number {number}", b"%d" % number)
    os.symlink("file", "symlink")
    entry.xattr("symlink", "trusted.plain", b"of the link itself")
    acls()
    capabilities()


def large(path, value):
    try:
        entry.xattr(path, "user.large", value(LARGE_BYTES))
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        entry.xattr(path, "user.large", value(BLOCK_BYTES))


def acls():
    for path in ("with acl", "with acl and mode 000", "acl to change", "acl to drop"):
        entry.write(path)
        entry.acl(path, "-m", f"u:1234:rw,u:{entry.NOBODYS}:r,g:99:x,m:rwx")
    os.chmod("with acl and mode 000", 0)
    entry.acl("dir with acl", "-m", "u:55:rwx,m:r")
    entry.acl("dir with default acl", "-m", "u:55:rwx,d:u:66:rwx,d:g:77:r-x,d:o:-")
    # These inherit: what arrives must be what they have, not what the target would give them.
    entry.write("dir with default acl/file", mode=0o666)
    os.mkdir("dir with default acl/dir", 0o777)
    entry.write("dir with default acl/plain")
    entry.acl("dir with default acl/plain", "-b")
    entry.fifo("dir with default acl/fifo")


def capabilities():
    entry.xattr("capable", "security.capability", capability(NET_RAW))
    entry.xattr("capable too", "security.capability", capability(CHOWN | NET_RAW, effective=False))
    entry.chown("capable too", entry.NOBODYS, 5)
    entry.xattr("capable too", "security.capability", capability(CHOWN))
    os.chmod("capable too", 0o500)


def mutate(args):
    entry.xattr("changed", "user.one", b"one")
    entry.remove_xattr("changed", "user.two")
    entry.xattr("changed", "user.three", b"")
    entry.xattr("swapped", "user.after", b"the same value")
    entry.remove_xattr("swapped", "user.before")
    entry.remove_xattr("dropped", "user.only")
    large("large", lambda length: entry.pattern(length, 5))
    for number in range(0, 40, 2):
        entry.remove_xattr("many", f"user.number {number}")
    entry.xattr("symlink", "trusted.plain", b"changed")
    entry.xattr("dir", "user.plain", b"changed")
    entry.acl("acl to change", "-m", "u:1234:-,g:98:rw")
    entry.acl("acl to drop", "-b")
    # The mask goes with the mode.
    os.chmod("with acl", 0o600)
    entry.acl("dir with default acl", "-m", "d:u:66:-,d:u:67:r")
    entry.acl("dir with acl", "-m", "d:u:68:rx")
    entry.write("dir with default acl/new", mode=0o666)
    os.mkdir("dir with default acl/new dir", 0o777)
    entry.xattr("capable", "security.capability", capability(CHOWN | NET_RAW))
    # A new owner loses the capability, writing does too.
    entry.chown("capable too", 6, 6)
    entry.write("capable new")
    entry.xattr("capable new", "security.capability", capability(CHOWN))
