"""Web Push: messages for a browser that has no connection (RFC 8030, 8188, 8291, 8292)."""
