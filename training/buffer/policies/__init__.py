"""The buffer policies, one a file."""
