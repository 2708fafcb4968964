"""Permission bits of every kind, and owners that exist nowhere."""

import os

import entry

MODES = (0o000, 0o200, 0o111, 0o644, 0o4755, 0o2755, 0o6711, 0o4000, 0o2644, 0o1644, 0o7777)
OWNERS = ((0, 0), (1, 0), (0, 1), (entry.NOBODYS, entry.NOBODYS + 1), (4_294_967_294, 4_294_967_294))


def make(args):
    for mode in MODES:
        entry.write(f"file {mode:04o}", b"%o" % mode)
        os.chmod(f"file {mode:04o}", mode)
        os.mkdir(f"dir {mode:04o}")
        entry.write(f"dir {mode:04o}/inside")
        os.mkdir(f"dir {mode:04o}/empty")
        os.chmod(f"dir {mode:04o}", mode)
    for uid, gid in OWNERS:
        path = f"owned by {uid} {gid}"
        entry.write(path)
        entry.chown(path, uid, gid)
        # A change of owner takes these bits away: the order in which things are set matters.
        os.chmod(path, 0o6755)
        os.mkdir(f"dir {path}")
        entry.chown(f"dir {path}", uid, gid)
        os.chmod(f"dir {path}", 0o2770)
    os.mkdir("empty")
    entry.write("empty file", b"")
    os.chmod("empty file", 0)


def mutate(args):
    # Every mode becomes the next one.
    for mode, then in zip(MODES, MODES[1:] + MODES[:1]):
        os.chmod(f"file {mode:04o}", then)
        os.chmod(f"dir {mode:04o}", then)
        entry.write(f"dir {mode:04o}/new", b"%o" % then)
    entry.write("dir 0000/inside", b"changed in a directory that nobody may enter")
    for (uid, gid), (new_uid, new_gid) in zip(OWNERS, OWNERS[1:] + OWNERS[:1]):
        path = f"owned by {uid} {gid}"
        for path in (path, f"dir {path}"):
            entry.chown(path, new_uid, new_gid)
        os.chmod(f"owned by {uid} {gid}", 0o4711)
    # The owner alone: set-user-id is gone afterwards, and must be at the other side.
    entry.chown("file 7777", 33, 33)
    os.mkdir("empty/filled")
    os.rmdir("empty/filled")
    entry.chown("empty", 44, 44)
