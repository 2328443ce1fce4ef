"""Publish over the hub's HTTP API."""
