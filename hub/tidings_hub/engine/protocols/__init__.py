"""HTTP/1.1, WebSocket and Engine.IO without I/O: parse requests and packets, render responses and frames."""
