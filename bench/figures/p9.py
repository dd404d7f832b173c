"""P9: sandboxes made and destroyed on all cores."""

import json
import statistics
import subprocess

from measure import ROOT, ROUNDS, TARGET
from report import Row
from virga import everywhere

SECONDS = 3


def run():
    """The examples of the two back ends that do nothing else."""
    rows = []
    examples = (("sandbox", "churn", "process sandboxes", 200), ("sandbox-wasm", "churn_wasm", "wasm sandboxes", 5000))
    for package, example, what, goal in examples:
        build = ["cargo", "build", "--locked", "--release", "--quiet", "-p", package, "--example", example]
        subprocess.run(build, cwd=ROOT, check=True)
        seen = [_churn(TARGET / "release" / "examples" / example) for _ in range(ROUNDS)]
        rows.append(Row("P9", f"{what} made and destroyed", "goal", None, statistics.median(each["rate"] for each in seen), "/s", goal, "value",
                        note="all cores"))  # fmt: skip
    return rows


def _churn(program):
    done = subprocess.run(everywhere([program, str(SECONDS)]), capture_output=True, text=True, check=True, timeout=120)
    return json.loads(done.stdout)
