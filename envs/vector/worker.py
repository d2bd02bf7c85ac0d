"""The process at the far end of `envs.vector`: a few simulators, driven over a socket.

Requests and replies are JSON, strictly in turn. Frames go through memory that both processes map, as an array
(2, N, K, H, W, 3) uint8: [0, i] is what simulator i shows now, [1, i] the last observation of the episode it has just
finished.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import traceback
from multiprocessing.connection import Connection
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from envs.base import Env, Observation
from envs.registry import make
from envs.vector.frames import map_frames


class Simulators:
    """The simulators of one worker, `first` to `first + count - 1` of the pool's."""

    def __init__(self, env_id: str, options: dict[str, Any], *, first: int, count: int, num_envs: int) -> None:
        self._num_envs = num_envs
        self._envs: dict[int, gym.Env[Observation, Any]] = {
            index: make(env_id, **options) for index in range(first, first + count)
        }
        self._frames: NDArray[np.uint8] | None = None
        self._prepared: dict[int, int | None] = {}

    @property
    def shape(self) -> tuple[int, ...]:
        """(K, H, W, 3) of an observation."""
        space = self._envs[min(self._envs)].observation_space
        return space["frames"].shape  # type: ignore[index]  # a Dict in every Env

    def map(self, memory: int) -> None:
        """Maps the pool's frames, which the parent has given their size by now."""
        if self._frames is None:
            self._frames = map_frames(memory, self._num_envs, self.shape)

    def start(self, index: int, seed: int, actions: list[str | None]) -> dict[str, Any]:
        """Starts an episode, replays `actions` and returns the prompt and the actions that are accepted now.

        Raises:
            RuntimeError: the episode ended within the replay, so it is not the episode that was recorded.
        """
        observation, _ = self._envs[index].reset(seed=seed)
        for number, action in enumerate(actions, start=1):
            observation, _, terminated, truncated, _ = self._envs[index].step(self._parse(index, action))
            if terminated or truncated:
                raise RuntimeError(
                    f"the episode of seed {seed} ended at step {number} of {len(actions)} in its replay: it "
                    "is not determined by its seed and actions, or it has changed"
                )
        return self._situation(index, observation)

    def step(self, index: int, action: str | None, next_seed: int | None) -> dict[str, Any]:
        """One step, and the reset with `next_seed` where it ended the episode."""
        if next_seed is not None and self._prepared.get(index) != next_seed:
            self._prepared[index] = next_seed
            self._world(index).prepare(next_seed)
        observation, reward, terminated, truncated, info = self._envs[index].step(self._parse(index, action))
        reply: dict[str, Any] = {
            "reward": float(reward),
            "unscaled_reward": float(info.get("unscaled_reward", reward)),
            "terminated": bool(terminated),
            "truncated": bool(truncated),
            "invalid": bool(info["invalid"]),
        }
        if terminated or truncated:
            reply["success"] = bool(info["success"])
            reply["task"] = info.get("task")
            reply["final_prompt"] = self._show(1, index, observation)
            reply["next"] = None if next_seed is None else self.start(index, next_seed, [])
        else:
            reply["next"] = self._situation(index, observation)
        return reply

    def close(self) -> None:
        """Closes every simulator."""
        for env in self._envs.values():
            env.close()

    def _world(self, index: int) -> Env:
        unwrapped = self._envs[index].unwrapped
        assert isinstance(unwrapped, Env)
        return unwrapped

    def _parse(self, index: int, action: str | None) -> Any | None:
        return None if action is None else self._world(index).parse_action(action)

    def _situation(self, index: int, observation: Observation) -> dict[str, Any]:
        return {"prompt": self._show(0, index, observation), "action_names": self._world(index).action_names}

    def _show(self, which: int, index: int, observation: Observation) -> str:
        assert self._frames is not None
        self._frames[which, index] = observation["frames"]
        return observation["prompt"]


def serve(connection: Connection, memory: int) -> None:
    """Answers requests until the parent closes the connection."""
    simulators = None
    try:
        while True:
            try:
                request = json.loads(connection.recv_bytes())
            except (EOFError, ConnectionError):
                return
            if request["command"] == "make":
                simulators = Simulators(**request["arguments"])
                reply: Any = {"shape": simulators.shape}
            else:
                assert simulators is not None
                simulators.map(memory)
                method = simulators.start if request["command"] == "start" else simulators.step
                reply = [method(*arguments) for arguments in request["arguments"]]
            connection.send_bytes(json.dumps(reply).encode())
    except Exception as error:  # noqa: BLE001  # whatever a simulator raises is reported; the parent replaces the worker
        # A wrong option, wrong data or a missing package: no other worker would do better.
        final = simulators is None and isinstance(error, (ValueError, ModuleNotFoundError))
        line = " ".join(str(error).split()) if final else _last_line(error)
        connection.send_bytes(json.dumps({"error": line, "final": final}).encode())
    finally:
        if simulators is not None:
            simulators.close()


def _last_line(error: BaseException) -> str:
    """The exception, and where it was raised."""
    line = " ".join("".join(traceback.format_exception_only(error)).split())
    frames = traceback.extract_tb(error.__traceback__)
    return f"{line} ({os.path.basename(frames[-1].filename)}:{frames[-1].lineno})" if frames else line


def _die_with_parent() -> None:
    """Ends this process and what its simulators started, once the parent is gone, even where a simulator hangs."""
    os.read(0, 1)  # the parent never writes; end of file means that it has gone
    os.killpg(0, signal.SIGKILL)


def main() -> None:
    """Entry point: `python -m envs.vector.worker SOCKET MEMORY`, two inherited file descriptors."""
    connection, memory = Connection(int(sys.argv[1])), int(sys.argv[2])
    if os.getpgid(0) == os.getpid():  # only a group of its own may be killed
        threading.Thread(target=_die_with_parent, daemon=True).start()
    serve(connection, memory)


if __name__ == "__main__":
    main()
