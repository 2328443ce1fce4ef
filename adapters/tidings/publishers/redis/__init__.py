"""Publish straight to Redis or Redis Cluster."""
