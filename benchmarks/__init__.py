"""Benchmarks that training never sees."""
