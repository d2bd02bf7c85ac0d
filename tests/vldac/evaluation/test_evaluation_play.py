"""The page of `vldac play` over HTTP: a person and a model act, and what is hostile is refused in one line."""

from __future__ import annotations

import base64
import io
import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from fastapi.testclient import TestClient

from envs.base import EVALUATION_SEEDS
from envs.registry import make
from vldac.config import EnvConfig
from vldac.evaluation import pages
from vldac.evaluation.play import sessions as module
from vldac.evaluation.play.app import MAX_PICTURE_PIXELS, Chosen, create_app
from vldac.evaluation.play.errors import BusyError, NotFoundError
from vldac.evaluation.play.guard import MAX_BODY
from vldac.evaluation.play.models import MAX_SHOWN_PIXELS, Choice, Models
from vldac.evaluation.play.sessions import Sessions
from vldac.evaluation.watch import Player, load_player
from vldac.utils.errors import UserError

HOST = "127.0.0.1:7700"
WORLD = "GymCards-NumberLine-v0"
SEED = EVALUATION_SEEDS[0]


@pytest.fixture(scope="module")
def player(tiny_policy: Path, tiny_base: Path) -> Player:
    return load_player(str(tiny_base), tiny_policy, "mine")


@pytest.fixture(scope="module")
def sessions() -> Sessions:
    return Sessions()


@pytest.fixture(scope="module")
def client(player: Player, sessions: Sessions) -> Iterator[TestClient]:
    models = Models(lambda: [Choice("mine", "@champion", WORLD, lambda: player)])
    app = create_app(models, sessions, {HOST}, Chosen(model="mine"), {"my_world": EnvConfig(id=WORLD, max_steps=1)})
    with TestClient(app, f"http://{HOST}", headers={"Origin": f"http://{HOST}"}) as made:
        yield made
    assert sessions._open == {}


@pytest.fixture(scope="module")
def opened(client: TestClient) -> str:
    """The path of a session with the model."""
    reply = client.post("/api/sessions", json={"environment": WORLD, "model": "mine", "seed": SEED})
    assert reply.status_code == 200, reply.text
    return f"/api/sessions/{reply.json()['session']}"


def ask(client: TestClient, path: str, body: Any = None, status: int = 200) -> Any:
    reply = client.post(path, json={} if body is None else body)
    assert reply.status_code == status, reply.text
    return reply.json()


def test_the_page_and_its_files_are_of_this_origin_alone(client: TestClient) -> None:
    page = client.get("/")
    assert page.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'; style-src 'self'")
    assert page.headers["x-content-type-options"] == "nosniff"
    linked = re.findall(r'(?:src|href)="(/[^"]+)"', page.text)
    assert linked
    kinds = {path: client.get(path).headers["content-type"].partition(";")[0] for path in linked}
    assert set(kinds.values()) == {"text/css", "text/javascript"}
    for name in ("play.html", "play.css", "play.js", "shared.css", "shared.js"):
        text = pages.text(name)
        assert not re.findall(r"""@import|url\(|(?<!xmlns=")https?://(?!www\.w3\.org/2000/svg)| style=""", text), name
        assert "innerHTML" not in text
    for asked in ("name=../play/app.py", "path=/etc/hostname", "file=/etc/hostname"):
        assert client.get(f"/?{asked}").text == page.text
    assert client.get("/..%2fplay%2fapp.py").status_code == 404
    assert client.get("/watch.html").status_code == client.get("/docs").status_code == 404


def test_what_is_installed_may_be_chosen(client: TestClient) -> None:
    found = client.get("/api/choices").json()
    assert {WORLD, "MiniWorld-OneRoomS6Fast-v0", "my_world"} <= set(found["environments"])
    assert found["models"] == [{"name": "mine", "note": "@champion", "environment": WORLD}]
    assert (found["model"], found["environment"]) == ("mine", None)


def test_a_preset_has_its_own_rules(client: TestClient) -> None:
    state = ask(client, "/api/sessions", {"environment": "my_world", "model": "mine", "seed": 5})
    assert state["environment"] == "my_world"
    assert ask(client, f"/api/sessions/{state['session']}/step", {"action": "fly"})["state"]["ended"] is not None
    assert client.delete(f"/api/sessions/{state['session']}").status_code == 200


def test_a_person_alone_acts_to_the_end_and_begins_again(client: TestClient, sessions: Sessions) -> None:
    state = ask(client, "/api/sessions", {"environment": WORLD, "seed": 5})
    path, first = f"/api/sessions/{state['session']}", state
    picture = PIL.Image.open(io.BytesIO(base64.b64decode(state["frames"][0].partition(",")[2])))
    assert picture.size == (640, 480)
    assert (state["actions"], state["ended"], state["model"]) == (["-", "+"], None, None)
    assert ask(client, f"{path}/answer", status=409)["error"] == "no model plays here; choose one"
    numbers = re.findall(r"\d+", state["prompt"])
    assert numbers  # the full prompt, as a pretrained model is asked
    done = ask(client, f"{path}/step", {"action": "fly </b>"})
    assert done["turn"] == {"by": "person", "action": "fly </b>", "legal": False, "reward": -1, "total": -1}
    for _ in range(9):
        done = ask(client, f"{path}/step", {"action": "+"})
        if done["state"]["ended"]:
            break
    else:
        pytest.fail("the episode does not end")
    steps, total = done["state"]["steps"], done["state"]["return"]
    assert done["state"]["ended"]["outcome"].endswith(f"after {steps} steps, return {total:.3g}")
    assert done["state"]["actions"] == []
    assert "begin another" in ask(client, f"{path}/step", {"action": "+"}, 409)["error"]
    assert ask(client, f"{path}/episode", {"seed": 5}) == first
    assert ask(client, f"{path}/episode")["seed"] in EVALUATION_SEEDS
    (session,) = [one for name, (one, _) in sessions._open.items() if name == state["session"]]
    assert client.delete(path).status_code == 200
    with pytest.raises(NotFoundError, match="closed"):  # by a request that had waited for its turn
        session.step("+")
    assert "closed" in ask(client, f"{path}/step", {"action": "+"}, 404)["error"]


def test_the_episode_of_a_model_is_the_one_that_watch_shows(client: TestClient, opened: str, player: Player) -> None:
    env = make(WORLD, width=32, height=32, prompt="terse")
    wanted = player.play(env, SEED)
    ask(client, f"{opened}/episode", {"seed": SEED})
    for number, step in enumerate(wanted.steps, start=1):
        answer = ask(client, f"{opened}/answer")
        assert "".join(text for text, _ in answer["tokens"]) == step.decision.text
        assert answer["value"] == pytest.approx(0.25)
        assert sum(chance for _, chance in answer["actions"]) == pytest.approx(
            1 if step.decision.parsed else 0, abs=1e-3
        )
        done = ask(client, f"{opened}/step")
        assert done["turn"]["by"] == "model"
        assert (done["turn"]["action"], done["turn"]["reward"]) == (step.decision.action, step.reward)
        assert done["state"]["steps"] == number
    assert done["state"]["ended"]["success"] == wanted.success


def test_what_is_asked_may_be_changed_and_asked_again(
    client: TestClient, opened: str, player: Player, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, int]] = []
    decide = Player.decide

    def recorded(self: Player, observation: Any, seed: int, step: int, attempt: int = 0) -> Any:
        asked.append((observation["prompt"], attempt))
        return decide(self, observation, seed, step, attempt)

    monkeypatch.setattr(Player, "decide", recorded)
    state = ask(client, f"{opened}/episode", {"seed": SEED})
    assert "ask it first" in ask(client, f"{opened}/step", status=409)["error"]
    ask(client, f"{opened}/answer")
    ask(client, f"{opened}/answer", {"prompt": "which way?"})
    assert asked == [(state["prompt"], 0), ("which way?", 1)]
    assert ask(client, f"{opened}/step", {"action": "-"})["turn"]["by"] == "person"
    assert "ask it first" in ask(client, f"{opened}/step", status=409)["error"]  # the answer was of the step before


def png(width: int, height: int, color: str = "red") -> bytes:
    buffer = io.BytesIO()
    PIL.Image.new("RGB", (width, height), color).save(buffer, "PNG")
    return buffer.getvalue()


def question(picture: bytes, changes: dict[str, str] | None = None) -> dict[str, str]:
    return {"model": "mine", "question": "what is it?", "picture": base64.b64encode(picture).decode()} | (changes or {})


def test_a_picture_is_asked_about_as_the_model_is_shown_it(client: TestClient) -> None:
    reply = ask(client, "/api/questions", question(png(900, 600)))
    shown = PIL.Image.open(io.BytesIO(base64.b64decode(reply["picture"].partition(",")[2])))
    assert 0.98 * MAX_SHOWN_PIXELS < shown.width * shown.height <= MAX_SHOWN_PIXELS
    assert shown.width / shown.height == pytest.approx(1.5, abs=0.01)
    assert shown.getpixel((0, 0)) == (255, 0, 0)
    assert all(0 <= chance <= 1 for _, chance in reply["tokens"])
    small = ask(client, "/api/questions", question(png(40, 30)))["picture"]
    assert PIL.Image.open(io.BytesIO(base64.b64decode(small.partition(",")[2]))).size == (40, 30)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (question(b"GIF89a, or so it says"), "cannot be read as a picture"),
        (question(png(6000, 4001)), f"has more than {MAX_PICTURE_PIXELS} pixels"),
        (question(b"", {"picture": "no base64!"}), "is no base64"),
        (question(png(4, 4), {"question": ""}), "question: String should have at least 1 character"),
        (question(png(4, 4), {"model": "/etc"}), "there is no model '/etc' here"),
    ],
    ids=["no picture", "huge", "no base64", "no question", "a path"],
)
def test_a_bad_question_is_one_line(client: TestClient, body: Any, reason: str) -> None:
    reply = client.post("/api/questions", json=body)
    assert reply.status_code in (404, 422)
    assert reason in reply.json()["error"]
    assert "\n" not in reply.json()["error"]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/api/sessions", {"environment": "os:system"}, 404),
        ("/api/sessions", {"environment": "gymnasium:CartPole-v1"}, 404),
        ("/api/sessions", {"environment": WORLD, "model": "../base"}, 404),
        ("/api/sessions", {"environment": WORLD, "seed": 2**31}, 422),
        ("/api/sessions", {"environment": WORLD, "seed": "1"}, 422),
        ("/api/sessions", {"environment": WORLD, "num_envs": 9}, 422),
        ("/api/sessions", [WORLD], 422),
        ("/api/sessions/unknown/step", {"action": "+"}, 404),
        ("OPEN/step", {"action": ""}, 422),
        ("OPEN/step", {"action": "+" * 1025}, 422),
        ("OPEN/step", {"action": 7}, 422),
        ("OPEN/answer", {"prompt": "a" * 8193}, 422),
    ],
)
def test_what_no_page_asks_is_refused(client: TestClient, opened: str, path: str, body: Any, status: int) -> None:
    before = ask(client, f"{opened}/episode", {"seed": SEED})
    assert len(ask(client, path.replace("OPEN", opened), body, status)["error"]) < 200
    assert ask(client, f"{opened}/step", {"action": "+"})["state"]["steps"] == before["steps"] + 1


def test_letters_that_are_none_are_refused(client: TestClient, opened: str) -> None:
    headers = {"Content-Type": "application/json"}
    for content in (b'{"action": "\\ud800"}', b'{"action": "\xff"}', b"[" * 100_000, b'{"action": NaN}'):
        reply = client.post(f"{opened}/step", content=content, headers=headers)
        assert reply.status_code in (400, 422), content
    assert client.post(f"{opened}/step", content=b"{}", headers={"Content-Type": "text/plain"}).status_code == 422


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": ""}, 403),
        ({"Host": "evil.example:7700"}, 421),
        ({"Host": "127.0.0.1:80", "Origin": "http://127.0.0.1:80"}, 421),
        ({"Content-Length": str(MAX_BODY + 1)}, 413),
        ({"Content-Length": "0" * 40 + "1"}, 413),
        ({"Content-Length": "1e3"}, 411),
        ({"Transfer-Encoding": "chunked"}, 411),
    ],
)
def test_other_pages_and_endless_requests_are_turned_away(
    client: TestClient, sessions: Sessions, headers: dict[str, str], status: int
) -> None:
    before = dict(sessions._open)
    reply = client.post("/api/sessions", content=json.dumps({"environment": WORLD}), headers=headers)
    assert reply.status_code == status
    assert "default-src 'none'" in reply.headers["content-security-policy"]
    assert sessions._open == before
    if status == 421:
        assert client.get("/", headers=headers).status_code == 421


def test_a_simulator_that_dies_costs_its_episode_alone(client: TestClient, opened: str, sessions: Sessions) -> None:
    ask(client, f"{opened}/episode", {"seed": SEED})
    session, _ = sessions._open[opened.rpartition("/")[2]]
    session._env._workers[0].process.kill()
    ended = ask(client, f"{opened}/step", {"action": "+"})["state"]["ended"]
    assert ended == {"success": False, "outcome": "the simulator failed, and its episode is lost"}
    ask(client, f"{opened}/episode", {"seed": SEED})
    assert ask(client, f"{opened}/step", {"action": "-"})["state"]["ended"] is None


class Fake:
    """A session without a process."""

    def __init__(self, name: str, *_: Any) -> None:
        self.name, self.closed = name, 0

    def close(self) -> None:
        self.closed += 1


def test_sessions_are_few_and_closed_when_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "Session", Fake)
    now = 0.0
    few: Any = Sessions(most=2, idle=60, clock=lambda: now)
    a, b = (few.open(name, EnvConfig(), EnvConfig(), None, 0) for name in "ab")
    now = 50.0
    with few.use("a"):
        pass
    c = few.open("c", EnvConfig(), EnvConfig(), None, 0)
    assert (a.closed, b.closed, c.closed) == (0, 1, 0)  # the one that was not used for longest
    with pytest.raises(NotFoundError, match="closed"), few.use("b"):
        pass
    now = 111.0
    few.sweep()
    assert (a.closed, c.closed) == (1, 1)
    assert few._open == {}
    broken = few.open("d", EnvConfig(), EnvConfig(), None, 0)
    with pytest.raises(module.SimulatorError), few.use("d"):
        raise module.SimulatorError("it keeps failing")
    assert (broken.closed, few._open) == (1, {})


def test_one_model_is_in_memory_and_answers_one_request_at_a_time() -> None:
    loaded: list[str] = []

    def choice(name: str) -> Choice:
        def load() -> Any:
            loaded.append(name)
            if name == "broken":
                raise UserError("its files are damaged; fetch it again")
            return name

        return Choice(name, "", None, load)

    known = ["a", "b", "broken"]
    models = Models(lambda: [choice(name) for name in known], patience=0.01)
    for name in ("a", "a", "b", "a"):
        with models.use(name) as player:
            assert player == name
    assert loaded == ["a", "b", "a"]
    with pytest.raises(UserError, match="damaged"), models.use("broken"):
        pass
    with models.use("a"):
        failed: list[BaseException] = []

        def other() -> None:
            try:
                with models.use("b"):
                    pass
            except BusyError as error:
                failed.append(error)

        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        assert len(failed) == 1
    with pytest.raises(NotFoundError, match="no model 'new'"), models.use("new"):
        pass
    known.append("new")  # registered meanwhile
    with models.use("new"):
        pass


def test_a_model_that_was_made_anew_is_loaded_anew() -> None:
    made, loaded = 1, list[int]()

    def load() -> Any:
        loaded.append(made)
        return made

    models = Models(lambda: [Choice("models/policy", "", None, load, lambda: made)])
    for made in (1, 1, 2, 2):
        with models.use("models/policy") as player:
            assert player == made
    assert loaded == [1, 2]


def test_frames_are_shown_pixel_by_pixel(client: TestClient, opened: str) -> None:
    state = ask(client, f"{opened}/episode", {"seed": SEED})
    env = make(WORLD, width=32, height=32, prompt="terse")
    frames = env.reset(seed=SEED)[0]["frames"]
    shown = [PIL.Image.open(io.BytesIO(base64.b64decode(one.partition(",")[2]))) for one in state["frames"]]
    assert np.array_equal(np.stack([np.asarray(one) for one in shown]), frames)
