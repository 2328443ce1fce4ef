"""Requests of a session that lives on another node."""
