"""Past runs: the memory that later runs recall."""
