"""The health of one node: rules of readiness, and stalls of the event loop."""
