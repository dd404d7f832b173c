"""Waiting for something observable, with a deadline: the only kind of waiting in this suite."""

import time


def until(probe, what, seconds=20.0, every=0.05):
    """Calls `probe` until it gives something truthy, and returns that."""
    deadline = time.monotonic() + seconds
    while True:
        found = probe()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(every)
