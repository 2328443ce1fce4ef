"""Thin integrations: each module is for one framework, and is imported only by who uses that one."""
