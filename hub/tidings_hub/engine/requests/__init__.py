"""Requests that the engine does not answer itself: those of the WSGI application, and those that need no WSGI."""
