"""The engine that talks to vLLM: against a server of its protocol in a thread, and against vLLM where there is one.

VLDAC_VLLM_PYTHON=/opt/vllm/bin/python python -m pytest -m slow tests/vldac/engines/test_engines_vllm.py
"""

from __future__ import annotations

import os
import re
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from envs.gym_cards import NumberLine
from perf import gpu
from vldac import engines, parsing, warm_start
from vldac.config import ConfigError, parse
from vldac.distributed import Runtime
from vldac.engines import vllm, vllm_server
from vldac.engines.transformers import TransformersEngine
from vldac.engines.vllm import EngineError, VLLMEngine
from vldac.engines.vllm_server import ProtocolError, receive, send
from vldac.models.vlm import VLM, Prompt, Response
from vldac.policy import load_base

COUNT = 6
Answer = Callable[[Mapping[str, Any], Mapping[str, Tensor]], dict[str, Any]]


class Served:
    """What stands where vLLM would: the model of the start message and the adapter of the newest update."""

    def __init__(self, start: Mapping[str, Any]) -> None:
        self.base, self.vlm = start["engine"]["model"], VLM.from_pretrained(start["engine"]["model"]).eval()

    def __call__(self, message: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, Any]:
        if message["op"] == "adapter":
            self.vlm = VLM.from_pretrained(self.base).eval()
            self.vlm.load_adapter(message["path"])
            return {"ready": message["version"]}
        asked = message["prompts"]
        prompts = [self._expanded(each, tensors[str(i)]) for i, each in enumerate(asked)]
        responses = TransformersEngine(self.vlm).generate(
            prompts,
            max_new_tokens=message["max_new_tokens"],
            temperature=message["temperature"],
            seeds=[each["seed"] for each in asked],
        )
        return {"responses": [answer(p, r) for p, r in zip(prompts, responses, strict=True)]}

    def _expanded(self, asked: Mapping[str, Any], features: Tensor) -> Prompt:
        grids = torch.tensor(asked["grids"])
        sizes, ids, image = iter((grids.prod(-1) // 4).tolist()), list[int](), self.vlm.family.image_token_id
        for token in asked["token_ids"]:
            ids += [token] * (next(sizes) if token == image else 1)
        return Prompt(torch.tensor(ids), {"image_grid_thw": grids}, {"pooled": features})


def answer(prompt: Prompt, response: Response) -> dict[str, Any]:
    scores = response.log_probs.tolist()
    return {"prompt": prompt.input_ids.tolist(), "token_ids": response.token_ids.tolist(), "log_probs": scores}


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Callable[[socket.socket], None]], None]]:
    """A function from what happens at the other end of the socket; it happens in a thread."""
    threads: list[threading.Thread] = []

    def serve(other_end: Callable[[socket.socket], None]) -> None:
        def launched(_options: Any, log: Path, _environment: Any) -> tuple[socket.socket, None]:
            log.write_text("loading\nout of memory\n\n")
            ours, its = socket.socketpair()

            def run() -> None:
                with its:
                    other_end(its)

            threads.append(threading.Thread(target=run, daemon=True))
            threads[-1].start()
            return ours, None

        monkeypatch.setattr(vllm, "launch", launched)
        monkeypatch.setattr(vllm, "stop_group", lambda _process: None)

    yield serve
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()


def speaks(make: Callable[[Mapping[str, Any]], Answer]) -> Callable[[socket.socket], None]:
    """The other end of a server that starts as told and answers until the socket is closed."""

    def other_end(connection: socket.socket) -> None:
        answers = make(receive(connection)[0])
        send(connection, {"ready": "0"})
        while True:
            try:
                message = receive(connection)
            except EOFError:
                return
            send(connection, answers(*message))

    return other_end


@pytest.fixture
def vlm(tiny_base: Path, tiny_config: Any) -> VLM:
    made = load_base(tiny_base, tiny_config().model).eval()
    made.add_adapter(4, 8)
    return made


def prompts_of(vlm: VLM, count: int = COUNT, frames: int = 1) -> list[Prompt]:
    """Of several lengths, as a rollout encodes them."""
    game = NumberLine(width=32, height=32, prompt_style="terse")
    shown = [game.reset(seed=seed)[0] for seed in range(count)]
    texts = [o["prompt"] + " now." * (i % 3) for i, o in enumerate(shown)]
    return vlm.encode_frames(vlm.encode([o["frames"].repeat(frames, 0) for o in shown], texts))


def move_adapter(vlm: VLM) -> None:
    generator = torch.Generator().manual_seed(1)
    for name, parameter in vlm.named_parameters():
        if "lora_B" in name:
            parameter.data.add_(0.1 * torch.randn(parameter.shape, generator=generator))


def engine_of(vlm: VLM, **options: Any) -> VLLMEngine:
    engine = engines.make("vllm", vlm, {"python": sys.executable, **options})
    assert isinstance(engine, VLLMEngine)
    return engine


def texts(vlm: VLM, responses: Sequence[Response]) -> list[str]:
    return [vlm.decode(response.token_ids) for response in responses]


@pytest.mark.parametrize("frames", [1, 2])
def test_prompts_pictures_weights_and_seeds_reach_the_server(vlm: VLM, connect: Any, frames: int) -> None:
    connect(speaks(Served))
    prompts, engine = prompts_of(vlm, frames=frames), engine_of(vlm)
    options: dict[str, Any] = {"max_new_tokens": 24, "temperature": 0.7, "seeds": range(2**62, 2**62 + COUNT)}
    assert not engine.exact
    said = []
    for version in range(2):
        engine.update_weights(version)
        found, expected = engine.generate(prompts, **options), TransformersEngine(vlm).generate(prompts, **options)
        for ours, other in zip(found, expected, strict=True):
            assert ours.token_ids.tolist() == other.token_ids.tolist()
            assert torch.allclose(ours.log_probs, other.log_probs, atol=1e-5)
            assert ours.state is None
        said.append(texts(vlm, found))
        move_adapter(vlm)
    assert said[0] != said[1]
    engine.close()


def test_a_response_is_cut_at_its_answer_when_it_is_back(vlm: VLM, connect: Any) -> None:
    connect(speaks(Served))
    engine, prompts = engine_of(vlm), prompts_of(vlm)
    options: dict[str, Any] = {"max_new_tokens": 24, "temperature": 0.7, "seeds": range(COUNT), "stop_at_answer": True}
    found, expected = engine.generate(prompts, **options), TransformersEngine(vlm).generate(prompts, **options)
    assert [r.token_ids.tolist() for r in found] == [r.token_ids.tolist() for r in expected]
    assert sum(parsing.is_settled(text) for text in texts(vlm, found)) > 1
    engine.close()


def spoiled(change: Callable[[dict[str, Any]], object]) -> Callable[[Mapping[str, Any]], Answer]:
    """A server whose second answer to what it is to generate is changed."""

    def make(start: Mapping[str, Any]) -> Answer:
        served = Served(start)

        def answers(message: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, Any]:
            found = served(message, tensors)
            change(found["responses"][1])
            return found

        return answers

    return make


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda one: one["prompt"].append(3), "another prompt"),
        (lambda one: one.update(token_ids=[], log_probs=[]), "cannot have drawn"),
        (lambda one: one.update(token_ids=[5] * 25, log_probs=[-1.0] * 25), "cannot have drawn"),
        (lambda one: one["log_probs"].pop(), "cannot have drawn"),
        (lambda one: one["log_probs"].__setitem__(0, 0.5), "cannot have drawn"),
        (lambda one: one["log_probs"].__setitem__(0, None), "cannot have drawn"),
        (lambda one: one["token_ids"].__setitem__(0, 1_000_000), "cannot have drawn"),
        (lambda one: one["token_ids"].__setitem__(0, -1), "cannot have drawn"),
        (lambda one: one["token_ids"].__setitem__(0, True), "cannot have drawn"),
        (lambda one: one["token_ids"].__setitem__(0, 327), "cannot have drawn"),  # <|endoftext|>
        (lambda one: one["token_ids"].__setitem__(0, 329), "cannot have drawn"),  # the end of the turn, before others
    ],
    ids=["prompt", "empty", "long", "lengths", "positive", "null", "high", "negative", "true", "forbidden", "end"],
)
def test_nonsense_is_refused(vlm: VLM, connect: Any, change: Any, reason: str) -> None:
    assert (vlm.forbidden[327], vlm.end_id) == (True, 329)
    connect(speaks(spoiled(change)))
    engine = engine_of(vlm)
    with pytest.raises(EngineError, match=reason):
        engine.generate(prompts_of(vlm, 2), max_new_tokens=24, temperature=0.7, seeds=range(2))
    engine.close()


def fails(connection: socket.socket) -> None:
    receive(connection)
    send(connection, {"error": "ValueError: no such model"})


def babbles(connection: socket.socket) -> None:
    receive(connection)
    connection.sendall(struct.pack("!QQ", 2**40, 0))


def waits(connection: socket.socket) -> None:
    receive(connection)
    with pytest.raises(EOFError):
        receive(connection)


def trickles(connection: socket.socket) -> None:
    receive(connection)
    connection.sendall(struct.pack("!QQ", 2**20, 0))
    with suppress(BrokenPipeError, ConnectionResetError):  # the parent has had enough
        while True:
            connection.sendall(b" ")
            time.sleep(0.05)


@pytest.mark.parametrize(
    ("other_end", "reason"),
    [
        (receive, "has ended .*it last said: out of memory"),
        (fails, "vLLM: ValueError: no such model"),
        (babbles, "has ended .a message of 1099511627776 bytes"),
        (waits, "has not answered in time"),
        (trickles, "has not answered in time"),
    ],
    ids=["ends", "fails", "babbles", "waits", "trickles"],
)
def test_a_server_that_does_not_start_ends_the_run_with_one_line(
    vlm: VLM, connect: Any, other_end: Any, reason: str
) -> None:
    connect(other_end)
    with pytest.raises(EngineError, match=reason) as caught:
        engine_of(vlm, start_timeout=0.5 if other_end in (waits, trickles) else 60.0)
    assert "\n" not in str(caught.value)


def test_a_process_that_dies_is_told_with_its_last_words(
    vlm: VLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "server.py"
    script.write_text("import sys\nsys.exit('libcuda is not here')\n")
    monkeypatch.setattr(vllm_server, "__file__", str(script))
    with pytest.raises(EngineError, match="it last said: libcuda is not here"):
        engine_of(vlm)


def test_a_message_is_read_strictly() -> None:
    ours, other = socket.socketpair()
    with ours, other:
        for text in (b"nonsense", b"[1]", b'{"a": NaN}', b"\xff"):
            ours.sendall(struct.pack("!QQ", len(text), 0) + text)
            with pytest.raises(ProtocolError):
                receive(other)
        send(ours, {"a": [1, 2.5]}, {"0": torch.arange(3)})
        message, tensors = receive(other)
        assert message == {"a": [1, 2.5]}
        assert tensors["0"].tolist() == [0, 1, 2]
        with pytest.raises(ValueError, match="JSON"):
            send(ours, {"a": float("nan")})
        ours.close()
        with pytest.raises(EOFError):
            receive(other)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"pyton": "x"}, "pyton"),
        ({"python": "x", "memory_share": 2.0}, "memory_share"),
        ({"memory_share": 0.5}, "python"),
    ],
)
def test_options_are_checked_before_a_run(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        parse({"rollout": {"engine": "vllm", "engine_options": options}})
    with pytest.raises(ConfigError, match="engine_options of transformers: unknown key"):
        parse({"rollout": {"engine_options": options}})


def test_what_cannot_be_served_is_refused_before_a_server_is_started(tiny_base: Path, tiny_config: Any) -> None:
    whole = load_base(tiny_base, tiny_config().model)
    with pytest.raises(EngineError, match="lora_rank"):
        engine_of(whole)
    whole.add_adapter(4, 8)
    with pytest.raises(EngineError, match="no interpreter"):
        engine_of(whole, python="/nowhere/python")


def test_the_server_is_no_rank_of_the_run(tiny_base: Path, tiny_config: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    of_ranks = ("RANK", "LOCAL_RANK", "GROUP_RANK", "ROLE_WORLD_SIZE", "LOCAL_SIZE", "TORCHELASTIC_USE_AGENT_STORE")
    for name in of_ranks:
        monkeypatch.setenv(name, "1")
    found = vllm._environment(load_base(tiny_base, tiny_config().model), vllm.VLLMOptions(python="python"))
    assert not found.keys() & set(of_ranks)
    assert found["PATH"] == os.environ["PATH"]


@pytest.fixture
def measured(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """`vldac perf gpu` for a shape that a CPU answers for in seconds, and no other case than vLLM's."""
    monkeypatch.setitem(gpu.SHAPES, "speck", ((64, 1, 4, 2, 128, 512, True), (1, 80)))
    monkeypatch.setattr(gpu, "process_group", lambda _threads: nullcontext(runtime))
    monkeypatch.setattr(gpu, "apart", lambda function, *arguments: function(*arguments))
    monkeypatch.delenv("VLDAC_VLLM_PYTHON", raising=False)
    every = gpu.cases

    def cases(*arguments: Any, **named: Any) -> list[gpu.Case]:
        return [case for case in every(*arguments, **named) if case.engine == "vllm"]

    monkeypatch.setattr(gpu, "cases", cases)
    return lambda *arguments: gpu.main(["--shapes", "speck", *arguments])


def test_its_speed_is_measured_beside_what_the_learner_says(
    measured: Any, connect: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    connect(speaks(Served))
    measured("--vllm-python", sys.executable)
    _, line = capsys.readouterr().out.splitlines()
    assert re.fullmatch(
        r"speck LoRA 64, ZeRO 1, vllm, checkpointing: \d+\.\d\d steps/s; generation [1-9]\d* tokens/s .*; effective "
        r"sample size 1\.0000",
        line,
    )


def test_where_it_cannot_be_measured_a_line_says_so(
    measured: Any, connect: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    measured()
    _, *lines = capsys.readouterr().out.splitlines()
    assert lines == ["vLLM: left out, --vllm-python names no interpreter of an environment with it"]
    connect(fails)
    measured("--vllm-python", sys.executable)
    _, *lines = capsys.readouterr().out.splitlines()
    assert lines == ["speck LoRA 64, ZeRO 1, vllm, checkpointing: left out, vLLM: ValueError: no such model"]


@pytest.mark.slow
def test_vllm_itself_draws_at_the_learners_log_probabilities(tmp_path: Path, tiny_config: Any) -> None:
    python = os.environ.get("VLDAC_VLLM_PYTHON")
    if python is None:
        pytest.skip("VLDAC_VLLM_PYTHON names no interpreter with vLLM")
    # Its kernels for a CPU know no heads of 16 numbers.
    config = tiny_config({"model": {"tiny": {"hidden_size": 128}}})
    warm_start.run(config, tmp_path / "base")
    vlm = load_base(tmp_path / "base", config.model).eval()
    vlm.add_adapter(4, 8)
    engine = engine_of(vlm, python=python, max_tokens=512)
    said = []
    for version in range(2):
        engine.update_weights(version)
        prompts = prompts_of(vlm, frames=1 + version)
        responses = engine.generate(prompts, max_new_tokens=24, temperature=0.7, seeds=range(COUNT))
        with torch.no_grad():
            scores = vlm(prompts, [response.token_ids for response in responses], 0.7)
        for row, response in zip(scores.log_probs, responses, strict=True):
            assert torch.allclose(row[: len(response.token_ids)], response.log_probs, atol=1e-4)
        said.append(texts(vlm, responses))
        move_adapter(vlm)
    assert any(parsing.parse_response(text) for text in said[0])
    engine.close()
    assert engine.process.poll() is not None
