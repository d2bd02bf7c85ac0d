"""A learner with every weight trained, as ranks of their own: its reference beside a copy of the base model.

    python reference_cases.py BASE OUT PARAMS

Every rank writes what it has found to OUT/rank-R.pt, and all of them the learner's state before and after to OUT/before
and OUT/after.
"""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import Any

import torch
from learner_cases import make_learner, make_rollout, sampler, share, weights_of

from vldac import algorithms, policy
from vldac.config import Config, parse
from vldac.distributed import Runtime, process_group
from vldac.rollout import Rollout
from vldac.scoring import Scorer
from vldac.utils.libraries import quiet


class Interrupted(Exception):
    """A pass of the reference policy that does not end well."""


def run_case(config: Config, base: Path, runtime: Runtime, out: Path) -> dict[str, Any]:
    """What the reference says of a rollout after an update, and the trained weights before and after it has spoken."""
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


def main(base: str, out: str, params: str) -> None:
    quiet()
    with process_group(1) as runtime:
        found = run_case(parse(json.loads(params)), Path(base), runtime, Path(out))
        torch.save(found, Path(out) / f"rank-{runtime.rank}.pt")


if __name__ == "__main__":
    main(*sys.argv[1:])
