"""Redis connections, keys and scripts that emitters and hubs share."""
