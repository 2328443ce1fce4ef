"""Formats that backends, hubs and clients share; PROTOCOL.md describes them. No I/O."""
