"""The figures, one file each; `run()` gives rows."""
