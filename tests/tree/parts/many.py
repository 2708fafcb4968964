"""A directory with so many entries that a listing of it takes many pages."""

import os

import entry


def name(number):
    """Names in no order of creation: neighbours in time are far apart in the listing."""
    return f"{number * 2_654_435_761 % 2**32:08x} {number}"


def make(args):
    for number in range(args.many):
        # Few have content: in memory each of these costs a page.
        entry.write(name(number), b"%d" % number if number % 64 == 0 else b"")
        entry.set_mtime(name(number), number * 1_000_000_007)


def mutate(args):
    for number in range(0, args.many, 7):
        path = name(number)
        match number % 5:
            case 0:
                os.unlink(path)
            case 1:
                os.rename(path, f"renamed {path}")
            case 2:
                os.chmod(path, 0o600)
            case 3:
                entry.set_mtime(path, -number)
            case 4:
                entry.write(path, b"now with content")
    for number in range(args.many // 20):
        entry.write(f"new {name(number)}", b"")
    entry.set_mtime(".", entry.LONG_AGO_NS)
