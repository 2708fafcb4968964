"""Runs the tools of a row in turns, and turns their figures into a table and lines of JSON."""

import json
import os
import statistics
import sys


def fail(message):
    sys.exit(f"bench: {message}")


class Row:
    """One comparison. A tool is measured by `measure`, once a round."""

    # What it is called on the command line.
    name = ""
    # What is compared, for people.
    title = ""
    # The first one is what this is about.
    tools = ("osync",)
    # Ratios are given to these.
    anchors = ()
    unit = "s"

    def __init__(self, place, options):
        self.place = place
        self.options = options
        self.source = os.path.join(place, "source")
        self.target = os.path.join(place, "target")
        # Of osync.
        self.state = os.path.join(place, "state")

    def need_files(self, files):
        """Makes sure that so many files can be made twice: a tmpfs that has no number left looks full to all."""
        free = os.statvfs(self.place)
        # File systems that have no such limit say that it is 0.
        if free.f_files and free.f_favail < 2 * files:
            fail(f"{self.place} takes {free.f_favail} more files, {self.name} needs {2 * files}: see --dir")

    def prepare(self):
        """Makes what all runs need. Returns what it is, for people."""
        raise NotImplementedError

    def measure(self, tool):
        """One run. Returns the figure in `unit`, and others by name."""
        raise NotImplementedError

    def finish(self):
        """After the last run."""


def run(row, tools, rounds):
    """All runs of a row; lines of JSON, one for each tool."""
    about = row.prepare()
    print(f"{row.name}: {row.title}; {about}; {rounds} rounds", flush=True)
    samples = {tool: [] for tool in tools}
    for number in range(rounds):
        first = number % len(tools)
        for tool in tools[first:] + tools[:first]:
            samples[tool].append(row.measure(tool))
        figures = (f"{tool} {samples[tool][-1][0]:.4g} {row.unit}" for tool in tools)
        print(f"  round {number + 1} of {rounds}: " + ", ".join(figures), file=sys.stderr)
    row.finish()
    return summary(row, about, samples)


def summary(row, about, samples):
    """Medians, spread, and ratios of medians."""
    figures = {tool: [figure for figure, _ in runs] for tool, runs in samples.items()}
    medians = {tool: statistics.median(runs) for tool, runs in figures.items()}
    lines = []
    for tool, runs in figures.items():
        others = {}
        for name in samples[tool][0][1]:
            others[name] = round(statistics.median(more[name] for _, more in samples[tool]), 4)
        ratios = {
            f"ratio_to_{anchor}": round(medians[tool] / medians[anchor], 3)
            for anchor in row.anchors
            if anchor in medians and medians[anchor]
        }
        lines.append({
            "benchmark": row.name,
            "about": about,
            "tool": tool,
            "unit": row.unit,
            "rounds": len(runs),
            "median": round(medians[tool], 4),
            "min": round(min(runs), 4),
            "max": round(max(runs), 4),
            **ratios,
            **others,
        })
    return lines


# What stands in the table; all else in a line of JSON is a figure of its own.
FIXED = ("benchmark", "about", "tool", "unit", "rounds", "median", "min", "max")


def print_table(row, lines):
    """A table in the form of docs/benchmarks.md."""
    anchors = [anchor for anchor in row.anchors if f"ratio_to_{anchor}" in lines[0]]
    others = [name for name in lines[0] if name not in FIXED and not name.startswith("ratio_to_")]
    head = ["tool", f"median, {row.unit}", "min .. max", *(f"to {anchor}" for anchor in anchors), *others]
    print("\n| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    for line in lines:
        ratios = [f"{line[f'ratio_to_{anchor}']:.2f}" for anchor in anchors]
        more = [f"{line[name]:g}" if name in line else "" for name in others]
        span = f"{line['min']:.4g} .. {line['max']:.4g}"
        print("| " + " | ".join([line["tool"], f"{line['median']:.4g}", span, *ratios, *more]) + " |")
    print()
    for line in lines:
        print(json.dumps(line))
    print(flush=True)
