"""Revocations of users and tokens."""
