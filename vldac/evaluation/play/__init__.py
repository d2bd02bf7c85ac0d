"""The page of `vldac play`: a person, or a model, acts in an environment step by step."""
