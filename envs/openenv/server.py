"""Any environment of this project as an OpenEnv server, pictures included.

    from openenv.core import GenericEnvClient
    with GenericEnvClient(base_url="http://127.0.0.1:8000").sync() as env:
        result = env.reset(seed=3)      # result.observation: prompt, images (PNG in base64), actions
        result = env.step({"action": "move forward"})

`observation["metadata"]` tells whether a step was invalid, and at the end of an episode `success` and `truncated`. An
action that names nothing legal, or None, costs the environment's penalty, as in training.
"""

from __future__ import annotations

import base64
import io
import random
from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray
from openenv.core.env_server.http_server import create_fastapi_app
from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.types import Action, ConcurrencyConfig, EnvironmentMetadata, Observation, State
from PIL import Image
from pydantic import Field
from starlette.types import ASGIApp, Receive, Scope, Send

from envs.base import TRAINING_SEEDS
from envs.base import Observation as Shown
from envs.vector import VectorEnv

#: Sessions at once, each a process with one simulator, and seconds after which an idle one ends.
SESSIONS, IDLE = 8, 600.0
MOST_CHARACTERS = 65_536
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class WorldAction(Action):
    """What a player does, in the environment's words; None for an answer that named nothing."""

    action: str | None = Field(max_length=MOST_CHARACTERS)


class WorldObservation(Observation):
    """What a player is shown.

    Attributes:
        prompt: the instruction, what the world says, the accepted actions and the answer format.
        images: the last frames, oldest first, each a PNG in base64.
        actions: what is accepted now.
    """

    prompt: str
    images: list[str]
    actions: list[str]


class World(Environment[WorldAction, WorldObservation, State]):
    """One session: one simulator in a process of its own, with the deadline of `envs.vector`.

    Args:
        env_id: see `envs.registry.make`.
        make_options: of `envs.registry.make`.
    """

    SUPPORTS_CONCURRENT_SESSIONS: bool = True
    _random: ClassVar[random.Random] = random.Random()

    def __init__(self, env_id: str, make_options: Mapping[str, Any]) -> None:
        super().__init__()
        self._env_id, self._seeds = env_id, list[int]()
        self._pool = VectorEnv(env_id, 1, num_workers=1, seeds=self._seed, **make_options)
        self._state, self._playing, self._actions = State(), False, tuple[str, ...]()

    def _seed(self, _simulator: int, episode: int) -> int | None:
        """None after the last episode that was asked for, so that the next one does not begin by itself."""
        return self._seeds[episode] if episode < len(self._seeds) else None

    def reset(self, seed: int | None = None, episode_id: str | None = None, **_: Any) -> WorldObservation:
        """Begins an episode; without a seed, one of training."""
        if seed is None:
            seed = self._random.randrange(TRAINING_SEEDS.start, TRAINING_SEEDS.stop)
        self._seeds.append(seed)
        (shown,) = self._pool.begin([len(self._seeds) - 1])
        assert shown is not None
        self._state, self._playing = State(episode_id=episode_id, step_count=0), True
        self._actions = self._pool.action_names[0]
        return _observation(shown, self._actions)

    def step(self, action: WorldAction, timeout_s: float | None = None, **_: Any) -> WorldObservation:
        """Takes a step.

        Raises:
            RuntimeError: no episode is running.
        """
        if not self._playing:
            raise RuntimeError("the episode has ended, or none has begun: reset first")
        result = self._pool.step([action.action])
        info = result.infos[0]
        done = bool(result.terminated[0] or result.truncated[0])
        shown = result.final_observations[0] if done else result.observations[0]
        assert shown is not None
        self._playing = not done
        self._actions = self._pool.action_names[0] or self._actions  # which knows none where an episode has ended
        self._state.step_count += 1
        told: dict[str, Any] = {"invalid": bool(info["invalid"])}
        if done:
            told |= {"success": bool(info["success"]), "truncated": not result.terminated[0]}
        found = _observation(shown, self._actions)
        return found.model_copy(update={"reward": float(result.rewards[0]), "done": done, "metadata": told})

    @property
    def state(self) -> State:
        """The episode's name and its steps."""
        return self._state

    def get_metadata(self) -> EnvironmentMetadata:
        """What the environment is."""
        return EnvironmentMetadata(name=self._env_id, description=f"{self._env_id} of vldac")

    def close(self) -> None:
        """Ends the simulator's process."""
        self._pool.close()


def _observation(shown: Shown, actions: tuple[str, ...]) -> WorldObservation:
    return WorldObservation(
        prompt=shown["prompt"], images=[_png(frame) for frame in shown["frames"]], actions=list(actions)
    )


def _png(frame: NDArray[np.uint8]) -> str:
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode("ascii")


class SameOrigin:
    """Refuses requests that a web page of elsewhere makes, or that go by another name than this machine's own.

    Args:
        app: the application.
        hosts: names of the server, without ports.
    """

    def __init__(self, app: ASGIApp, hosts: frozenset[str] = _LOOPBACK) -> None:
        self.app, self.hosts = app, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, or answers it with 403."""
        if scope["type"] == "lifespan" or self._allowed(scope):
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await send({"type": "http.response.start", "status": 403, "headers": []})
            await send({"type": "http.response.body", "body": b"this server answers its own machine only\n"})

    def _allowed(self, scope: Scope) -> bool:
        given = {name: value.decode("latin-1") for name, value in scope["headers"] if name in (b"host", b"origin")}
        host = given.get(b"host", "")
        try:
            known = urlsplit(f"//{host}").hostname in self.hosts
        except ValueError:
            return False
        return known and given.get(b"origin", f"http://{host}") == f"http://{host}"


def application(env_id: str, make_options: Mapping[str, Any], *, sessions: int = SESSIONS) -> ASGIApp:
    """The server's application, for loopback."""
    app = create_fastapi_app(
        partial(World, env_id, make_options),
        WorldAction,
        WorldObservation,
        env_name=env_id,
        concurrency_config=ConcurrencyConfig(max_concurrent_envs=sessions, session_timeout=IDLE),
        mode="simulation",
    )
    return SameOrigin(app)
