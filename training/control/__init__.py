"""The only door to a running trainer: commands in, settings in force and windows out."""
