"""What a node does for clients and backends."""
