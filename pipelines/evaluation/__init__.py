"""Scores of a registered version: episodes in its simulator, and benchmarks."""
