"""P5: from zero with 300 ms of user initialisation, once a template of the version is there."""

import statistics
import time

from report import Row
from support import kinds, poll
from virga import first_call, instances, virga

SAMPLES = 15
# Processor time, as imports are, and a clock read once.
CODE = """import time
begun = time.perf_counter()
while time.perf_counter() - begun < 0.3:
    sum(range(1000))
STARTED = time.time()
def handler(event, context):
    return STARTED
"""


def run():
    """The first call after the function has gone to zero, again and again; and the same without templates."""
    ours = _from_zero()
    bare = _from_zero("--template-mb", "0")
    p90 = sorted(ours)[int(len(ours) * 0.9)]
    note = f"p90 {p90:.1f} ms"
    return [
        Row("P5", "Python with 300 ms of initialisation from zero, p50", "goal", None, statistics.median(ours), "ms", 20, "value", "less", note),
        Row("P5", "Python with 300 ms of initialisation from zero, p50", "without templates", statistics.median(bare), statistics.median(ours), "ms",
            1.0, "ratio", "less"),
    ]  # fmt: skip


def _from_zero(*arguments):
    samples = []
    with virga(*arguments) as (server, functions):
        name = functions.deploy({"app.py": CODE}, kinds.system_python(), tags={"virga:idle-timeout": "1"})
        # The first start is plain, the template is made after it.
        for _ in range(SAMPLES + 2):
            samples.append(first_call(server, name))
            poll.until(lambda: instances(server, name) == 0, "the function is at zero", 30)
            time.sleep(0.5)
    return samples[2:]
