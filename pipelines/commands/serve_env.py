"""`vldac envs serve`: an environment as an OpenEnv server on this machine."""

from __future__ import annotations

from pathlib import Path

from envs import registry
from envs.base import SimulatorError
from pipelines.commands import pages
from pipelines.commands.environments import resolve
from pipelines.core import extensions
from pipelines.core.errors import PipelineError
from vldac.config import Config, load


def serve(env_id: str, *, port: int, sessions: int, options: str = "") -> int:
    """Serves until Ctrl-C.

    Args:
        env_id: of the environment, or the name of a preset of section `env`.
        port: on 127.0.0.1.
        sessions: at once, each a process.
        options: `env.options` as a YAML mapping; empty for none, or the preset's.

    Raises:
        PipelineError: OpenEnv is not installed, or the environment is unknown or cannot be made here.
    """
    root = Path.cwd()
    extensions.make_importable(root, load(root / "params.yaml") if (root / "params.yaml").is_file() else Config())
    pages.free(port, pages.HOST, f"vldac envs serve {env_id} --port {port + 1}")
    name, make_options = resolve(env_id, options, root)
    try:
        registry.make(name, **make_options).close()
    except (SimulatorError, ValueError) as error:
        raise PipelineError(str(error)) from error
    try:
        from envs.openenv import server  # noqa: PLC0415  # an extra
    except ModuleNotFoundError as error:
        cure = registry.how_to_install("openenv")
        raise PipelineError(f"OpenEnv needs the package {error.name!r}; install it with: {cure}") from error
    import uvicorn  # noqa: PLC0415

    print(f"{name} for OpenEnv clients at http://{pages.HOST}:{port} (Ctrl-C ends it)", flush=True)
    app = server.application(name, make_options, sessions=sessions)
    uvicorn.run(app, host=pages.HOST, port=port, log_level="warning", ws_max_size=2**20)
    return 0
