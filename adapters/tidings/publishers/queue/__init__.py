"""Publish over a message queue, with kombu."""
