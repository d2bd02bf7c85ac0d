"""`vldac play`."""

from __future__ import annotations


def play(model: str | None = None, *, env: str | None = None, port: int = 7700) -> int:
    """Play on a page: act in an environment yourself, or let a model act step by step.

    The page is for this machine only. It offers every environment that is installed and every model of the project;
    shows what is thought token by token and how likely each action was; lets you change what is asked, and ask about a
    picture of your own.

    Args:
        model: that the page opens with: NAME@champion, NAME/3, or a directory; default: the newest one.
        env: id or preset of the environment that it opens with; default: that of the model's training.
        port: to listen on.
    """
    from pipelines.commands import pages  # noqa: PLC0415  # as in cli.py, where the command is registered
    from pipelines.evaluation import playing  # noqa: PLC0415

    pages.free(port, pages.HOST, f"vldac play --port {port + 1}")
    playing.play(model, env=env, port=port)
    return 0
