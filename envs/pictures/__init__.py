"""Questions about pictures that are drawn here: what anyone who sees can answer, and nobody else.

No published set is behind them. They keep a small model's general sight in its warm start, and are the questions of
`benchmarks.suites.understanding`.
"""

from envs.pictures.env import Pictures

__all__ = ["Pictures"]
