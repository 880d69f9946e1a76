"""Past decisions and their outcomes, kept in SQLite."""
