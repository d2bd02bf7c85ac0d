"""A learner with every weight trained, as ranks of their own: its reference beside a copy of the base model."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import torch
from learner_cases import make_learner, make_rollout, sampler, share, weights_of

from vldac import algorithms, policy
from vldac.config import Config
from vldac.distributed import Runtime
from vldac.rollout import Rollout
from vldac.scoring import Scorer


class Interrupted(Exception):
    """A pass of the reference policy that does not end well."""


def run_case(config: Config, base: Path, runtime: Runtime, out: Path) -> dict[str, Any]:
    """What the reference says of a rollout after an update, and the trained weights before and after it has spoken.

    The learner's state before and after it is written to `out`.
    """
    rollout = share(make_rollout(config, sampler(base, config)), runtime)
    learner = make_learner(config, base, runtime)
    learner.update(rollout, 0)
    learner.save(out / "before")
    before = weights_of(learner)
    _interrupt(learner, rollout)
    between = weights_of(learner)
    said = learner.scorer.score(rollout, on_policy=False)
    learner.save(out / "after")
    copy = policy.load_base(base, config.model).eval()
    scorer = Scorer(
        copy,
        algorithms.make(config.train),
        None,
        None,
        runtime,
        temperature=config.rollout.temperature,
        micro_batch_size=config.train.micro_batch_size,
    )
    return {
        "reference": said.reference_log_probs,
        "policy": said.log_probs,
        "copy": scorer.log_probs([step for row in rollout.steps for step in row]),
        "weights": [before, between, weights_of(learner)],
    }


def _interrupt(learner: Any, rollout: Rollout) -> None:
    """Breaks off a pass of the reference policy at its head, when all layers have been run."""

    def stop(*_arguments: Any) -> None:
        raise Interrupted

    head = learner.vlm.family.lm_head(learner.vlm.backbone)
    hook = head.register_forward_pre_hook(stop)
    step = rollout.steps[0][0]
    with contextlib.suppress(Interrupted), torch.no_grad(), learner.scorer.reference_policy() as reference:
        reference([step.prompt], [step.response.token_ids], 1.0)
    hook.remove()
