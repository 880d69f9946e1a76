"""Measuring loaders side by side: variants take turns in the same trainers, on the same servers."""
