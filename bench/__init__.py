"""Benchmarks: variants of a loader take turns in the same trainers, on the same servers."""
