"""DistDGL partitions on disk, from a dataset name."""
