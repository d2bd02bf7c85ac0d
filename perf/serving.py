"""How fast a served policy answers: clients that each ask one question after the other, in batches and one at a time.

vldac perf serving [--base models/base] [--questions 256] [--clients 16] [--batch-size 16]

Both are measured in one run, so that the ratio can be trusted; pictures are not decoded, and HTTP is left out.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from envs.base import Observation
from perf import common
from vldac.acting import Actor
from vldac.batching import Batcher
from vldac.config import load
from vldac.distributed import Runtime
from vldac.evaluation import model
from vldac.train import make_simulators
from vldac.utils.errors import report_errors
from vldac.utils.libraries import quiet, set_threads


def latencies(batcher: Batcher, observations: Sequence[Observation], questions: int, clients: int) -> list[float]:
    """Seconds from each question to its answer.

    Args:
        batcher: answers them.
        observations: that are asked about in turn.
        questions: in all.
        clients: that ask at the same time.
    """

    def ask(number: int) -> float:
        started = time.perf_counter()
        batcher.ask(observations[number % len(observations)], temperature=0.0, seed=0, patience=3600.0).result()
        return time.perf_counter() - started

    with ThreadPoolExecutor(clients) as pool:
        return list(pool.map(ask, range(questions)))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = common.parser("serving", __doc__)
    parser.add_argument("--questions", type=int, default=256, help="(default: %(default)s)")
    parser.add_argument("--clients", type=int, default=16, help="that ask at the same time (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=16, help="(default: %(default)s)")
    options = parser.parse_args(arguments)
    config = load(options.params, options.set)
    quiet()
    set_threads(config.deepspeed.threads)
    with common.base_model(config, options.base) as base:
        vlm = model.load(base, None, dtype=config.model.dtype)
        with make_simulators(config, 1, Runtime(0, 1, vlm.device)) as simulators:
            observations = [observation for observation in simulators.reset() if observation is not None]
        actor = Actor(vlm, max_new_tokens=config.rollout.max_new_tokens)
        print(common.heading(vlm.device, config.env.id, f"{options.clients} clients"))
        rates = []
        for size in (options.batch_size, 1):
            batcher = Batcher(actor, size=size, capacity=options.clients)
            latencies(batcher, observations, 2 * size, options.clients)  # the first pass of a process is slow
            started = time.perf_counter()
            seconds = latencies(batcher, observations, options.questions, options.clients)
            rates.append(options.questions / (time.perf_counter() - started))
            batcher.close()
            median, slow = np.quantile(seconds, [0.5, 0.95])
            print(
                f"{size:3} at once, at most: {rates[-1]:8.1f} answers/s; median {median:.3f} s, 95% within {slow:.3f} s"
            )
    print(f"batched / one at a time: {rates[0] / rates[1]:.1f} x")
    return 0


if __name__ == "__main__":
    sys.exit(report_errors(main))
