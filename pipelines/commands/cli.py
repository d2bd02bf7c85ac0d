"""The command `vldac`: every command of the project under one name.

There are two kinds of commands, so that each option is declared in one place:

- Those of the method, the benchmarks and the environments are modules that also run as `python -m vldac.train`, by
  themselves or as child processes of DVC stages, without any package of the pipeline. Their options are declared there,
  with argparse. Here they are names in `MODULES`: the command becomes that process, and every option, `--help` too, is
  passed on as it was typed. (`study` is `python -m vldac.evaluation.study` with MLflow around it.)
- Those of the pipeline are functions below, whose signatures and docstrings are the declaration. Each imports what it
  calls when it is called: `vldac --help` loads neither torch nor MLflow, Prefect or DVC.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from cyclopts import App, CycloptsError, Group, Parameter

import vldac
from pipelines.commands.declarations import METHOD, WITHIN, Flag, print_lines
from pipelines.commands.envs_app import app as envs
from pipelines.commands.models_app import app as models
from pipelines.commands.play import play


class Module(NamedTuple):
    """A command that is a module.

    Attributes:
        name: what is run, as `python -m name`.
        summary: the line beside it in a list of commands.
        options: put before those that were typed.
    """

    name: str
    summary: str
    options: tuple[str, ...] = ()


#: By the words that are typed after `vldac`.
MODULES: dict[tuple[str, ...], Module] = {
    ("warm-start",): Module("vldac.warm_start", "Build the base model that training starts from."),
    ("train",): Module("vldac.train", "Train a policy, or resume a run, without the pipeline."),
    ("evaluate",): Module(
        "vldac.evaluation.episodes", "Play episodes in the simulator: random, base and trained policy."
    ),
    ("study",): Module("pipelines.evaluation.studies", "Compare algorithms, seeds and ablations; tables and figures."),
    ("config",): Module("vldac.train", "Print the resolved configuration and the plan that follows.", ("--dry-run",)),
    ("report",): Module("benchmarks.report", "Draw a page that compares two folders of benchmark results."),
    ("gallery",): Module("vldac.evaluation.gallery", "Draw a page with a filmstrip of each environment."),
    ("envs", "shop"): Module("envs.webshop", "Open the shop of WebShop for people."),
    ("envs", "games"): Module("envs.alfworld.generate", "Make games of ALFWorld ahead of time."),
    ("perf", "train"): Module("perf", "Training: steps/s, tokens/s, shares of time, memory."),
    ("perf", "rollout"): Module(
        "perf.rollout", "Rollouts: steps/s with simulators in one group and in two, and shares of time."
    ),
    ("perf", "gpu"): Module("perf.gpu", "Large models with random weights on a GPU: steps/s, FLOP/s, memory."),
    ("perf", "benchmarks"): Module("perf.benchmarks", "Benchmarks: answers/s."),
    ("perf", "serving"): Module(
        "perf.serving", "A served policy: answers/s and latency, in batches and one at a time."
    ),
    ("perf", "envs"): Module("perf.environments", "Each environment alone, and what players reach in it."),
}

_PIPELINE = Group("The pipeline, with DVC, Prefect and MLflow", sort_key=1)
_ABOUT = Group("Other", sort_key=3)

Passed = Annotated[str, Parameter(allow_leading_hyphen=True, show=False)]
Params = Annotated[str, Parameter(name="--params")]
Overrides = Annotated[tuple[str, ...], Parameter(name="--set", negative=())]
Several = Parameter(consume_multiple=True, negative=())
Devices = Annotated[int, Parameter(name="--devices")]

app = App(
    name="vldac",
    help="Teach a vision-language model to act. `vldac COMMAND --help` has the options of a command.",
    help_format="markdown",
    suppress_keyboard_interrupt=False,  # `report_errors` says why the command ended
    version=lambda: f"vldac {vldac.__version__}",
    group_commands=_PIPELINE,
    default_parameter=Parameter(show_default=lambda value: None if value in ((), "", False) else value),
    result_action="return_value",
)
for _flag in ("--help", "--version"):
    app[_flag].group = _ABOUT
perf = App(name="perf", help="Measure speed (in a checkout).", group=METHOD, group_commands=WITHIN)
for _group in (models, envs, perf):
    app.command(_group)


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of the console script: `call` by the code of the checkout that the user stands in."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    _stay_with_the_checkout(arguments)
    return call(arguments)


def call(arguments: Sequence[str]) -> int:
    """Runs a command and returns the exit status; a failure that a person can mend is one line on stderr."""
    from pipelines.core import errors, network  # noqa: PLC0415  # takes longer than all else that --help needs

    network.bypass_proxy(os.environ)
    return errors.run(lambda: _run(arguments))


def _run(arguments: Sequence[str]) -> int:
    try:
        return app(arguments, exit_on_error=False, print_error=False) or 0
    except CycloptsError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2


def _stay_with_the_checkout(arguments: Sequence[str]) -> None:
    """Starts the code of the checkout that the user stands in, if the installed command is of another one.

    Stages and other child processes are `python -m ...`, which takes the code of the current directory: parent and
    children must not be of two revisions.
    """
    here = Path("pipelines/commands/cli.py")
    if here.is_file() and not here.samefile(__file__) and not sys.flags.safe_path:
        _become("vldac", arguments)


def _become(module: str, arguments: Iterable[str]) -> None:
    """Takes `python -m module` in the place of this process."""
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", module, *arguments])  # noqa: S606  # no shell


def _module_command(name: str, module: Module) -> App:
    command = App(
        name=name,
        help=module.summary,
        help_flags=[],
        version_flags=[],
        end_of_options_delimiter="",
        group=METHOD,
    )

    @command.default
    def run(*arguments: Passed) -> int:
        if module.name.startswith("perf"):
            _need_perf()
        _become(module.name, [*module.options, *arguments])
        return 0

    return command


def _need_perf() -> None:
    from importlib.util import find_spec  # noqa: PLC0415

    from pipelines.core.errors import PipelineError  # noqa: PLC0415

    if find_spec("perf") is None and not Path("perf/__main__.py").is_file():
        raise PipelineError("the measurements of speed are not installed; type this in a checkout of the project")


for _words, _module in MODULES.items():
    _parent = {"envs": envs, "perf": perf}.get(_words[0], app)
    _parent.command(_module_command(_words[-1], _module))


@app.command
def run(
    *,
    params: Params = "",
    overrides: Overrides = (),
    steps: Annotated[tuple[str, ...], Several] = (),
    force: Flag = False,
) -> int:
    """Run the whole pipeline: base model, training, registration, evaluation, benchmarks, promotion.

    Args:
        params: params file of the project; default: params.yaml.
        overrides: KEY=VALUE such as `train.gamma=0.9`, or a preset such as `env=numberline`; may be repeated.
        steps: some of the steps only, in their order.
        force: run stages even if they are up to date.
    """
    from pipelines.commands import run as command  # noqa: PLC0415

    return command.run(params, overrides, steps, force=force)


@app.command
def benchmark(
    model: str,
    /,
    *options: Passed,
    benchmark: Annotated[tuple[str, ...], Several] = (),
    base: str | None = None,
    params: Path | None = None,
) -> int:
    """Benchmark a model; every other option is one of `python -m benchmarks`, such as `--profile full`.

    Results of a registered version are kept with it; those of any model lie in .local/runs. A killed benchmark resumes:
    type the same command again.

    Args:
        model: models:/NAME@champion, NAME/3, a directory, or a hub id.
        options: of `python -m benchmarks`.
        benchmark: one or more; default: the four that the pipeline runs.
        base: of a policy's directory; default: `base` beside it, or what it names.
        params: take the values of this params file, such as params.yaml.
    """
    from pipelines.evaluation import benchmarks as command  # noqa: PLC0415
    from pipelines.tracking.benchmark_scores import STAGES  # noqa: PLC0415

    return command.run_benchmarks(model, benchmark or STAGES, options, base=base, params=params)


@app.command
def watch(
    model: str = "models/policy",
    /,
    *,
    env: str | None = None,
    seed: Annotated[tuple[int, ...], Several] = (),
    base: Flag = False,
    episodes: int = 8,
    out: Path = Path("watch"),
) -> int:
    """Watch a policy play, token by token: a page that needs no other file, and an animated GIF.

    Args:
        model: models:/NAME@champion, NAME/3, or a policy's directory.
        env: id or preset of another environment than the one it was trained in.
        seed: to show, one or more; default: of several evaluation seeds the hardest success and a failure.
        base: play the base model on the same seeds, side by side.
        episodes: evaluation seeds to choose from.
        out: directory of index.html and episodes.gif.
    """
    from pipelines.evaluation import watching as command  # noqa: PLC0415

    return command.watch(model, env=env, seeds=seed, beside_base=base, episodes=episodes, out=out)


app.command(play)


@app.command
def serve(
    *,
    host: str = "127.0.0.1",
    prefect_port: int = 4200,
    mlflow_port: int = 5000,
    devices: Devices = 1,
    only: Literal["servers", "worker"] | None = None,
    metrics_port: int | None = None,
) -> int:
    """Run the Prefect server, the MLflow server and a worker together until Ctrl-C.

    With another `--host`, both servers need a password, from the environment:
    PREFECT_SERVER_API_AUTH_STRING=user:password, MLFLOW_AUTH_ADMIN_USERNAME and MLFLOW_AUTH_ADMIN_PASSWORD.

    Args:
        host: address to listen on.
        prefect_port: of the Prefect server.
        mlflow_port: of the MLflow server.
        devices: runs that may use a device at a time.
        only: the two servers, or a worker of servers that PREFECT_API_URL and MLFLOW_TRACKING_URI name.
        metrics_port: serve metrics of running trainings there, as `vldac metrics` does.
    """
    from pipelines.commands import serve as command  # noqa: PLC0415

    plan = command.Plan(
        root=Path.cwd(),
        host=host,
        prefect_port=prefect_port,
        mlflow_port=mlflow_port,
        devices=devices,
        servers=only != "worker",
        worker=only != "servers",
        metrics_port=metrics_port,
    )
    command.check(plan)
    command.serve(plan)
    return 0


@app.command
def prefect(*, port: int | None = None) -> int:
    """Open the pages of past runs.

    Args:
        port: default: 4200.
    """
    from pipelines.commands import pages  # noqa: PLC0415

    return pages.open_page("prefect", port)


@app.command
def mlflow(*, port: int | None = None) -> int:
    """Open metrics and the model registry.

    Args:
        port: default: 5000.
    """
    from pipelines.commands import pages  # noqa: PLC0415

    return pages.open_page("mlflow", port)


@app.command
def metrics(*, host: str = "127.0.0.1", port: int = 9400) -> int:
    """Serve metrics of running trainings to Prometheus.

    Args:
        host: address to listen on; they tell of runs and free space, and hold no secret.
        port: to listen on.
    """
    from pipelines.commands import pages  # noqa: PLC0415
    from pipelines.tracking import prometheus  # noqa: PLC0415

    pages.free(port, host, f"vldac metrics --port {port + 1}")
    prometheus.serve(Path.cwd(), host, port)
    return 0


@app.command
def deployments(*, devices: Devices | None = None, schedules: Flag = False) -> int:
    """Create work pool, limits and deployments on the Prefect server that PREFECT_API_URL names.

    Args:
        devices: runs that may use a device at a time; default: as it is, 1 on a new server.
        schedules: bring back the schedules of prefect.yaml; default: those of deployments that are there stay.
    """
    from pipelines.orchestration import deployments as command  # noqa: PLC0415

    return command.deploy(devices, schedules=schedules)


@app.command
def new(directory: Path, /) -> int:
    """Start a project: parameters, presets and stages in a directory of their own, for use without a checkout.

    Args:
        directory: must not exist, or be empty.
    """
    from pipelines.commands import new as command  # noqa: PLC0415

    return print_lines(command.create(directory))


@app.command(group=_ABOUT)
def doctor() -> int:
    """Look at what a run needs of this machine: a line each, with a cure for what is missing.

    Fails if a run would.
    """
    from pipelines.commands import doctor as command  # noqa: PLC0415

    failed = False
    for name, (verdict, text) in command.examine(Path.cwd()):
        print(f"{verdict:<4}  {name:<9}  {text}", flush=True)
        failed |= verdict == "FAIL"
    return int(failed)


@app.command(group=_ABOUT)
def gc(
    *,
    dry_run: Flag = False,
    older_than: str = "30d",
    keep_last: int = 1,
    budget: str | None = None,
    keep_champions: Flag = False,
) -> int:
    """Remove what nothing needs any more: run directories, checkouts, DVC's cache, MLflow's deletions, old flow runs.

    Never removes what a registered version is made of, what a commit or a checkout names, or what a process works in.

    Args:
        dry_run: only say what would go, how large and old it is, and why nothing needs it.
        older_than: keep what was of use since then: 12h, 30d, 8w.
        keep_last: keep the newest of each kind, so many of them.
        budget: remove the oldest only, until all together take no more than this: 20GB, 500MB.
        keep_champions: keep the checkpoints and checkouts of versions that an alias names or that were champion.
    """
    from pipelines.commands import gc as command  # noqa: PLC0415

    policy = command.policy_of(older_than, keep_last, budget, champions=keep_champions)
    command.collect(Path.cwd(), policy, dry_run=dry_run, say=lambda line: print(line, flush=True))
    return 0


@app.command(group=_ABOUT)
def version() -> int:
    """Print the version."""
    return print_lines([f"vldac {vldac.__version__}"])


if __name__ == "__main__":
    raise SystemExit(main())
