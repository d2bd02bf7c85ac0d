"""A study: algorithms x environments x seeds x ablations, and an equal grid of hyperparameters for every algorithm."""
