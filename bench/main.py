"""Runs the figures that are named (all, where none is) and writes the table."""

import importlib
import os
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import report  # noqa: E402
from measure import LOAD_CORE, ROUNDS  # noqa: E402
from report import Row  # noqa: E402

import virga  # noqa: E402,F401  (puts the end-to-end suite's helpers on the path)

FIGURES = ["P1", "P2", "P3", "P4", "P5", "P6", "P7", "P8", "P9", "P11", "P12", "P14", "R1", "R6", "IMAGES"]


def main():
    """A figure that breaks is a row that says so, and the exit status."""
    rows, broken = [], False
    if (os.cpu_count() or 1) > 1:
        os.sched_setaffinity(0, {LOAD_CORE})
    for figure in sys.argv[1:] or FIGURES:
        begun = time.monotonic()
        try:
            rows += importlib.import_module(f"figures.{figure.lower()}").run()
        except Exception as error:
            broken = True
            rows.append(Row(figure, "could not be measured", "", None, None, "", note=f"{type(error).__name__}: {error}"[:120]))
        print(f"{figure}: {time.monotonic() - begun:.0f} s", file=sys.stderr)
    report.write(rows, ROUNDS)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
