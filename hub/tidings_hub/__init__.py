"""The hub of tidings: what `tidings serve` runs. Needs the extra `[server]`."""
