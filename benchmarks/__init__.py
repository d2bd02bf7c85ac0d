"""Exams that training never sees."""
