"""The HTTP API for nodes."""
