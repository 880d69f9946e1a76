"""One run's record: a SQLite file for each rank."""
