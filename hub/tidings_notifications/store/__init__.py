"""The tables of inboxes in SQLite, PostgreSQL, MariaDB and MySQL: their statements, transactions and migrations."""
