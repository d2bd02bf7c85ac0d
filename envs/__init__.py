"""The simulators, behind one interface (`envs.base.Env`). Nothing here knows of models.

Importing it registers them with Gymnasium: `import envs; gymnasium.make("vldac/NumberLine-v0")`.
"""

from envs.registry import register_with_gymnasium

register_with_gymnasium()
