"""Socket.IO v5 on the engine, and the client events of tidings (PROTOCOL.md)."""
