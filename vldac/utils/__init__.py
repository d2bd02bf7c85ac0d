"""Files, errors, child processes, randomness: what every part stands on. Nothing here loads a model library."""
