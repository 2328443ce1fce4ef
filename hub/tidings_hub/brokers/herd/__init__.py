"""Reads of the broker that many clients share."""
