"""How fast experience is collected: simulators that are waited for, and those that step while others are answered.

    vldac perf rollout [--params conf/webshop.yaml] [--set env.num_workers=4] [--rounds 3]

The ways take turns in one run, so that the ratios can be trusted. With `env.frames` of more than 1, one of them
processes each frame as often as it is shown.
"""

from __future__ import annotations

import contextlib
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

import torch

from perf import common
from vldac import engines, policy
from vldac.acting import Actor
from vldac.config import Config, load
from vldac.distributed import Runtime, process_group
from vldac.rollout import Collector
from vldac.train import make_simulators
from vldac.utils.errors import report_errors
from vldac.utils.libraries import quiet


class Forgetful(Collector):
    """Remembers no picture."""

    def _picture_cache(self) -> None:
        return None


def measure(config: Config, base: Path, rounds: int, runtime: Runtime) -> dict[str, list[float]]:
    """Rollouts of each way in turn, one of each unmeasured before.

    Returns:
        By way, medians: seconds of a rollout, those spent waiting for simulators, and those of generation.
    """
    torch.manual_seed(0)
    vlm = policy.load_base(base, config.model)
    if config.model.lora_rank:
        vlm.add_adapter(config.model.lora_rank, config.model.lora_alpha)
    vlm = vlm.to(runtime.device).eval()
    ways = {"one group": (Collector, False), "two groups (double_buffering)": (Collector, True)}
    if config.env.frames > 1:
        ways["one group, frames anew"] = (Forgetful, False)
    with contextlib.ExitStack() as stack:
        engine = stack.enter_context(
            contextlib.closing(engines.make(config.rollout.engine, vlm, config.rollout.engine_options))
        )
        engine.update_weights(0)
        actor, collectors = Actor.of(vlm, config.rollout, engine), dict[str, Collector]()
        for name, (kind, double) in ways.items():
            rollout = config.rollout.model_copy(update={"double_buffering": double})
            of_way = config.model_copy(update={"rollout": rollout})
            collectors[name] = kind(actor, stack.enter_context(make_simulators(of_way, 1, runtime)))
            collectors[name].start()
        spent: dict[str, list[tuple[float, ...]]] = {name: [] for name in ways}
        for _ in range(rounds + 1):
            for name, collector in collectors.items():
                started = perf_counter()
                seconds = collector.collect(config.rollout.steps).seconds
                spent[name].append((perf_counter() - started, seconds["simulator"], seconds["generation"]))
    return {name: [statistics.median(of) for of in zip(*each[1:], strict=True)] for name, each in spent.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = common.parser("rollout", __doc__)
    parser.add_argument("--rounds", type=int, default=3, help="measured rollouts of each way (default: %(default)s)")
    options = parser.parse_args(arguments)
    config = load(options.params, options.set)
    quiet()
    with process_group(config.deepspeed.threads) as runtime, common.base_model(config, options.base) as base:
        simulators = f"{config.env.num_envs} simulators in {config.env.num_workers} workers"
        print(common.heading(runtime.device, config.env.id, simulators, f"frames {config.env.frames}"))
        found = measure(config, base, options.rounds, runtime)
    whole = next(iter(found.values()))[0]
    print(f"{'':32}{'steps/s':>9}{'simulator':>11}{'generation':>12}{'of the first':>14}")
    for name, (seconds, simulator, generation) in found.items():
        print(
            f"{name:32}{config.steps_per_update / seconds:9.1f}{simulator / seconds:11.1%}{generation / seconds:12.1%}"
            f"{whole / seconds:13.2f}x"
        )
    return 0


if __name__ == "__main__":
    sys.exit(report_errors(main))
