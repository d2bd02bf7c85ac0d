"""The simulators, behind one interface (`envs.base.Env`). Nothing here knows of models."""
