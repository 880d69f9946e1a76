"""What any policy would have fetched: recorded traces, replayed without a cluster."""
