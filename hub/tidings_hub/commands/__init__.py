"""The commands besides `serve`. Most of them work without the extra `[server]`."""
