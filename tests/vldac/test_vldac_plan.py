from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from vldac import policy, train
from vldac.config import load, parse
from vldac.plan import needed, plan
from vldac.utils.errors import report_errors


def test_the_plan_counts_the_work() -> None:
    numbers = plan(parse({"train": {"total_steps": 1000, "epochs": 3}}))
    assert numbers["environment_steps_per_update"] == 256
    assert numbers["updates"] == 4
    assert numbers["environment_steps"] == 1024
    assert numbers["optimizer_steps"] == 4 * 3 * 8
    assert numbers["updates_of_the_value_head_alone"] == 2


def test_the_plan_counts_the_parameters_that_the_model_has(tiny_base: Path, tiny_config: Any) -> None:
    for rank in (0, 4):
        config = tiny_config({"model": {"lora_rank": rank}})
        vlm = policy.load_base(tiny_base, config.model)
        base = sum(p.numel() for p in vlm.parameters())
        if rank:
            vlm.add_adapter(rank, 8)
        memory = plan(tiny_config({"model": {"lora_rank": rank, "base": str(tiny_base)}}))["memory"]
        assert memory["parameters"] == base
        assert memory["trained_parameters"] == sum(p.numel() for p in vlm.parameters() if p.requires_grad)


@pytest.mark.parametrize("family", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl"])
def test_the_default_model_has_one_to_three_million_parameters(family: str) -> None:
    assert 1e6 < plan(parse({"model": {"tiny": {"family": family}}}))["memory"]["parameters"] < 3e6


def test_memory_follows_the_zero_stage() -> None:
    def memory(**deepspeed: Any) -> dict[str, float]:
        found = plan(parse({"deepspeed": deepspeed, "train": {"micro_batch_size": 8}, "model": {"lora_rank": 0}}))[
            "memory"
        ]
        assert isinstance(found, dict)
        return found

    one = memory(ranks=2, zero_stage=0)
    shared = [memory(ranks=2, zero_stage=stage) for stage in (1, 2, 3)]
    for stage, found in enumerate(shared, start=1):
        # On the host lies the reference, which is shared out with the weights.
        parts_of_ranks = (
            ("optimizer_mib", 1),
            ("optimizer_step_mib", 1),
            ("gradients_mib", 2),
            ("weights_mib", 3),
            ("host_mib", 3),
        )
        for name, from_stage in parts_of_ranks:
            ratio = 2 if stage >= from_stage else 1
            assert found[name] == pytest.approx(one[name] / ratio, abs=0.1)
        parts = {name for name in found if name.endswith("_mib")} - {"total_mib", "host_mib", "host_while_loading_mib"}
        assert {"activations_mib", "distributions_mib", "bucket_mib", "picture_features_mib"} < parts
        assert found["total_mib"] == pytest.approx(sum(found[name] for name in parts), abs=0.5)
        assert found["bucket_mib"] > one["bucket_mib"] == 0
    assert one["host_mib"] == one["weights_mib"] > 0


@pytest.mark.parametrize(
    ("changes", "held"),
    [
        ({}, ()),  # with an adapter, the model without it is the reference
        ({"model": {"lora_rank": 0}}, ("weights_mib",)),
        ({"model": {"lora_rank": 0}, "train": {"kl_to": "old"}}, ()),
        ({"deepspeed": {"offload_optimizer": True}}, ("optimizer_mib",)),
        ({"model": {"lora_rank": 0}, "deepspeed": {"offload_optimizer": True}}, ("weights_mib", "optimizer_mib")),
    ],
)
def test_the_host_holds_the_reference_and_what_is_offloaded(
    changes: dict[str, Any], held: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def memory(**more: Any) -> dict[str, float]:
        found = plan(parse({**changes, **more}))["memory"]
        assert isinstance(found, dict)
        return found

    found, beside = memory(), memory(deepspeed={"offload_optimizer": False})
    assert found["host_mib"] == pytest.approx(sum(beside[name] for name in held), abs=0.2)
    moved = ("optimizer_mib", "optimizer_step_mib")
    offloaded = sum(beside[name] - found[name] for name in moved)
    assert found["total_mib"] == pytest.approx(beside["total_mib"] - offloaded, abs=0.2)
    for gpu, more in ((False, found["host_mib"]), (True, 0)):  # what must fit into the memory of a rank
        monkeypatch.setattr("torch.cuda.is_available", lambda gpu=gpu: gpu)
        assert needed(found) == found["total_mib"] + more


def test_weights_are_gathered_once_for_a_rollout_where_they_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    def memory(**deepspeed: Any) -> dict[str, float]:
        found = plan(parse({"deepspeed": deepspeed, "train": {"gradient_checkpointing": False}}))["memory"]
        assert isinstance(found, dict)
        return found

    assert "weights_gathered_once" not in memory(ranks=4, zero_stage=2)
    sharded = memory(ranks=4, zero_stage=3)
    whole = sharded["total_mib"] + 3 * sharded["weights_mib"]
    for room, expected in ((whole + 0.1, True), (whole - 0.1, False)):
        monkeypatch.setattr("vldac.plan.room", lambda _ranks, room=room: room)
        assert memory(ranks=4, zero_stage=3)["weights_gathered_once"] is expected


def test_a_head_in_bfloat16_is_counted_in_float32_too_and_what_the_tower_has_said_of_a_rollout() -> None:
    def memory(**model: Any) -> dict[str, float]:
        found = plan(parse({"model": model, "deepspeed": {"ranks": 1}}))["memory"]
        assert isinstance(found, dict)
        return found

    whole, half = memory(dtype="float32"), memory(dtype="bfloat16")
    size = parse({}).model.tiny
    head = 4 * size.hidden_size * size.vocabulary / 2**20
    assert half["distributions_mib"] - whole["distributions_mib"] == pytest.approx(head, abs=0.1)
    # 256 steps of 4 x 3 visual tokens of 128 numbers, kept with an adapter alone
    assert whole["picture_features_mib"] == pytest.approx(256 * 12 * 128 * 4 / 2**20, abs=0.1)
    assert memory(lora_rank=0)["picture_features_mib"] == 0


def test_a_sampler_on_the_same_gpu_leaves_less_to_train_with(monkeypatch: pytest.MonkeyPatch) -> None:
    def checkpointing(**rollout: Any) -> float:
        found = plan(parse({"deepspeed": {"ranks": 1}, "rollout": rollout}))["memory"]
        assert isinstance(found, dict)
        return found["gradient_checkpointing"]

    options = {"python": "python", "memory_share": 0.9}
    whole = plan(parse({"deepspeed": {"ranks": 1}, "train": {"gradient_checkpointing": False}}))["memory"]
    monkeypatch.setattr("vldac.plan.room", lambda _ranks: needed(whole) + 1)
    assert not checkpointing()
    assert checkpointing(engine="vllm", engine_options=options)
    assert not checkpointing(engine="vllm", engine_options=options | {"devices": [1]})


def test_memory_follows_the_length_of_a_pass_and_checkpoints() -> None:
    def activations(**train: Any) -> float:
        memory = plan(parse({"train": train}))["memory"]
        assert isinstance(memory, dict)
        return float(memory["activations_mib"])

    # 4 x 3 cells of 16 pixels, 100 tokens of text and 24 of response; 4 layers of 12 x 128 and 4 x 384 float32 numbers
    assert activations(micro_batch_size=8) == pytest.approx(8 * 136 * 4 * 3072 * 4 / 2**20, abs=0.1)
    assert activations(micro_batch_size=16) == pytest.approx(2 * activations(micro_batch_size=8), abs=0.1)
    assert activations(token_budget=136) == pytest.approx(activations(micro_batch_size=1), abs=0.1)
    assert activations(token_budget=50) == activations(token_budget=136)  # a step that is longer has a pass of its own
    assert activations(gradient_checkpointing=True) < 0.4 * activations()


def test_a_model_that_cannot_be_reached_leaves_its_memory_unknown() -> None:
    memory = plan(parse({"model": {"base": "nobody/nothing"}}))["memory"]
    assert memory.startswith("unknown until the model is on this machine")


def test_a_dry_run_prints_the_configuration_and_the_plan_as_yaml_and_does_nothing(
    tiny_params_file: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    params, change = tiny_params_file(), "train.gamma=0.5"
    before = sorted(tmp_path.iterdir())
    places = ["--run-dir", str(tmp_path / "run"), "--out", str(tmp_path / "policy"), "--base", str(tmp_path / "base")]
    assert train.main(["--dry-run", "--params", str(params), "--set", change, *places]) == 0
    document = yaml.safe_load(capsys.readouterr().out)
    assert document["plan"]["updates"] == 4
    assert document["plan"]["memory"]["parameters"] > 1e4
    assert parse(document["config"]) == load(params, [change])  # what it prints is a params file that means the same
    assert sorted(tmp_path.iterdir()) == before


def test_a_typo_is_one_line_on_stderr(tiny_params_file: Any, capsys: pytest.CaptureFixture[str]) -> None:
    params = tiny_params_file({"train": {"gama": 0.9}})
    assert report_errors(lambda: train.main(["--params", str(params)])) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == f"error: {params}: unknown key 'train.gama'; did you mean 'train.gamma'?\n"


@pytest.mark.slow
def test_the_command_itself_fails_without_a_traceback(tiny_params_file: Any) -> None:
    command = [sys.executable, "-m", "vldac.train", "--dry-run", "--params"]
    params = tiny_params_file({"train": {"gama": 0.9}})
    done = subprocess.run([*command, str(params)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"error: {params}: unknown key 'train.gama'; did you mean 'train.gamma'?\n"
