"""A broker in the process itself, for development and tests."""
