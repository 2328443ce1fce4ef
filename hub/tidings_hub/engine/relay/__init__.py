"""Forwarding of requests whose session another node owns."""
