"""Builds the small model and teaches it to see and to keep the format, but not to act.

The targets are true scene descriptions with uniformly random actions. What comes out describes what it sees, answers
in JSON, and plays like the random policy; from there only reinforcement learning teaches it to act. A share of the
examples are questions about other pictures with their right answers: the general understanding that training in one
environment must not undo (`benchmarks.suites.understanding` asks the same kind of question from seeds of its own).

    vldac warm-start --params params.yaml --out models/base --metrics metrics/base.json
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from tqdm import tqdm

from envs import registry
from envs.base import TRAINING_SEEDS, Env, Observation
from vldac import parsing, policy
from vldac.acting import Actor
from vldac.config import Config, load
from vldac.losses import step_mean
from vldac.models import tiny as tiny_vlm
from vldac.models.vlm import VLM, Prompt
from vldac.parsing import ParsedResponse
from vldac.utils.errors import report_errors
from vldac.utils.files import honor_umask, write_json
from vldac.utils.libraries import quiet, set_threads
from vldac.utils.seeding import derive_seed

PICTURES = "Pictures-v0"
_MOST_EXAMPLES = 8192
_HELD_OUT = 256
_LONGEST_WALK = 12  # steps of a random walk before the next episode: starts of episodes stay frequent


@dataclass(frozen=True)
class Example:
    """One observation with what is true of it.

    Attributes:
        observation: what the model is shown.
        description: the true scene description.
        actions: those that are accepted, one of which is drawn at random each time the example is used.
        expert: what the environment's expert would do; None where it has none, or where it is not asked.
    """

    observation: Observation
    description: str
    actions: tuple[str, ...]
    expert: str | None = None


def collect_examples(config: Config, count: int, seed: int) -> list[Example]:
    """Walks through one simulator, at random or in part as its expert would, and describes what is seen."""
    rng, settings = np.random.default_rng(seed), config.warm_start
    asked = settings.expert_walk > 0 or settings.expert_actions > 0
    env = registry.make(config.env.id, **config.env.make_options)
    unwrapped = cast(Env, env.unwrapped)
    examples: list[Example] = []
    try:
        while len(examples) < count:
            observation, _ = env.reset(seed=int(rng.integers(TRAINING_SEEDS.start, TRAINING_SEEDS.stop)))
            for _ in range(int(rng.integers(1, _LONGEST_WALK + 1))):
                expert = unwrapped.expert_action() if asked else None
                examples.append(Example(observation, unwrapped.describe(), unwrapped.action_names, expert))
                name = str(rng.choice(unwrapped.action_names))
                if expert is not None and rng.random() < settings.expert_walk:
                    name = expert
                observation, _, terminated, truncated, _ = env.step(unwrapped.parse_action(name))
                if terminated or truncated:
                    break
    finally:
        env.close()
    return examples[:count]


def collect_pictures(config: Config, count: int, seed: int) -> list[Example]:
    """Questions about drawn pictures (`envs.pictures`), each with its right answer alone."""
    rng, shape = np.random.default_rng(seed), config.env
    env = registry.make(PICTURES, width=shape.width, height=shape.height, prompt=shape.prompt)
    unwrapped = cast(Env, env.unwrapped)
    examples = []
    for _ in range(count):
        observation, _ = env.reset(seed=int(rng.integers(TRAINING_SEEDS.start, TRAINING_SEEDS.stop)))
        right = unwrapped.expert_action()
        assert right is not None
        examples.append(Example(observation, unwrapped.describe(), (right,)))
    env.close()
    return examples


def corpus(examples: Sequence[Example]) -> list[str]:
    """Every text that the model will read or write, for its tokenizer."""
    prompts = sorted({e.observation["prompt"] for e in examples})
    written = [parsing.render_response(ParsedResponse(e.description, a)) for e in examples[:2000] for a in e.actions]
    return [*prompts * max(1, len(written) // max(1, len(prompts)) // 4), *written, "user\n", "assistant\n"]


def train(config: Config, vlm: VLM, examples: Sequence[Example], seed: int) -> None:
    """Supervised learning on the examples, each time with a fresh random action (or the expert's, where asked for)."""
    settings = config.warm_start

    def target(example: Example) -> torch.Tensor:
        action = str(rng.choice(example.actions))
        if example.expert is not None and rng.random() < settings.expert_actions:
            action = example.expert
        return vlm.encode_response(parsing.render_response(ParsedResponse(example.description, action)))

    rng = np.random.default_rng(seed)
    optimizer = torch.optim.AdamW(vlm.parameters(), lr=settings.learning_rate, weight_decay=0.01)
    order: list[int] = []
    bar = tqdm(range(settings.updates), desc="warm start", unit="update", disable=not sys.stderr.isatty())
    for update in bar:
        if len(order) < settings.batch_size:
            order += rng.permutation(len(examples)).tolist()
        batch = [examples[order.pop()] for _ in range(settings.batch_size)]
        scores = vlm(_prompts(vlm, batch), [target(example) for example in batch], temperature=1.0)
        loss = -step_mean(scores.log_probs, scores.mask)
        optimizer.param_groups[0]["lr"] = settings.learning_rate * _schedule(update, settings.updates)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vlm.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if update % 50 == 0 or update == settings.updates - 1:
            bar.set_postfix(loss=f"{loss.item():.3f}")
            if bar.disable:
                print(f"warm start: update {update + 1}/{settings.updates}, loss {loss.item():.3f}", flush=True)


def measure(config: Config, vlm: VLM, examples: Sequence[Example], seed: int) -> dict[str, float]:
    """Samples answers on held-out examples: how many are legal, and how many describe the scene truly."""
    actor = Actor(
        vlm,
        max_new_tokens=config.rollout.max_new_tokens,
        temperature=config.rollout.temperature,
    )
    legal = true = tokens = 0
    for start in range(0, len(examples), 32):
        batch = examples[start : start + 32]
        decisions = actor.act([e.observation for e in batch], [derive_seed(seed, start + i) for i in range(len(batch))])
        for example, decision in zip(batch, decisions, strict=True):
            legal += decision.action in example.actions
            true += decision.parsed is not None and decision.parsed.thoughts == example.description
            tokens += len(decision.response.token_ids)
    count = len(examples)
    return {"legal_answers": legal / count, "true_descriptions": true / count, "response_tokens": tokens / count}


def run(config: Config, out: Path) -> dict[str, float]:
    """Makes the base model of a run in `out` and returns what it can do."""
    if config.model.base != "tiny":
        policy.require_name(config.model.base)
        policy.write_pointer(out, config.model.base, config.model.revision)
        return {}
    wanted = min(_MOST_EXAMPLES, max(1, config.warm_start.updates) * config.warm_start.batch_size)
    pictures = round(config.warm_start.pictures * wanted)
    examples = collect_examples(config, wanted - pictures + _HELD_OUT, derive_seed(config.seed, "examples"))
    held_out, examples = examples[:_HELD_OUT], examples[_HELD_OUT:]
    if pictures:
        examples += collect_pictures(config, pictures, derive_seed(config.seed, "pictures"))
        np.random.default_rng(derive_seed(config.seed, "mixture")).shuffle(examples)
    tiny_vlm.build(config.model.tiny, corpus(examples), derive_seed(config.seed, "initialisation"), out)
    vlm = VLM.from_pretrained(out, system_message=config.model.system_message, max_pixels=config.model.max_pixels)
    train(config, vlm.train(), examples, derive_seed(config.seed, "warm start"))
    vlm.eval().model.save_pretrained(out)
    honor_umask(out)
    measured = measure(config, vlm, held_out, derive_seed(config.seed, "held out"))
    parameters = float(sum(p.numel() for p in vlm.parameters()))
    return {**measured, "parameters": parameters}


def _prompts(vlm: VLM, batch: Sequence[Example]) -> list[Prompt]:
    return vlm.encode([e.observation["frames"] for e in batch], [e.observation["prompt"] for e in batch])


def _schedule(update: int, updates: int) -> float:
    """Linear rise over 30 updates, constant, linear fall over the last third."""
    return min(1.0, (update + 1) / 30) * min(1.0, 3 * (1 - update / updates) + 0.02)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="vldac warm-start", description=__doc__.splitlines()[0])
    parser.add_argument("--params", help="configuration (default: params.yaml, or the defaults where there is none)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override one value")
    parser.add_argument("--out", type=Path, default=Path("models/base"), help="directory of the base model")
    parser.add_argument("--metrics", type=Path, help="where to write what the base model can do, as JSON")
    options = parser.parse_args(arguments)
    config = load(options.params, options.set)
    quiet()
    set_threads(config.deepspeed.threads)
    metrics = run(config, options.out)
    if options.metrics:
        options.metrics.parent.mkdir(parents=True, exist_ok=True)
        write_json(options.metrics, metrics)
    print(f"base model in {options.out}: " + ", ".join(f"{k} {v:.4g}" for k, v in metrics.items()))
    return 0


if __name__ == "__main__":
    sys.exit(report_errors(main))
