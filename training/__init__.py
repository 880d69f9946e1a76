"""Distributed training on DistDGL: graphs in, hosts and processes, the loader and its buffer.

This package knows nothing of agents; they reach a running trainer through `control` only.
"""
