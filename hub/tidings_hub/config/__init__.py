"""Settings: which exist, where they come from, how they are shown."""
