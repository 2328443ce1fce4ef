"""Code of users that runs in a hub: how it is declared, loaded, called and contained (docs/handlers.md)."""
