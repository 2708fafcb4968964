"""Names that become something else, each kind every other kind, and back."""

import os
import shutil

import entry


def directory(path):
    os.mkdir(path)
    entry.write(path + b"/inside")
    os.mkdir(path + b"/below")
    entry.write(path + b"/below/inside")


MAKERS = {
    b"file": entry.write,
    b"large": lambda path: entry.write(path, entry.pattern(300_000)),
    b"dir": directory,
    b"empty dir": os.mkdir,
    b"symlink": lambda path: os.symlink(b"inside", path),
    b"fifo": entry.fifo,
    b"socket": entry.socket,
    b"device": lambda path: entry.char_device(path, 1, 7),
}


def changes():
    return [(kind, then) for kind in MAKERS for then in MAKERS if kind != then]


def remove(path):
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)


def make(args):
    for kind, then in changes():
        MAKERS[kind](kind + b" to " + then)
    for kind in MAKERS:
        MAKERS[kind](kind + b" and back")


def mutate(args):
    for kind, then in changes():
        path = kind + b" to " + then
        remove(path)
        MAKERS[then](path)
    for kind, then in zip(MAKERS, list(MAKERS)[1:] + [b"file"]):
        path = kind + b" and back"
        for made in (then, b"dir", kind):
            remove(path)
            MAKERS[made](path)
    # Through one rename, where the kernel allows that.
    for path in (b"fifo and back", b"symlink and back", b"device and back"):
        entry.replace(path, entry.write)
