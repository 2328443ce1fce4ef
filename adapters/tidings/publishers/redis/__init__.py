"""Publishing to Redis and Redis Cluster, and handing over notifications.

publisher: one Redis, or one bucket of a cluster. cluster: all buckets. batch: the retries of one call.
publish_call, notify_call: pack the calls of publish.lua and notify.lua. presence_query: packs the call of members.lua.
"""
