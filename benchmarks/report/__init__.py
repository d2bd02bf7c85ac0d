"""Scores of two models side by side: differences with intervals, a page and a figure."""
