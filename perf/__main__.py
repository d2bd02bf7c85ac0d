"""`make perf`: how fast this machine collects and learns, in one run, so that the ratios can be trusted.

    vldac perf train [--updates 3] [--base models/base]

Compares N batched simulators with one simulator at a time and with the way in which the released code works, on the
same model, and prints the shares of time; then what each kind of pass costs beside what the machine can do.
"""

from __future__ import annotations

import resource
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from perf import common, passes
from vldac import algorithms, policy
from vldac.acting import Actor
from vldac.config import Config, load
from vldac.distributed import Runtime, process_group
from vldac.engines.decoding import cached_decoder
from vldac.engines.transformers import TransformersEngine
from vldac.learner import Learner
from vldac.rollout import Collector
from vldac.train import make_simulators
from vldac.utils.errors import report_errors
from vldac.utils.libraries import quiet


def measure(config: Config, base: Path, updates: int, runtime: Runtime, *, released: bool = False) -> dict[str, Any]:
    """Collects and learns `updates` times after one unmeasured round; medians, in seconds and per second.

    With `released`, responses come from transformers' `generate` and pictures are encoded in every pass.
    """
    torch.manual_seed(0)
    vlm = policy.load_base(base, config.model)
    if released:
        vlm.encode_frames = list  # type: ignore[method-assign,assignment]  # they keep their pixels
    learner = Learner(config, vlm, algorithms.make(config.train), runtime)
    rounds = []
    actor = Actor(
        vlm,
        max_new_tokens=config.rollout.max_new_tokens,
        temperature=config.rollout.temperature,
        engine=TransformersEngine(vlm, decoders=()) if released else None,
    )
    with make_simulators(config, learner.algorithm.group_size, runtime) as simulators:
        collector = Collector(actor, simulators)
        collector.start()
        for number in range(updates + 1):
            started = time.perf_counter()
            rollout = collector.collect(config.rollout.steps, config.train.value_warmup + number)
            learner.update(rollout, config.train.value_warmup + number)
            seconds = time.perf_counter() - started
            tokens = sum(len(step.response.token_ids) for row in rollout.steps for step in row)
            rounds.append((seconds, rollout.seconds["simulator"], rollout.seconds["generation"], tokens))
    rounds = rounds[1:]
    total, simulator, generation = (statistics.median(r[i] for r in rounds) for i in range(3))
    return {
        "steps_per_s": config.steps_per_update / total,
        "tokens_per_s": statistics.median(r[3] / r[2] for r in rounds),
        "simulator": simulator / total,
        "generation": generation / total,
        "learning": 1 - (simulator + generation) / total,
    }


def generation_seconds(config: Config, base: Path, rounds: int) -> dict[str, float]:
    """CPU seconds in which one observation of each simulator is answered, with an adapter on the policy; medians.

    Returns:
        Of the decoder of the model's family, of transformers' forward pass with a cache and LoRA merged, and of
        transformers' `generate`, each drawing the same tokens.
    """
    vlm = policy.load_base(base, config.model)
    if config.model.lora_rank:
        vlm.add_adapter(config.model.lora_rank, config.model.lora_alpha)
    with make_simulators(config, 1, Runtime(0, 1, vlm.device)) as simulators:
        shown = [observation for observation in simulators.reset() if observation is not None]
    prompts = vlm.encode_frames(vlm.encode([o["frames"] for o in shown], [o["prompt"] for o in shown]))
    engines = {
        "decoder": TransformersEngine(vlm),
        "cached": TransformersEngine(vlm, decoders=[cached_decoder]),
        "transformers": TransformersEngine(vlm, decoders=()),
    }
    spent: dict[str, list[float]] = {name: [] for name in engines}
    for number in range(rounds + 1):  # the first of which is not counted
        seeds = range(number * len(prompts), (number + 1) * len(prompts))
        for name, engine in engines.items():
            started = time.process_time()
            engine.generate(
                prompts,
                max_new_tokens=config.rollout.max_new_tokens,
                temperature=config.rollout.temperature,
                seeds=seeds,
            )
            spent[name].append(time.process_time() - started)
    return {name: statistics.median(seconds[1:]) for name, seconds in spent.items()}


def one_at_a_time(config: Config, **train: Any) -> Config:
    """One simulator, one step a forward pass, gradients accumulated to the same batch."""
    values = config.model_dump()
    values["env"] |= {"num_envs": 1, "num_workers": 1}
    values["deepspeed"] |= {"ranks": 1}
    values["rollout"] |= {"steps": config.train.batch_size}
    values["train"] |= {"micro_batch_size": 1, **train}
    return Config.model_validate(values)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = common.parser("train", __doc__)
    parser.add_argument("--updates", type=int, default=3, help="measured rounds (default: %(default)s)")
    options = parser.parse_args(arguments)
    config = load(options.params, options.set)
    quiet()
    with process_group(config.deepspeed.threads) as runtime, common.base_model(config, options.base) as base:
        print(common.heading(runtime.device, config.env.id, config.model.dtype))
        batched = measure(config, base, options.updates, runtime)
        single = measure(one_at_a_time(config), base, 1, runtime)
        # After generation, one more pass for the log-probabilities of each response.
        released = measure(one_at_a_time(config, old_scores="computed"), base, 1, runtime, released=True)
        generation = generation_seconds(config, base, 10)
        costs = list(passes.table(passes.measure(config, base, options.updates, runtime), config, base, runtime.device))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{'':28}{'steps/s':>9}{'tokens/s':>10}{'simulator':>11}{'generation':>12}{'learning':>10}")
    for name, row in (
        (f"{config.env.num_envs} simulators, batched", batched),
        ("1 simulator, one at a time", single),
        ("as the released code works", released),
    ):
        print(
            f"{name:28}{row['steps_per_s']:9.1f}{row['tokens_per_s']:10.0f}"
            f"{row['simulator']:11.1%}{row['generation']:12.1%}{row['learning']:10.1%}"
        )
    print(
        f"batched / one at a time: {batched['steps_per_s'] / single['steps_per_s']:.1f} x; batched / as the released "
        f"code works: {batched['steps_per_s'] / released['steps_per_s']:.1f} x"
    )
    decoder, cached, transformers = (generation[name] for name in ("decoder", "cached", "transformers"))
    print(
        f"{config.env.num_envs} responses of at most {config.rollout.max_new_tokens} tokens: {decoder * 1000:.0f} ms "
        f"of CPU time; by transformers' generate {transformers * 1000:.0f} ms, {transformers / decoder:.1f} x; by its "
        f"forward pass in our loop {cached * 1000:.0f} ms, {cached / decoder:.1f} x"
    )
    print(*costs, sep="\n")
    print(f"peak memory of the learner: {peak:.0f} MiB")
    return 0


if __name__ == "__main__":
    sys.exit(report_errors(main))
