"""The prefetch buffer: which remote rows stay near. Ids and scores, no agents, no threads.

Policies number remote nodes 0 .. num_remote - 1 (PartitionView.to_remote) and know no tensors;
`rows.py` holds the rows that they decide on.
"""
