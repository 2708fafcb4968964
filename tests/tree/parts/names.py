"""Names that break whoever takes them for text, options or patterns."""

import os

import entry

NAMES = (
    b"new\nline",
    b"\n",
    b"trailing newline\n",
    b"-",
    b"--delete",
    b"-rf",
    b" ",
    b" leading and trailing ",
    b"\t\x01\x1b[31m\x7f",
    b"back\\slash",
    b"\\012",
    b"\\x0a",
    b"'\"$(id)`id`;&|<>",
    b"*",
    b"[a-z]?{b,c}",
    b"invalid \xff\xfe UTF-8",
    b"\x80",
    b"\xc3",
    "é composed".encode(),
    "e\u0301 decomposed".encode(),
    "\u202eright to left".encode(),
    b"...",
    b".hidden",
    b"..a",
    b"case",
    b"CASE",
    b"C" * 255,
    b"\xff" * 255,
    b"#",
    b"%s%n",
    b".osync-stage",
    bytes(byte for byte in range(1, 256) if byte != ord("/")),
)


def make(args):
    os.mkdir("files")
    os.mkdir("dirs")
    for number, name in enumerate(NAMES):
        entry.write(b"files/" + name, b"%d" % number)
        os.mkdir(b"dirs/" + name)
        os.symlink(name, b"dirs/" + name + b"/" + name)


def mutate(args):
    for number, name in enumerate(NAMES):
        entry.write(b"dirs/" + name + b"/file", b"below an odd name")
        if number % 3 == 0:
            entry.write(b"files/" + name, b"changed %d" % number)
        elif number % 3 == 1:
            os.unlink(b"files/" + name)
        else:
            os.unlink(b"dirs/" + name + b"/" + name)
    # Odd names move among themselves: each directory takes the name of the one before.
    os.rename(b"dirs/" + NAMES[0], b"dirs/first")
    for name, before in zip(NAMES[1:], NAMES):
        os.rename(b"dirs/" + name, b"dirs/" + before)
    os.rename(b"dirs/first", b"dirs/" + NAMES[-1])
