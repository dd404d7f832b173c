"""P9: sandboxes made and destroyed on all cores."""

import json
import statistics
import subprocess

from measure import ROOT, ROUNDS, TARGET
from report import Row
from virga import everywhere

SECONDS = 3
# Arguments and the member of the answer: 300 process sandboxes, eight at once; as many guests as come in the time.
EXAMPLES = (
    ("sandbox", "churn", ["300", "8"], "at_once_per_s", "process sandboxes", 200),
    ("sandbox-wasm", "churn_wasm", [str(SECONDS)], "rate", "wasm sandboxes", 5000),
)


def run():
    """The examples of the two back ends that do nothing else."""
    rows = []
    for package, example, arguments, member, what, goal in EXAMPLES:
        build = ["cargo", "build", "--locked", "--release", "--quiet", "-p", package, "--example", example]
        subprocess.run(build, cwd=ROOT, check=True)
        seen = [_churn([TARGET / "release" / "examples" / example, *arguments])[member] for _ in range(ROUNDS)]
        rows.append(Row("P9", f"{what} made and destroyed", "goal", None, statistics.median(seen), "/s", goal, "value", note="all cores"))
    return rows


def _churn(command):
    done = subprocess.run(everywhere(command), capture_output=True, text=True, check=True, timeout=120)
    return json.loads(done.stdout)
