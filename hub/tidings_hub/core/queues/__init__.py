"""Messages of durable queues: how each one ends."""
