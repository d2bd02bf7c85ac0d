"""BALROG: six games that an agent plays in words."""
