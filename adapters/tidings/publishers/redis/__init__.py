"""Publishing to Redis and Redis Cluster.

publisher: one Redis, or one bucket of a cluster. cluster: all buckets. batch: the retries of one publish.
publish_call: packs the call of publish.lua. presence_query: packs the call of members.lua.
"""
