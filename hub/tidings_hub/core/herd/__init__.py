"""Decisions for many clients that connect at the same time."""
