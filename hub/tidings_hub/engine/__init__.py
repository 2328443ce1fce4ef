"""The HTTP server and Engine.IO v4 server of a node; it owns every client socket through one epoll: see docs/architecture.md#layers."""
