"""HTTP servers that play a language model, for tests and benchmarks."""
