"""The control port of a running trainer: commands in, answers and metrics windows out."""
