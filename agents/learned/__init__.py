"""Classifiers that learn from past episodes whether a change helps, and the planner they make."""
