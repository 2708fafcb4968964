"""Groups of hard links, across directories, of everything that can have several names."""

import os

import entry

DIRS = ("a", "b", "b/below", "c")
# More names than one look takes.
NAMES = 200


def make(args):
    for path in DIRS:
        os.mkdir(path)
    pair("pair", lambda path: entry.write(path, b"two names\n"))
    pair("large", lambda path: entry.write(path, entry.pattern(300_000)))
    pair("empty", lambda path: entry.write(path, b""))
    pair("symlink", lambda path: os.symlink("pair", path))
    pair("fifo", entry.fifo)
    pair("socket", entry.socket)
    pair("device", lambda path: entry.char_device(path, 1, 3))
    for kept in ("broken", "half", "retouched", "renamed", "replaced", "written"):
        pair(kept, lambda path: entry.write(path, path.encode()))
    entry.write("a/single")
    entry.write("a/many 0", b"many names\n")
    for number in range(1, NAMES):
        os.link("a/many 0", f"{DIRS[number % len(DIRS)]}/many {number}")
    # All alike but not linked: only inode numbers tell these from a group.
    for number in range(3):
        entry.write(f"c/alike {number}", b"alike\n")
        entry.set_mtime(f"c/alike {number}", 5)


def pair(name, make_one):
    """Two names in two directories."""
    make_one(f"a/{name}")
    os.link(f"a/{name}", f"b/below/{name}", follow_symlinks=False)


def mutate(args):
    # Made.
    os.link("a/single", "c/no longer single")
    os.link("c/alike 0", "a/alike 0")
    pair("new", lambda path: entry.write(path, b"made as a pair\n"))
    pair("new fifo", entry.fifo)
    # Grown, and shrunk by most of its names.
    os.link("a/many 0", "c/many and more")
    for number in range(2, NAMES, 2):
        os.unlink(f"{DIRS[number % len(DIRS)]}/many {number}")
    # Broken by a copy that takes the place of one name.
    entry.replace("a/broken", lambda path: entry.write(path, b"a/broken"))
    # Down to one name.
    os.unlink("a/half")
    os.unlink("b/below/fifo")
    # Broken and made again.
    os.unlink("a/retouched")
    entry.write("a/retouched", b"for a moment alone")
    os.unlink("a/retouched")
    os.link("b/below/retouched", "a/retouched")
    # A name moves to a directory that is new, another one is replaced by a name of another group.
    os.mkdir("new directory")
    os.rename("a/renamed", "new directory/renamed")
    os.unlink("a/replaced")
    os.link("a/pair", "a/replaced")
    # Changed through one name: the others are silent.
    entry.write("a/written", b"through one name of two, longer than before\n")
    entry.write_at("b/below/large", 200_000, b"in the middle")
    entry.write("b/below/empty", b"not empty any more\n")
    os.chmod("a/large", 0o4711)
    entry.chown("b/below/symlink", 17, entry.NOBODYS)
    entry.set_mtime("a/device", 17)
