"""Alembic's environment: `env.py` is called for each migration, `versions` has them."""
