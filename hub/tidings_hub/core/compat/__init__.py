"""Formats of other emitters and servers."""
