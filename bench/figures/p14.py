"""P14: efficiency of keep-alive: a day's trace, compressed, through the same code that decides in the server."""

import json
import subprocess

from measure import ROOT, TARGET
from report import Row


def run():
    """Machine-seconds held per machine-second used, against a fixed time of ten minutes."""
    build = ["cargo", "build", "--locked", "--release", "--quiet", "-p", "functions", "--example", "keep_alive_trace"]
    subprocess.run(build, cwd=ROOT, check=True)
    done = subprocess.run([TARGET / "release" / "examples" / "keep_alive_trace"], capture_output=True, text=True, check=True, timeout=300)
    seen = json.loads(done.stdout)
    fixed, ours = seen["fixed_600s"], seen["predictive_at_most_500s"]
    note = f"a simulated day of 200 functions; cold calls {ours['cold']:,} of {ours['calls']:,}, fixed {fixed['cold']:,}"
    return [Row("P14", "instance-seconds held ÷ used", "fixed keep-alive of 10 minutes", fixed["held_to_used"], ours["held_to_used"], "×", 0.5,
                "ratio", "less", note)]  # fmt: skip
