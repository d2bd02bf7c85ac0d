"""OpenEnv over loopback: our environments as a server, an OpenEnv server as an environment, and what neither takes."""

from __future__ import annotations

import base64
import http.client
import io
from collections.abc import Iterator
from itertools import chain
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image

from envs.base import Env, SimulatorError, UnsuitableEnvError
from envs.registry import make
from envs.vector import VectorEnv, training_seeds
from tests.openenv_server import served

openenv = pytest.importorskip("openenv.core", reason="the extra openenv is not installed")
from envs.openenv import client  # noqa: E402  # which need it

MAKE: dict[str, Any] = {"width": 32, "height": 24, "prompt": "terse"}
NUMBER_LINE = "GymCards-NumberLine-v0"


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with served(NUMBER_LINE, {**MAKE, "frames": 2}, sessions=3) as address:
        yield address


def image(data: str) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


def test_a_client_of_openenv_plays_our_world(address: str) -> None:
    """As TRL and others do, with nothing of this project."""
    local = make(NUMBER_LINE, **MAKE, frames=2)
    shown, _ = local.reset(seed=3)
    with openenv.GenericEnvClient(base_url=f"http://{address}").sync() as remote:
        result = remote.reset(seed=3)
        for action in ("+", "nonsense", None, "-", *["+"] * 10):
            seen = result.observation
            assert seen["prompt"] == shown["prompt"]
            assert seen["actions"] == ["-", "+"]
            assert np.array_equal(np.stack([image(data) for data in seen["images"]]), shown["frames"])
            if result.done:
                break
            result = remote.step({"action": action})
            native = None if action is None else cast(Env, local.unwrapped).parse_action(action)
            shown, reward, terminated, truncated, info = local.step(native)
            assert (result.reward, result.done) == (reward, terminated or truncated)
            told = result.observation["metadata"]
            assert told["invalid"] == info["invalid"]
            assert told.get("success") == info.get("success")
        assert result.done
        with pytest.raises(RuntimeError, match="reset first"):
            remote.step({"action": "+"})
        assert not remote.reset(seed=4).done
        with pytest.raises(RuntimeError, match="VALIDATION_ERROR"):
            remote.step({"action": "x" * 70_000})


def test_our_workers_train_on_a_server_as_on_the_world_itself(address: str) -> None:
    options = {**MAKE, "frames": 1, "invalid_reward": -1.0}
    actions = ["+", "-", "+", "+", None, "-", "+", "+"]
    found = []
    for env_id in (f"openenv:http://{address}", NUMBER_LINE):
        with VectorEnv(env_id, 2, num_workers=1, seeds=training_seeds(1), **options) as pool:
            shown = [pool.reset()]
            rewards = []
            for action in actions[:4]:
                step = pool.step([action, "-"])
                shown.append(list(step.observations))
                rewards.append((step.rewards.tolist(), step.terminated.tolist(), step.truncated.tolist()))
            state = pool.state_dict()
        found.append((shown, rewards, [episode["total"] for episode in state["episodes"]]))
    (ours, rewards, totals), (theirs, expected, returns) = found
    assert (rewards, totals) == (expected, returns)
    for a, b in zip(chain(*ours), chain(*theirs), strict=True):
        assert a is not None
        assert b is not None
        assert a["prompt"] == b["prompt"]
        assert np.array_equal(a["frames"][0, :, :, 0] > 128, b["frames"][0, :, :, 0] > 128)


def test_an_answer_that_names_nothing_costs_the_penalty_and_is_not_sent(address: str) -> None:
    env = make(f"openenv:http://{address}", **MAKE, invalid_reward=-0.5, options={"max_episode_steps": 2})
    world = cast(Env, env.unwrapped)
    first, _ = env.reset(seed=3)
    assert first["prompt"].endswith("actions: -, +.")
    assert world.parse_action("jump") is None
    _, reward, terminated, truncated, info = env.step(None)
    assert (reward, terminated, truncated, info) == (-0.5, False, False, {"invalid": True})
    after, reward, terminated, truncated, info = env.step(None)
    assert (reward, terminated, truncated, info) == (-0.5, False, True, {"invalid": True, "success": False})
    assert np.array_equal(after["frames"], first["frames"])
    env.close()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Host": "evil.example"}, 403),
        ({"Host": "evil.example", "Origin": "http://evil.example"}, 403),
    ],
)
def test_web_pages_of_elsewhere_are_refused(address: str, headers: dict[str, str], status: int) -> None:
    connection = http.client.HTTPConnection(address, timeout=10)
    connection.request("GET", "/health", headers=headers)
    assert connection.getresponse().status == status
    connection.close()
    upgrade = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
    connection.request("GET", "/ws", headers={**upgrade, "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", **headers})
    assert connection.getresponse().status == (101 if status == 200 else 403)
    connection.close()


def answer(**changes: Any) -> Any:
    return SimpleNamespace(**{"observation": {"prompt": "go"}, "reward": 0.5, "done": False} | changes)


def png(width: int, height: int = 4) -> str:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height)).save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode()


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (answer(observation=[]), "an observation that is no object"),
        (answer(reward=float("nan")), "a reward out of bounds"),
        (answer(reward=1e7), "a reward out of bounds"),
        (answer(reward="1"), "a reward that is no number"),
        (answer(done=1), "done, which is neither"),
        (answer(observation={"prompt": 3}), "'prompt', which is no text"),
        (answer(observation={"actions": {"a": 1}}), "actions that are no list of names"),
        (answer(observation={"actions": ["a\n"]}), "actions that are no names"),
        (answer(observation={"actions": ["a", "a "]}), "actions with one name"),
        (answer(observation={"actions": [f"a{i}" for i in range(1001)]}), "actions that are no list of names"),
        (answer(observation={"images": ["!"]}), "a damaged picture"),
        (answer(observation={"images": [base64.b64encode(b"GIF89a").decode()]}), "a damaged picture"),
        (answer(observation={"images": [png(8)[:60]]}), "a damaged picture|truncated|broken"),
        (answer(observation={"images": [png(5000)]}), "a picture of 5000 x 4 pixels"),
        (answer(observation={"images": [png(2)] * 33}), "too many 'images'"),
        (answer(observation={"metadata": 1}), "metadata that are no object"),
        (answer(observation={"prompt": "write"}), "no list `actions`; name them in env.options.actions"),
        (answer(observation={"actions": []}), "no list `actions`; name them in env.options.actions"),
    ],
)
def test_answers_that_cannot_be_used_end_in_one_line(given: Any, reason: str) -> None:
    env = client.OpenEnv(url="http://127.0.0.1:9", width=8, height=8)
    with pytest.raises(SimulatorError, match=reason) as found:
        env._take(given)
    assert "\n" not in str(found.value)


def test_a_server_of_another_kind_is_shown_in_our_words() -> None:
    options: dict[str, Any] = {
        "actions": "up, down",
        "field": "move",
        "index": True,
        "text": "board",
        "pictures": "png",
    }
    env = client.OpenEnv(url="http://127.0.0.1:9", width=8, height=8, instruction="Reach the top.", **options)
    sent: list[Any] = []
    replies = [
        answer(observation={"board": "at\x1b the bottom", "png": png(2)}, reward=None),
        answer(observation={"board": "at the top"}, reward=1, done=True),
    ]

    def ask(what: str, *given: Any, **named: Any) -> Any:
        sent.append((what, given, named))
        return replies.pop(0)

    env._ask = ask  # type: ignore[method-assign]  # in place of the server
    observation, _ = env.reset(seed=1)
    assert observation["prompt"] == (
        "Reach the top.\nat? the bottom\nPossible actions: up, down.\n"
        'Answer with one JSON object and nothing else: {"thoughts": "...", "action": "..."}'
    )
    assert observation["frames"].shape == (1, 8, 8, 3)
    _, reward, terminated, truncated, info = env.step(env.parse_action(" UP"))
    assert (reward, terminated, truncated, info) == (1.0, True, False, {"invalid": False, "success": True})
    assert sent == [("reset", (), {"seed": 1}), ("step", ({"move": 0},), {})]
    assert client.OpenEnv(url="http://127.0.0.1:9")._take(answer(done=True)) == (0.5, True, {})  # none is needed


def test_what_is_no_address_and_who_does_not_answer_are_told_in_one_line() -> None:
    for url in ("ftp://127.0.0.1", "127.0.0.1:80", "http://me:secret@127.0.0.1"):
        with pytest.raises(UnsuitableEnvError, match="is no address; it looks like openenv:http"):
            client.OpenEnv(url=url)
    with pytest.raises(SimulatorError, match=r"openenv:http://127.0.0.1:9 does not answer a reset: ."):
        client.OpenEnv(url="http://127.0.0.1:9").reset()
