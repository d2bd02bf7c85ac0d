"""Sets of multiple-choice questions about pictures and videos, asked and read as lmms-eval does."""
