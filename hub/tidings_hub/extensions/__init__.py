"""Code of users: an app's handlers, and HTTP hooks."""
