"""`vldac envs …`: the environments."""

from __future__ import annotations

from pathlib import Path

from cyclopts import App

from pipelines.commands.declarations import METHOD, WITHIN, Flag, print_lines

app = App(
    name="envs",
    help="The environments: list, check, and what prepares or shows them.",
    group=METHOD,
    group_commands=WITHIN,
)


@app.command(name="list")
def envs_list(*, presets: Flag = False) -> int:
    """List the ids of the environments.

    Args:
        presets: list the presets of section `env` instead.
    """
    from envs.registry import registered  # noqa: PLC0415
    from vldac.config import presets as known  # noqa: PLC0415

    return print_lines(known.names("env", known.folder_of(Path("params.yaml"))) if presets else registered())


@app.command(name="new")
def envs_new(name: str, /) -> int:
    """Write an environment of your own that runs at once, its test and its preset.

    Args:
        name: such as `my_maze`: extensions/my_maze.py with the class MyMaze, and the preset conf/env/my_maze.yaml.
    """
    from pipelines.commands import new_env as command  # noqa: PLC0415

    return print_lines(command.create(name))


@app.command
def check(env_id: str, /, *, episodes: int = 10, seed: int = 0, options: str = "") -> int:
    """Check an environment on this machine: interface, hostile answers, speed, and what players reach.

    Prints a line each, with a verdict, and fails if one fails.

    Args:
        env_id: such as MiniWorld-Hallway-v0, gymnasium:CartPole-v1, "module:Class", or a preset of section `env`.
        episodes: of the random player and of the expert, at most: a slow one stops after 10 s.
        seed: of all other episodes and of the actions.
        options: `env.options` as YAML, such as '{solvable_only: true}'.
    """
    from pipelines.commands import environments  # noqa: PLC0415

    failed = False
    for verdict, text in environments.check(env_id, episodes=episodes, seed=seed, options=options):
        print(f"{verdict:<4}  {text}", flush=True)
        failed |= verdict == "FAIL"
    return int(failed)


@app.command(name="serve")
def envs_serve(env_id: str, /, *, port: int = 8000, sessions: int = 8, options: str = "") -> int:
    """Serve an environment to OpenEnv clients, such as TRL, on 127.0.0.1 until Ctrl-C.

    Args:
        env_id: such as GymCards-NumberLine-v0, or a preset of section `env`, which has its size and frames too.
        port: to listen on.
        sessions: at once, each a process with one simulator.
        options: `env.options` as YAML.
    """
    from pipelines.commands import serve_env as command  # noqa: PLC0415

    return command.serve(env_id, port=port, sessions=sessions, options=options)
