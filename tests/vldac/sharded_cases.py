"""A learner at ZeRO stage 3 whose model is loaded in parts, as ranks of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from deepspeed.runtime.zero.partitioned_param_coordinator import PartitionedParameterCoordinator
from learner_cases import make_rollout, share, weights_of, whole

from vldac import algorithms, policy, zero3
from vldac.config import Config
from vldac.distributed import Runtime
from vldac.engines.transformers import TransformersEngine
from vldac.learner import Learner
from vldac.rollout import Rollout


def made_rollout(config: Config, base: Path, runtime: Runtime) -> Rollout:
    """This rank's share of a rollout of the base model, which an adapter does not change when it is new."""
    return share(make_rollout(config, policy.load_base(base, config.model).eval()), runtime)


def run_case(config: Config, base: Path, runtime: Runtime) -> dict[str, Any]:
    """What a rank holds after loading, what it samples from gathered weights and from shards, and what it learns."""
    rollout = made_rollout(config, base, runtime)
    torch.manual_seed(5)
    vlm = zero3.load_base(base, config, runtime)
    drawn = torch.rand(3)
    parameters: list[Any] = list(vlm.parameters())
    found: dict[str, Any] = {
        "drawn": drawn,
        "held": sum(p.numel() for p in parameters),
        "shards": sum(p.ds_tensor.numel() for p in parameters),
        "numbers": sum(p.ds_numel for p in parameters),
    }
    torch.manual_seed(5)
    learner = Learner(config, vlm, algorithms.make(config.train), runtime)
    found["planned"] = learner.planned
    with whole(learner):
        found["loaded"] = {name.replace("base_layer.", ""): p.detach().clone() for name, p in vlm.named_parameters()}
    fetch = PartitionedParameterCoordinator.fetch_sub_module
    prompts = [step.prompt for step in rollout.steps[0]]
    for gathers in (True, False, True):
        learner.gathers_once = gathers
        fetched: list[None] = []

        def counted(*arguments: Any, fetched: list[None] = fetched, **named: Any) -> None:
            fetched.append(None)
            fetch(*arguments, **named)

        PartitionedParameterCoordinator.fetch_sub_module = counted
        with learner.sampling():
            responses = TransformersEngine(vlm).generate(
                prompts,
                max_new_tokens=config.rollout.max_new_tokens,
                temperature=config.rollout.temperature,
                seeds=[100 * runtime.rank + number for number in range(len(prompts))],
            )
        PartitionedParameterCoordinator.fetch_sub_module = fetch
        found[f"fetched {gathers}"] = len(fetched)
        found[f"sampled {gathers}"] = [response.token_ids for response in responses]
    learner.update(rollout, 0)
    found["saved"] = learner.weights()
    return found | {"weights": weights_of(learner)}
