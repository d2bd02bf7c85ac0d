"""The seam between the learner and an algorithm, and VL-DAC behind it; a whole run with an algorithm from outside."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from algorithm_cases import alone, rollout_tensors

from envs.vector import training_seeds
from vldac import algorithms
from vldac.acting import action_mask
from vldac.advantages import gae
from vldac.algorithms.base import TokenBatch, normalize
from vldac.algorithms.registry import AlgorithmOptionsError
from vldac.config import ConfigError, TrainConfig, parse
from vldac.parsing import ParsedResponse, render_response
from vldac.policy import load_base
from vldac.utils.registry import UnknownNameError

HERE, REPOSITORY = Path(__file__).parent, Path(__file__).parents[3]
TOY = "toy_algorithm:Pairs"
PAIRS = {"group_size": 2}


@pytest.mark.parametrize("normalized", [True, False])
def test_vldac_aims_at_step_level_gae(normalized: bool) -> None:
    train = TrainConfig(gamma=0.9, gae_lambda=0.8, algorithm_options={"normalize_advantages": normalized})
    rollout = rollout_tensors(5, 3)
    values = torch.stack(list(rollout.values)).view(5, 3)
    ends = rollout.terminated, rollout.truncated
    expected = gae(rollout.rewards, values, rollout.next_values, *ends, 0.9, 0.8)
    targets = algorithms.make(train).targets(rollout, alone)
    assert torch.equal(torch.stack(list(targets.returns)), (expected + values).flatten())
    if normalized:
        expected = (expected - expected.mean()) / expected.std(unbiased=False)
    assert torch.allclose(torch.stack(list(targets.advantages)), expected.flatten(), atol=1e-5)


def test_advantages_are_normalized_over_the_steps_of_all_ranks() -> None:
    mine, other = torch.tensor([1.0, 5.0, 2.0]), torch.tensor([-3.0, 0.5, 9.0])
    passed = iter([torch.tensor(3.0), other.sum(), (other - torch.cat([mine, other]).mean()).square().sum()])
    found = normalize(mine, lambda tensor: tensor + next(passed))
    both = torch.cat([mine, other])
    assert torch.allclose(found, (mine - both.mean()) / both.std(unbiased=False), atol=1e-5)


def test_vldac_reports_how_many_tokens_are_clipped() -> None:
    mask = torch.tensor([[True, True, True, True], [True, True, False, False]])
    new = torch.log(torch.tensor([[1.0, 1.5, 0.5, 1.1], [1.0, 2.0, 9.0, 9.0]]))
    batch = TokenBatch(new, torch.zeros(2, 4), torch.ones(2), mask)
    loss = algorithms.make(TrainConfig(clip=0.2)).policy_loss(batch)
    assert float(loss.metrics["policy/clip_fraction"]) == pytest.approx((2 / 4 + 1 / 2) / 2)


def test_names_and_options_are_checked_before_a_run() -> None:
    with pytest.raises(ConfigError, match=r"unknown algorithm 'vldc'; did you mean 'vldac'\?"):
        parse({"train": {"algorithm": "vldc"}})
    with pytest.raises(ConfigError, match="unknown key 'normalise_advantages'; did you mean 'normalize_advantages'"):
        parse({"train": {"algorithm_options": {"normalise_advantages": True}}})
    with pytest.raises(ConfigError, match="normalize_advantages: should be a valid boolean"):
        parse({"train": {"algorithm_options": {"normalize_advantages": "yes"}}})
    with pytest.raises(UnknownNameError, match="needs the module 'nowhere_to_be_found', which cannot be found"):
        algorithms.make(TrainConfig(algorithm="nowhere_to_be_found:Class"))
    with pytest.raises(AlgorithmOptionsError, match="unknown key 'a'"):
        algorithms.make(TrainConfig.model_construct(algorithm="vldac", algorithm_options={"a": 1}))


def test_the_action_mask_covers_the_tokens_of_the_action(tiny_base: Path, tiny_config: Any) -> None:
    vlm = load_base(tiny_base, tiny_config().model)
    ids = vlm.encode_response(render_response(ParsedResponse("go — up", "+")))
    mask = action_mask(ids, vlm.decode)
    assert vlm.decode(ids[mask]).endswith('"action": "+"}')
    assert "action" not in vlm.decode(ids[~mask])
    assert mask[-1]  # the end of the turn belongs to the action
    assert not action_mask(vlm.encode_response('{"thoughts": "x"'), vlm.decode).any()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options"),
    [(TOY, {"action_weight": 0.5}), ("rl4vlm", {}), ("loop", PAIRS), ("grpo", PAIRS), ("ppo_token", {})],
    ids=["toy", "rl4vlm", "loop", "grpo", "ppo_token"],
)
def test_an_algorithm_trains_resumes_and_exports(
    name: str, options: dict[str, Any], tiny_base: Path, tiny_params: Any, tmp_path: Path
) -> None:
    changes = {"algorithm": name, "algorithm_options": options, "total_steps": 48}
    params = tmp_path / "params.yaml"
    params.write_text(yaml.safe_dump(tiny_params({"train": changes, "checkpoint": {"every": 1, "keep": 9}})))

    critic = name in {"rl4vlm", "ppo_token"}

    def train(name: str) -> dict[str, bytes]:
        command = [
            *(sys.executable, "-m", "vldac.train", "--params", str(params), "--base", str(tiny_base)),
            *("--run-dir", str(tmp_path / name), "--out", str(tmp_path / name / "policy")),
        ]
        env = {**os.environ, "PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, cwd=REPOSITORY, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert critic or "explained -" in done.stdout or name == "resumed"
        return {path.name: path.read_bytes() for path in (tmp_path / name / "policy").iterdir()}

    whole = train("whole")
    assert "adapter_model.safetensors" in whole
    assert ("value_head.safetensors" in whole) == critic
    rows = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    assert len(rows) == 3
    if name == TOY:
        assert all(row["toy/action_tokens"] >= 0 for row in rows)
    assert any(metric.startswith(("critic/", "loss/value")) for metric in rows[0]) == critic
    state = json.loads((tmp_path / "whole/checkpoints/update-000003/experience.json").read_text())
    group = 1 if critic else 2
    for simulator, episode in enumerate(state["simulators"]["episodes"]):
        assert episode["seed"] == training_seeds(3)(simulator // group, episode["index"])
    shutil.copytree(tmp_path / "whole", tmp_path / "resumed", ignore=shutil.ignore_patterns("update-000003", "policy"))
    assert train("resumed") == whole
