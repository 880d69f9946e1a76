"""What-if estimates: what other settings would fetch, and how long the trainer would wait."""
