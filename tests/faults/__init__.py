"""Real processes, continuous load, recorded histories: `make faults`, and a short form in `make test`."""
