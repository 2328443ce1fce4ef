"""The process: it builds, runs, watches and drains the parts."""
