"""Trees to replicate, the same in every run."""

import os
import random

FILE_BYTES_MIN, FILE_BYTES_MAX = 512, 8192


def small_files(top, files, dirs, seed=1, sizes=(FILE_BYTES_MIN, FILE_BYTES_MAX)):
    """Fills `top` with small files, spread evenly over directories; returns the bytes of content."""
    rng = random.Random(seed)
    smallest, largest = sizes
    block = rng.randbytes(4 * max(largest, 1))
    total = 0
    for number in range(dirs):
        os.makedirs(os.path.join(top, f"d{number:05}"))
    for number in range(files):
        size = rng.randrange(smallest, largest + 1)
        start = rng.randrange(len(block) - size) if size else 0
        with open(os.path.join(top, f"d{number % dirs:05}", f"f{number:07}"), "wb", buffering=0) as file:
            file.write(block[start : start + size])
        total += size
    return total


def mixed_files(top, files, dirs, seed=5):
    """Fills `top` with files of up to 16 KiB, text in half of the directories; returns the bytes of content."""
    rng = random.Random(seed)
    words = ["".join(rng.choices("etaoinshrdlu", k=rng.randrange(2, 10))) for _ in range(300)]
    text = " ".join(rng.choices(words, k=100_000)).encode()
    noise = rng.randbytes(len(text))
    total = 0
    for number in range(dirs):
        os.makedirs(os.path.join(top, f"d{number:05}"))
    for number in range(files):
        size = rng.randrange(16 << 10)
        start = rng.randrange(len(text) - size)
        with open(os.path.join(top, f"d{number % dirs:05}", f"f{number:07}"), "wb", buffering=0) as file:
            file.write((text, noise)[number % dirs % 2][start : start + size])
        total += size
    return total


def empty_files(top, files):
    """Fills `top` with files without content."""
    os.makedirs(top)
    for number in range(files):
        os.close(os.open(os.path.join(top, f"f{number:07}"), os.O_CREAT | os.O_WRONLY))


def directories(top, count, width):
    """So many directories, each with up to `width` below it; the last ones are the deepest."""
    os.mkdir(top)
    made = [top]
    for number in range(count):
        path = os.path.join(made[number // width], f"d{number}")
        os.mkdir(path)
        made.append(path)


def chain(top, depth):
    """Directories, each in the one before, with a file in each."""
    path = top
    os.mkdir(path)
    for number in range(depth):
        path = os.path.join(path, f"d{number:03}")
        os.mkdir(path)
        with open(os.path.join(path, "file"), "wb", buffering=0) as file:
            file.write(b"content of %d" % number)


def large_file(path, size):
    """A file that does not compress."""
    rng = random.Random(7)
    with open(path, "wb", buffering=0) as file:
        for at in range(0, size, 1 << 24):
            file.write(rng.randbytes(min(1 << 24, size - at)))
