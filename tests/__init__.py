"""Tests; each package mirrors one of the project."""
