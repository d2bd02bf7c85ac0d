"""One learner on a made-up rollout: in the process of a test, or as ranks of their own (`ranks.run_ranks`).

The ranks share the columns of one and the same rollout, so that any number of them learns from the same steps.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from envs.gym_cards import NumberLine
from vldac import algorithms, policy
from vldac.config import Config
from vldac.distributed import Runtime
from vldac.engines.transformers import TransformersEngine
from vldac.learner import Learner
from vldac.models.vlm import VLM, Prompt
from vldac.rollout import Rollout, Step
from vldac.utils.seeding import derive_seed

#: Below every gradient norm met here, so that clipping is always at work.
CLIPPED = 0.02
UPDATES = 2
EPS = 1e-5


@dataclass
class Outcome:
    """What a learner ended with; no value head where the algorithm has no critic."""

    weights: dict[str, Tensor]
    value_head: dict[str, Tensor]
    metrics: list[dict[str, float]]


def start_vlm(base: Path, config: Config) -> VLM:
    """The base, whose adapter will not start as the identity, where half of its gradients are exactly zero."""
    vlm = policy.load_base(base, config.model)
    add_adapter = vlm.add_adapter

    def add_moved_adapter(rank: int, alpha: int) -> None:
        add_adapter(rank, alpha)
        generator = torch.Generator().manual_seed(7)
        with torch.no_grad():
            for name, parameter in vlm.named_parameters():
                if "lora_B" in name:
                    parameter.copy_(0.02 * torch.randn(parameter.shape, generator=generator))

    vlm.add_adapter = add_moved_adapter  # type: ignore[method-assign]  # before the engine copies the weights
    return vlm


def sampler(base: Path, config: Config) -> VLM:
    """The policy that a learner starts with."""
    torch.manual_seed(5)
    vlm = start_vlm(base, config)
    if config.model.lora_rank:
        vlm.add_adapter(config.model.lora_rank, config.model.lora_alpha)
    return vlm.eval()


def make_rollout(config: Config, vlm: VLM) -> Rollout:
    """T steps of all ranks' simulators: real pictures and samples, made-up rewards and ends."""
    rng = np.random.default_rng(11)
    columns = config.env.num_envs
    game = NumberLine(width=32, height=32, prompt_style="terse")

    def prompts(count: int) -> list[Prompt]:
        shown = [game.reset(seed=int(rng.integers(1000)))[0] for _ in range(count)]
        texts = [o["prompt"] + " now." * int(rng.integers(3)) for o in shown]  # so that lengths differ
        return vlm.encode([o["frames"] for o in shown], texts)

    rollout = Rollout()
    episodes = [0] * columns
    for number in range(config.rollout.steps):
        row = prompts(columns)
        responses = TransformersEngine(vlm).generate(
            row,
            max_new_tokens=config.rollout.max_new_tokens,
            temperature=config.rollout.temperature,
            seeds=[derive_seed(13, number, column) for column in range(columns)],
        )
        ends = rng.random(columns)
        finals = prompts(columns)
        rollout.steps.append(
            [
                Step(
                    prompt,
                    response,
                    reward=float(rng.normal()),
                    terminated=bool(end < 0.2),
                    truncated=bool(end > 0.75),
                    final_prompt=final if end > 0.75 else None,
                    episode=episode,
                )
                for prompt, response, end, final, episode in zip(row, responses, ends, finals, episodes, strict=True)
            ]
        )
        episodes = [
            episode + int(step.terminated or step.truncated)
            for episode, step in zip(episodes, rollout.steps[-1], strict=True)
        ]
    rollout.last_prompts = prompts(columns)
    return rollout


def share(rollout: Rollout, runtime: Runtime) -> Rollout:
    """This rank's simulators."""
    count = len(rollout.last_prompts) // runtime.world_size
    mine = slice(runtime.rank * count, (runtime.rank + 1) * count)
    return Rollout([row[mine] for row in rollout.steps], rollout.last_prompts[mine])


def make_learner(config: Config, base: Path, runtime: Runtime) -> Learner:
    torch.manual_seed(5)
    vlm = start_vlm(base, config)
    return Learner(config, vlm, algorithms.make(config.train), runtime)


def weights_of(learner: Learner) -> dict[str, Tensor]:
    with whole(learner):
        return {name: p.detach().clone() for name, p in learner.vlm.named_parameters() if p.requires_grad}


def whole(learner: Learner) -> contextlib.AbstractContextManager[None]:
    """Within it, every rank holds all weights."""
    return learner._whole(list(learner.vlm.parameters()))


def run_case(config: Config, base: Path, runtime: Runtime, state: Path | None = None, first: int = 0) -> Outcome:
    """Makes the updates.

    The learner's state after each of them is written to `state`; with a `first` of more than 0, updates begin there,
    from what another run has written.
    """
    rollout = share(make_rollout(config, sampler(base, config)), runtime)
    learner = make_learner(config, base, runtime)
    if state and first:
        learner.load(state / str(first))
    # A step of Adam is as long as the learning rate however small the gradient is, and then made of its rounding. That
    # one process and several round differently is no finding: from an eps of the gradients' size on, it does not show.
    for group in learner.optimizer.param_groups:
        group["eps"] = EPS
    metrics = []
    for update in range(first, UPDATES):
        metrics.append(learner.update(rollout, update))
        if state:
            learner.save(state / str(update + 1))
    head = learner.critic.head.state_dict() if learner.critic else {}
    return Outcome(weights_of(learner), head, metrics)


def outcome(config: Config, base: Path, runtime: Runtime, **arguments: Any) -> dict[str, Any]:
    """`run_case` as a case of `ranks.run_ranks`."""
    return vars(run_case(config, base, runtime, **arguments))


def assert_same(a: dict[str, Tensor], b: dict[str, Tensor], tolerance: float) -> None:
    """Two models' tensors, up to a share of their size."""
    assert a.keys() == b.keys()
    for name, tensor in a.items():
        assert tensor.dtype == b[name].dtype, name
        difference = float((tensor.double() - b[name].double()).abs().max())
        assert difference <= tolerance * max(1.0, float(tensor.double().abs().max())), name
