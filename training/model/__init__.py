"""Models, their layers, inference and quality."""
