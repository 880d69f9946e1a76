"""One run from its config to its end: processes started, watched and ended."""
