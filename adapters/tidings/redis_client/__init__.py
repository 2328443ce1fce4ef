"""The Redis client that emitters and hubs share. It knows neither publishers nor brokers.

url: parse a URL and connect, also through Sentinel. topology: find a bucket's master in a cluster.
connection, async_connection: pools with a deadline per call. keys: the names of all keys. buckets: channel to bucket.
scripts: load the Lua scripts and pack commands. queries: requests to nodes and to Redis, independent of the I/O.
"""
