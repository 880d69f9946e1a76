"""The prefetch buffer: which remote rows a trainer keeps. Ids and scores, no agents, no threads.

Policies number remote nodes 0 .. num_remote - 1 (PartitionView.to_remote) and work without tensors;
the rows themselves are in `rows.py`.
"""
