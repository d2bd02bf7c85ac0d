"""Sessions: an environment in a process of its own, and the episode that runs in it."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from envs.base import Observation, SimulatorError
from envs.vector import VectorEnv
from vldac.acting import Decision
from vldac.config import EnvConfig
from vldac.evaluation.play.errors import NotFoundError, RefusedError
from vldac.evaluation.player import Answer, data_uri, outcome
from vldac.evaluation.watch import Player, make_options

#: Sessions at a time; each is a process.
MAX_SESSIONS = 4
#: Seconds after which a session that nobody uses is closed.
MAX_IDLE = 900.0
_CLOSED = "this session is closed; begin another one"


class Session:
    """An environment, and the episode that runs in it. What several threads ask of it is done in turn.

    Args:
        name: by which it was chosen.
        env: the environment.
        shown: the section `env` of the model, as which it is shown.
        model: that answers in it; None for none.
        seed: of its first episode.

    Raises:
        SimulatorError: the environment cannot be made.
    """

    def __init__(self, name: str, env: EnvConfig, shown: EnvConfig, model: str | None, seed: int) -> None:
        self.name, self.environment, self.model = secrets.token_urlsafe(16), name, model
        self._lock, self._closed = threading.Lock(), False
        options = make_options(shown, env) | {"reward_scale": 1.0}  # shown as the environment gives it
        self._env = VectorEnv(
            env.id,
            1,
            num_workers=1,
            seeds=_episode_seed,
            step_deadline=shown.step_deadline,
            history=shown.history,
            **options,
        )
        self._observation: Observation
        self._actions: tuple[str, ...] = ()
        self._decision: Decision | None = None
        self._seed = self._steps = self._attempts = 0
        self._return = 0.0
        self._ended: dict[str, Any] | None = None
        try:
            self.begin(seed)
        except BaseException:
            self._env.close()
            raise

    def begin(self, seed: int) -> dict[str, Any]:
        """Begins the episode of a seed, whatever is running, and returns what is shown of it; see `state`."""
        with self._lock:
            self._require_open()
            (observation,) = self._env.begin([2 * seed])
            assert observation is not None
            self._seed, self._steps, self._return, self._ended = seed, 0, 0.0, None
            self._show(observation, self._env.action_names[0])
            return self._state()

    def state(self) -> dict[str, Any]:
        """What a page shows, as JSON values.

        Frames are addresses of pictures, oldest first. `ended` is null while the episode runs.
        """
        with self._lock:
            return self._state()

    def _state(self) -> dict[str, Any]:
        return {
            "session": self.name,
            "environment": self.environment,
            "model": self.model,
            "seed": self._seed,
            "steps": self._steps,
            "return": self._return,
            "frames": [data_uri(frame) for frame in self._observation["frames"]],
            "prompt": self._observation["prompt"],
            "actions": list(self._actions),
            "ended": self._ended,
        }

    def answer(self, player: Player, prompt: str | None) -> Answer:
        """Has a policy answer; `step` may then take its action.

        Args:
            player: the policy.
            prompt: what it is asked in place of the environment's own prompt.

        Raises:
            RefusedError: the episode is over.
            NotFoundError: the session has been closed meanwhile.
        """
        with self._lock:
            self._require_running()
            observation = self._observation.copy()
            if prompt is not None:
                observation["prompt"] = prompt
            self._decision = player.decide(observation, self._seed, self._steps, self._attempts)
            self._attempts += 1
            return player.look_into(self._decision, self._actions)

    def step(self, action: str | None) -> dict[str, Any]:
        """Takes a step, and returns what came of it and the `state` after it.

        Args:
            action: in a person's words, which are taken as those of a model are; None takes the policy's last answer.

        Raises:
            RefusedError: the episode is over, or the policy has not been asked.
            NotFoundError: the session has been closed meanwhile.
            SimulatorError: the environment keeps failing, and the session is of no use any more.
        """
        with self._lock:
            self._require_running()
            by, answer = "person", action
            if action is None:
                if self._decision is None:
                    raise RefusedError("the model has not been asked at this step; ask it first")
                by, action, answer = "model", self._decision.action, self._decision.text
            done = self._env.step([action], [answer or ""])
            reward, info = float(done.rewards[0]), done.infos[0]
            self._steps += 1
            self._return += reward
            if done.terminated[0] or done.truncated[0]:
                self._ended = {"success": info["success"], "outcome": self._outcome(info)}
            observation = done.final_observations[0] if self._ended else done.observations[0]
            assert observation is not None
            self._show(observation, () if self._ended else self._env.action_names[0])
            turn = {"by": by, "action": action, "legal": not info["invalid"], "reward": reward, "total": self._return}
            return {"turn": turn, "state": self._state()}

    def close(self) -> None:
        """Ends the environment's process, after what it is being asked; closing twice is allowed."""
        with self._lock:
            self._closed = True
            self._env.close()

    def _outcome(self, info: dict[str, Any]) -> str:
        if info["lost"]:
            return "the simulator failed, and its episode is lost"
        return outcome(self._steps, self._return, success=info["success"])

    def _show(self, observation: Observation, actions: Sequence[str]) -> None:
        self._observation, self._actions = observation, tuple(actions)
        self._decision, self._attempts = None, 0

    def _require_open(self) -> None:
        if self._closed:
            raise NotFoundError(_CLOSED)

    def _require_running(self) -> None:
        self._require_open()
        if self._ended is not None:
            raise RefusedError("the episode is over; begin another one")


def _episode_seed(_: int, number: int) -> int | None:
    """The seed of an episode: an even number is twice its seed. After it comes none: a person begins the next one."""
    return None if number % 2 else number // 2


class Sessions:
    """The sessions that are open. One too many closes the one that was not used for longest.

    Args:
        most: at a time.
        idle: seconds after which one that nobody uses is closed, by `sweep`.
        clock: the time in seconds.
    """

    def __init__(
        self, most: int = MAX_SESSIONS, idle: float = MAX_IDLE, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most, self._idle, self._clock = most, idle, clock
        self._open: dict[str, tuple[Session, float]] = {}  # with the time of their last use, the oldest first
        self._lock, self._making = threading.Lock(), threading.Lock()

    def open(self, name: str, env: EnvConfig, shown: EnvConfig, model: str | None, seed: int) -> Session:
        """Opens a session; see `Session`. One is opened at a time."""
        with self._making:
            while (oldest := self._one_too_many()) is not None:
                self.close(oldest)
            session = Session(name, env, shown, model, seed)
            with self._lock:
                self._open[session.name] = session, self._clock()
            return session

    @contextmanager
    def use(self, name: str) -> Iterator[Session]:
        """A session, which counts as used now. One whose environment keeps failing is closed.

        Raises:
            NotFoundError: it is closed, or never was open.
        """
        with self._lock:
            if name not in self._open:
                raise NotFoundError(_CLOSED)
            session, _ = self._open.pop(name)
            self._open[name] = session, self._clock()
        try:
            yield session
        except SimulatorError:
            self.close(name)
            raise

    def close(self, name: str) -> None:
        """Closes a session; one that is closed already is left alone."""
        with self._lock:
            session, _ = self._open.pop(name, (None, 0.0))
        if session is not None:
            session.close()

    def sweep(self) -> None:
        """Closes the sessions that nobody has used for long."""
        with self._lock:
            left = [name for name, (_, used) in self._open.items() if self._clock() - used > self._idle]
        for name in left:
            self.close(name)

    def close_all(self) -> None:
        """Closes every session, one that is being opened too."""
        with self._making:
            with self._lock:
                names = list(self._open)
            for name in names:
                self.close(name)

    def _one_too_many(self) -> str | None:
        """The session that was not used for longest, where another one would be one too many."""
        with self._lock:
            return next(iter(self._open)) if len(self._open) >= self._most else None
