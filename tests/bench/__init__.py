"""The benchmark suite: tidings and its peers side by side, on one machine, in one run."""
