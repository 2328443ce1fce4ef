"""The health of a broker: its canaries, its parts and its configuration."""
