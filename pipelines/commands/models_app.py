"""`vldac models …`: the registered models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter, validators

from pipelines.commands.declarations import WITHIN, Flag, print_lines

app = App(
    name="models",
    help="The registered models: list, compare, promote, roll back, fetch, push, pull.",
    group_commands=WITHIN,
)


@app.command(name="list")
def models_list(*, checkpoints: Flag = False, env: str | None = None) -> int:
    """List versions with their aliases and scores.

    Args:
        checkpoints: list every logged policy instead, the best first.
        env: only those of this environment, such as MiniWorld-Hallway-v0.
    """
    from pipelines.commands import models as command  # noqa: PLC0415

    return print_lines(command.list_versions(env, checkpoints=checkpoints))


@app.command
def compare(a: str, b: str, /, *, play: Annotated[int, Parameter(validator=validators.Number(gte=0))] = 0) -> int:
    """Show two versions side by side, and in what their parameters differ.

    With `--play N` both play the same N episodes: the difference with its paired 95% interval, and McNemar's test.

    Args:
        a: NAME@champion, NAME/3, or NAME for its candidate.
        b: the other version.
        play: episodes that both play first, with the same seeds; 0 compares what is recorded.
    """
    from pipelines.commands import models as command  # noqa: PLC0415

    if play:
        return print_lines(command.play(a, b, play))
    return print_lines(command.compare(a, b))


@app.command(name="serve")
def models_serve(
    model: str = "models/policy",
    /,
    *,
    host: str = "127.0.0.1",
    port: int = 5001,
    batch_size: Annotated[int, Parameter(validator=validators.Number(gte=1))] = 16,
    queue: Annotated[int, Parameter(validator=validators.Number(gte=1))] = 64,
    patience: Annotated[float, Parameter(validator=validators.Number(gt=0))] = 30.0,
) -> int:
    """Answer questions over HTTP with a policy: POST /act, with /health, /ready and /metrics.

    With another `--host`, requests need the token of the environment variable VLDAC_SERVE_TOKEN.

    Args:
        model: models:/NAME@champion, NAME/3, or a policy's directory.
        host: address to listen on.
        port: to listen on.
        batch_size: questions that are answered at once, at most.
        queue: questions that wait, at most; more are refused with status 503.
        patience: seconds within which a question's turn must come.
    """
    from pipelines.commands import models as command  # noqa: PLC0415

    command.serve(model, host=host, port=port, batch_size=batch_size, queue=queue, patience=patience)
    return 0


@app.command
def report(a: str, b: str, /, *, out: Path = Path("report")) -> int:
    """Draw a page with the benchmarks of two versions side by side.

    Args:
        a: NAME@champion, NAME/3, or NAME for its candidate.
        b: the other version.
        out: directory of the page.
    """
    from pipelines.commands import models as command  # noqa: PLC0415

    return print_lines(command.report(a, b, out))


@app.command
def promote(version: str, /, *, dry_run: Flag = False) -> int:
    """Make a version the champion, if the rule says so.

    Args:
        version: NAME@candidate or NAME/3.
        dry_run: only say what would happen.
    """
    from pipelines.commands import models as command  # noqa: PLC0415

    return print_lines(command.promote(version, dry_run=dry_run))


@app.command
def rollback(name: str, /, *, reason: str) -> int:
    """Make the champion before the present one champion again.

    Args:
        name: of the registered model.
        reason: kept with the version that stops being champion.
    """
    from pipelines.commands import models as command  # noqa: PLC0415

    return print_lines(command.rollback(name, reason))


@app.command
def fetch(version: str, directory: Path, /) -> int:
    """Download a version, verified.

    Args:
        version: such as models:/NAME@champion.
        directory: takes policy, base and params.yaml; must not exist.
    """
    from pipelines.commands import models as command  # noqa: PLC0415

    return print_lines(command.fetch(version, directory))


@app.command
def push(version: str, target: str, /, *, public: Flag = False) -> int:
    """Write a version, with its model card, to a folder or to a repository of Hugging Face's hub.

    Args:
        version: such as models:/NAME@champion.
        target: a folder that does not exist, or hf://OWNER/NAME.
        public: let everybody see a repository that is made; without, it is private.
    """
    from pipelines.commands import models as command  # noqa: PLC0415

    return print_lines(command.push(version, target, public=public))


@app.command
def pull(source: str, directory: Path, /) -> int:
    """Bring a version that was pushed, verified.

    Args:
        source: a folder that push wrote, or hf://OWNER/NAME, which may end in @REVISION.
        directory: takes policy, base, params.yaml and the model card; must not exist.
    """
    from pipelines.commands import models as command  # noqa: PLC0415

    return print_lines(command.pull(source, directory))


@app.command
def trace(version: str, /) -> int:
    """Go from a version back to the code, data and parameters that made it.

    Args:
        version: such as models:/NAME/3.
    """
    from pipelines.commands import models as command  # noqa: PLC0415

    return print_lines(command.trace(version))
