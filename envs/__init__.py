"""The simulators, behind one interface (`envs.base.World`). Nothing here knows of models."""
