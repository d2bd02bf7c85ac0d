"""Any environment that is registered with Gymnasium, as an `Env`."""

from envs.adapter.env import GymnasiumEnv

__all__ = ["GymnasiumEnv"]
