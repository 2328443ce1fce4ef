"""State that every bucket of a cluster stores, so that it outlives a bucket that is away."""
