"""Graphs in: from the name of a dataset to arrays that have been checked.

`registry.load_dataset` is the door. It gives a `graph.Graph`, whatever the source: graphs that
are drawn (`synthetic`), the packages that apt knows (`debian`), the user's own files (`files`) and
public datasets (`public`).
"""
