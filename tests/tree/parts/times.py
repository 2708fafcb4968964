"""Times from everywhere, of directories too, set after all was written below them."""

import os

import entry

SECOND = 10**9
TIMES = {
    "1901": -2_147_483_648 * SECOND,
    "just before 1970": -1,
    "1970": 0,
    "1970 and a nanosecond": 1,
    "2009": 1_234_567_890 * SECOND + 123_456_789,
    "2038": 2_147_483_648 * SECOND,
    "2106": 4_294_967_296 * SECOND + 999_999_999,
    "2400": 13_569_465_600 * SECOND + 500_000_000,
}


def make(args):
    for path, time_ns in TIMES.items():
        os.mkdir(f"dir {path}")
        os.mkdir(f"dir {path}/below")
        entry.write(f"dir {path}/below/file")
        entry.write(f"dir {path}/file")
        entry.write(path)
        os.symlink(path, f"symlink {path}")
        for stamped in (path, f"symlink {path}", f"dir {path}/file", f"dir {path}/below", f"dir {path}"):
            entry.set_mtime(stamped, time_ns)
    entry.write("in the future of all clocks")
    entry.set_mtime("in the future of all clocks", 15_000_000_000 * SECOND)


def mutate(args):
    times = list(TIMES.values())
    for (path, time_ns), then in zip(TIMES.items(), times[1:] + times[:1]):
        # Children written, then the directory's time set back: it must end as it was.
        entry.write(f"dir {path}/below/new", b"written late")
        os.unlink(f"dir {path}/below/file")
        entry.set_mtime(f"dir {path}/below", time_ns)
        entry.write(f"dir {path}/new")
        entry.set_mtime(f"dir {path}", then)
        entry.set_mtime(path, then)
        entry.set_mtime(f"symlink {path}", then)
    # As cp -p does: other content, the same size and time.
    before = os.stat("2009").st_mtime_ns
    entry.write("2009", b"CONTENT\n")
    entry.set_mtime("2009", before)
    # As touch -r does.
    entry.set_mtime("1901", os.stat("2400").st_mtime_ns)
