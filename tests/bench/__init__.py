"""The benchmark suite: compares tidings with its peers on one machine."""
