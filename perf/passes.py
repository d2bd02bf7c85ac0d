"""What each kind of pass of an update costs: operations, which are counted, and seconds, which are measured."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from vldac import algorithms, policy
from vldac.acting import Actor
from vldac.config import Config
from vldac.distributed import Runtime
from vldac.learner import Learner
from vldac.rollout import Collector
from vldac.train import make_simulators

#: Decoding with all that is encoded for it; old log-probabilities, reference and values; forward and backward passes.
KINDS = ("generation", "scoring", "learning")


@dataclass
class Passes:
    """Of one update.

    Attributes:
        seconds: by kind; of CPU time where a CPU computes, so that other work on the machine counts little.
        flop: by kind, of products of matrices; those within attention are counted on a GPU alone.
        steps: environment steps.
        rows: tokens of one forward pass of the learner.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    flop: dict[str, float] = field(default_factory=dict)
    steps: int = 0
    rows: int = 0


def measure(config: Config, base: Path, rounds: int, runtime: Runtime) -> Passes:
    """Updates of the policy after one unmeasured: medians of their seconds, and the operations of one more."""
    torch.manual_seed(0)
    vlm = policy.load_base(base, config.model)
    learner = Learner(config, vlm, algorithms.make(config.train), runtime)
    rollout = config.rollout
    actor = Actor.of(vlm, rollout)
    taken, first = list[Passes](), config.train.value_warmup
    with make_simulators(config, learner.algorithm.group_size, runtime) as simulators:
        collector = Collector(actor, simulators)
        collector.start()
        for number in range(first, first + rounds + 1):
            taken.append(_round(learner, collector, number, runtime.device))
        with FlopCounterMode(display=False) as counter:
            counted = _round(learner, collector, first + rounds + 1, runtime.device, counter)
    counted.seconds = {kind: statistics.median(each.seconds[kind] for each in taken[1:]) for kind in KINDS}
    return counted


def _round(
    learner: Learner, collector: Collector, number: int, device: torch.device, counter: FlopCounterMode | None = None
) -> Passes:
    passes, score = Passes(), learner.scorer.score

    @contextmanager
    def noted(kind: str) -> Iterator[None]:
        before = _now(device), counter.get_total_flops() if counter else 0
        yield
        passes.seconds[kind] = _now(device) - before[0]
        passes.flop[kind] = (counter.get_total_flops() if counter else 0) - before[1]

    def scored(*arguments: object, **options: object) -> object:
        with noted("scoring"):
            return score(*arguments, **options)  # type: ignore[arg-type]  # what the learner passes on

    with noted("generation"):
        rollout = collector.collect(learner.config.rollout.steps, number)
    learner.scorer.score = scored  # type: ignore[method-assign,assignment]  # timed where it is called
    with noted("learning"):
        learner.update(rollout, number)
    del learner.scorer.score
    for amounts in (passes.seconds, passes.flop):
        amounts["learning"] -= amounts["scoring"]
    steps = [step for row in rollout.steps for step in row]
    lengths = [len(step.prompt.input_ids) + len(step.response.token_ids) for step in steps]
    passes.steps = len(steps)
    passes.rows = max(lengths) * min(learner.config.train.micro_batch_size, learner.config.train.batch_size)
    return passes


def table(passes: Passes, config: Config, base: Path, device: torch.device) -> Iterator[str]:
    """Lines: operations a step and a second, and their share of what the machine does at the model's shapes."""
    text = policy.load_base(base, config.model).backbone.config.get_text_config()
    dtype, shape = getattr(torch, config.model.dtype), (text.hidden_size, text.intermediate_size)
    large, small = (product_rate(rows, *shape, dtype, device) for rows in (passes.rows, config.env.num_envs))
    yield (
        f"products with {shape[0]} x {shape[1]}: {large / 1e9:.0f} GFLOP/s for {passes.rows} tokens, those of a pass, "
        f"{small / 1e9:.0f} for {config.env.num_envs}, a token of each simulator"
    )
    yield f"{'':28}{'MFLOP/step':>12}{'ms/step':>9}{'GFLOP/s':>9}{'share of the former':>21}"
    whole = {"an update": (sum(passes.flop.values()), sum(passes.seconds.values()))}
    for kind, (flop, seconds) in ({k: (passes.flop[k], passes.seconds[k]) for k in KINDS} | whole).items():
        a_step = flop / passes.steps / 1e6, 1000 * seconds / passes.steps
        rate = flop / seconds
        yield f"{kind:28}{a_step[0]:12.0f}{a_step[1]:9.1f}{rate / 1e9:9.1f}{rate / large:21.0%}"


def product_rate(rows: int, inner: int, columns: int, dtype: torch.dtype, device: torch.device) -> float:
    """FLOP/s of this machine in products (rows, inner) @ (inner, columns), the best of five tries of many each."""
    a, b = torch.randn(rows, inner, dtype=dtype, device=device), torch.randn(inner, columns, dtype=dtype, device=device)
    flop = 2.0 * rows * inner * columns
    repeated = max(1, int(2e8 / flop))
    rates = []
    for _ in range(5):
        started = _now(device)
        for _ in range(repeated):
            result: Tensor = a @ b
        float(result[0, 0])  # waits for it
        rates.append(repeated * flop / max(_now(device) - started, 1e-9))
    return max(rates)


def _now(device: torch.device) -> float:
    """Seconds: of this process's CPU time, or on a GPU of the clock, all work done."""
    if device.type == "cpu":
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()
