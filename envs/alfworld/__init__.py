"""ALFWorld, household tasks in text (Shridhar et al. 2021, arXiv 2010.03768), with pictures drawn here.

The rules are those of the package `alfworld`: its PDDL domain, run by fast-downward, and its grammar. Official games
are played where they have been downloaded, others are made from the floor plans that the package ships.
"""

from envs.alfworld.env import ALFWorld

__all__ = ["ALFWorld"]
