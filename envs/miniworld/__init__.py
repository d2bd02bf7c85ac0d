"""MiniWorld: first-person navigation in three-dimensional rooms."""
