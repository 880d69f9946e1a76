"""The command line: parses, wires and calls; all else is importable elsewhere."""

from rudder.agents.cli.app import main

__all__ = ["main"]
