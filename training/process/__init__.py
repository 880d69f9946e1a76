"""What runs in a process of a run: a graph server, or a trainer."""
