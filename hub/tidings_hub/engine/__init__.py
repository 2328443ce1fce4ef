"""The front door and a strict Engine.IO v4 server on an epoll of our own (DESIGN section 4)."""
