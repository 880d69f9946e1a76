"""The commands of `rudder`, one a file: each parses, wires and calls."""
