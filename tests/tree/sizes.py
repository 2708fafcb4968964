"""The command line that make and mutate share."""

import argparse
import os

from parts import PARTS


def arguments(doc, outside=False):
    """Parses it. Directories become absolute, as every part works in a directory of its own."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("dir", type=os.path.abspath)
    parser.add_argument("--many", type=int, default=20_000, help="entries of the largest directory")
    parser.add_argument("--moved", type=int, default=5_000, help="files in a directory that moves")
    parser.add_argument("--only", nargs="+", default=list(PARTS), choices=list(PARTS), metavar="PART")
    if outside:
        parser.add_argument("--outside", type=os.path.abspath, required=True)
    return parser.parse_args()
