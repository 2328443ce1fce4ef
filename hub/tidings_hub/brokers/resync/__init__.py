"""Finds and repairs what a node missed: after a broken link, and on a link that stays open."""
