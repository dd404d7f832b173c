"""The AWS CLI, as its own program runs it, told by lines: a JSON list of arguments in, what it printed and its exit code out.

In a process of its own: importing it gives everybody there its own botocore.
"""

import contextlib
import io
import json
import sys

import awscli.clidriver


DRIVER = awscli.clidriver.create_clidriver()


def run(arguments):
    """What the program would have printed on both, and its exit code."""
    printed, complaint = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True), io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(complaint):
        try:
            code = DRIVER.main(arguments)
        except SystemExit as left:
            code = left.code
    return {"code": code, "printed": printed.buffer.getvalue().decode(), "complaint": complaint.getvalue()}


for line in sys.stdin:
    print(json.dumps(run(json.loads(line))), flush=True)
