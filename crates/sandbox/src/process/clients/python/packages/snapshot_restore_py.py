"""Hooks around the template of a function, under the names that AWS's `snapshot-restore-py` has for them.

There for functions whose package does not bring the library. `register_before_snapshot` and
`register_after_restore` are decorators and functions: `register_after_restore(connect, address, timeout=3)`.
"""

_before_snapshot = []
_after_restore = []


def register_before_snapshot(func, *args, **kwargs):
    """Has `func` called before the template is taken, in the reverse order of registration."""
    _before_snapshot.append((func, args, kwargs))
    return func


def register_after_restore(func, *args, **kwargs):
    """Has `func` called in every instance that begins as the template, in the order of registration."""
    _after_restore.append((func, args, kwargs))
    return func


def get_before_snapshot():
    return _before_snapshot


def get_after_restore():
    return _after_restore
