"""Doubted cursors: the script that stores and announces them, and their exchange between nodes."""
