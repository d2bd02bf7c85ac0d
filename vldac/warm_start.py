"""Builds the small model and teaches it to see and to keep the format, but not to act.

The targets are true scene descriptions with uniformly random actions. What comes out describes what it sees, answers
in JSON, and plays like the random policy; from there only reinforcement learning teaches it to act. A share of the
examples are questions about other pictures with their right answers: the general understanding that training in one
environment must not undo (`benchmarks.suites.understanding` asks the same kind of question from seeds of its own).

    vldac warm-start --params params.yaml --out models/base --metrics metrics/base.json
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from vldac import dense_labels, parsing, policy
from vldac.acting import Actor
from vldac.config import Config, load
from vldac.examples import Example, collect, corpus, fingerprint, sources
from vldac.loop_state import LoopState
from vldac.losses import step_mean
from vldac.models import tiny as tiny_vlm
from vldac.models.vlm import VLM, Prompt
from vldac.parsing import ParsedResponse
from vldac.utils.errors import report_errors
from vldac.utils.files import content_hash, honor_umask, write_json
from vldac.utils.libraries import quiet, set_threads
from vldac.utils.progress import Progress
from vldac.utils.schedules import trapezoid
from vldac.utils.seeding import derive_seed

_HELD_OUT = 256
_NEUTRAL = {"config", "evaluation", "plan.py"}  # of this package, what decides no base model
_RISE, _SLOPE = 30, 3.0  # of the learning rate; see `trapezoid`
_PASSES_OF_A_MIXTURE = 3  # of a batch, by length: rooms have a fifth of the words of a shop
_PASSES_OF_LESSONS = 6  # where there are lessons too: eight frames are twelve times as long as one
_TOWER_LEARNING_RATE = 1e-3  # of its first lesson
_TOWER_SHARE = 0.3  # of the learning rate, for a vision tower that has had its first lesson


def train(
    config: Config,
    vlm: VLM,
    examples: Sequence[Example],
    seed: int,
    *,
    kept: Path | None = None,
    identity: str = "",
) -> None:
    """Supervised learning on the examples, each time with a fresh random action (or the expert's, where asked for).

    Args:
        config: of the run.
        vlm: in training mode.
        examples: to learn.
        seed: of their order and of the actions.
        kept: where the state is kept, for a process that is killed; None keeps nothing.
        identity: see `vldac.loop_state.LoopState`.
    """
    settings = config.warm_start
    passes = _PASSES_OF_LESSONS if settings.lessons else _PASSES_OF_A_MIXTURE

    def target(example: Example) -> torch.Tensor:
        action = str(rng.choice(example.actions))
        if example.expert is not None and rng.random() < example.expert_share:
            action = example.expert
        return vlm.encode_response(parsing.render_response(ParsedResponse(example.description, action)))

    rng = np.random.default_rng(seed)
    tower: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, parameter in vlm.named_parameters():
        (tower if settings.dense_updates and ".visual." in name else rest).append(parameter)
    groups = [{"params": rest, "share": 1.0}, {"params": tower, "share": _TOWER_SHARE}]
    optimizer = torch.optim.AdamW([g for g in groups if g["params"]], lr=settings.learning_rate, weight_decay=0.01)
    state = LoopState(kept, identity, {"vlm": vlm}, optimizer, rng)
    begun, before = state.resume()
    order: list[int] = before.get("order", [])
    with Progress("warm start", settings.updates, "updates") as progress:
        progress.advance(begun)
        for update in range(begun, settings.updates):
            while len(order) < settings.batch_size:
                order += rng.permutation(len(examples)).tolist()
            batch = [examples[order.pop()] for _ in range(settings.batch_size)]
            prompts, targets = _prompts(vlm, batch), [target(example) for example in batch]
            loss = 0.0
            for part in _parts(prompts, targets, passes) if settings.mixture else [[*range(len(batch))]]:
                scores = vlm([prompts[i] for i in part], [targets[i] for i in part], temperature=1.0)
                of_part = -step_mean(scores.log_probs, scores.mask) * (len(part) / len(batch))
                of_part.backward()
                loss += of_part.item()
            rate = trapezoid(update, settings.updates, rise=_RISE, slope=_SLOPE)
            for group in optimizer.param_groups:
                group["lr"] = group["share"] * settings.learning_rate * rate
            torch.nn.utils.clip_grad_norm_(vlm.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            progress.advance(note=f"loss {loss:.3f}")
            state.keep(update + 1, {"order": order}, now=update + 1 == settings.updates)


def measure(config: Config, vlm: VLM, examples: Sequence[Example], seed: int) -> dict[str, float]:
    """Samples answers on held-out examples: how many are legal, and how many describe the scene truly."""
    actor = Actor.of(vlm, config.rollout)
    legal = true = tokens = 0
    count = len(examples)
    with Progress("held-out examples", count, "examples") as progress:
        for start in range(0, count, 32):
            batch = examples[start : start + 32]
            seeds = [derive_seed(seed, start + i) for i in range(len(batch))]
            for example, decision in zip(batch, actor.answer(_prompts(vlm, batch), seeds), strict=True):
                legal += decision.action in example.actions
                true += decision.parsed is not None and decision.parsed.thoughts == example.description
                tokens += len(decision.response.token_ids)
            progress.advance(len(batch))
    return {"legal_answers": legal / count, "true_descriptions": true / count, "response_tokens": tokens / count}


def run(config: Config, out: Path) -> dict[str, float]:
    """Makes the base model of a run in `out` and returns what it can do.

    Killed, it goes on from what it has kept in a hidden folder beside `out` within a minute of its end. Until it has
    learned all, what lies in `out` stays as it is.
    """
    if config.model.base != "tiny":
        policy.require_name(config.model.base)
        policy.write_pointer(out, config.model.base, config.model.revision)
        return {}
    settings, kept, aside = (
        config.warm_start,
        out.with_name(f".{out.name}.unfinished"),
        out.with_name(f".{out.name}.writing"),
    )
    examples, held_out = _examples(config)
    identity = _identity(config, examples)
    tiny_vlm.build(config.model.tiny, corpus(examples), derive_seed(config.seed, "initialisation"), aside)
    vlm = VLM.from_pretrained(aside, system_message=config.model.system_message, max_pixels=config.model.max_pixels)
    vlm.train()
    learned: dict[str, float] = {}
    if settings.dense_updates:
        learned = dense_labels.teach(
            vlm,
            examples,
            updates=settings.dense_updates,
            batch_size=2 * settings.batch_size,
            learning_rate=_TOWER_LEARNING_RATE,
            seed=derive_seed(config.seed, "dense labels"),
            kept=kept / "dense",
            identity=identity,
        )
    seed = derive_seed(config.seed, "warm start")
    train(config, vlm, examples, seed, kept=kept / "descriptions", identity=identity)
    vlm.eval().model.save_pretrained(aside)
    honor_umask(aside)
    _deliver(aside, out)
    measured = _measure_each(config, vlm, held_out)
    shutil.rmtree(kept, ignore_errors=True)
    return {**learned, **measured, "parameters": float(sum(p.numel() for p in vlm.parameters()))}


def _deliver(directory: Path, out: Path) -> None:
    """Puts the files of a directory in the place of those of the same names in `out`."""
    out.mkdir(parents=True, exist_ok=True)
    for path in sorted(directory.iterdir()):
        path.replace(out / path.name)
    directory.rmdir()


def _examples(config: Config) -> tuple[list[Example], dict[str, list[Example]]]:
    """What is learned from, shuffled, and by source what the model is measured on."""
    settings, found = config.warm_start, sources(config)
    wanted = min(settings.examples, max(1, settings.updates) * settings.batch_size)
    examples: list[Example] = []
    held_out: dict[str, list[Example]] = {}
    for number, source in enumerate(found):
        held = _HELD_OUT // 2 if settings.mixture else _HELD_OUT if number == 0 else 0
        collected = collect(source, round(source.share * wanted) + held)
        examples += collected[held:]
        if held:
            held_out[f"{number} {source.env_id}" if source.env_id in held_out else source.env_id] = collected[:held]
    if len(found) > 1:
        np.random.default_rng(derive_seed(config.seed, "mixture")).shuffle(examples)
    return examples, held_out


def _identity(config: Config, examples: Sequence[Example]) -> str:
    """Names all that decides a base model: its parameters, the code of learning, and the examples."""
    deciding = config.model_dump(mode="json", include={"seed", "model", "warm_start"})
    code = (path for path in sorted(Path(__file__).parent.glob("[a-z]*")) if path.name not in _NEUTRAL)
    parts = [json.dumps(deciding, sort_keys=True), content_hash(*code), fingerprint(examples)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _measure_each(config: Config, vlm: VLM, held_out: Mapping[str, Sequence[Example]]) -> dict[str, float]:
    """`measure` as the mean over sources; where there are several, true descriptions and right answers of each."""
    seed = derive_seed(config.seed, "held out")
    found = {name: measure(config, vlm, examples, seed) for name, examples in held_out.items()}
    measured = {key: float(np.mean([each[key] for each in found.values()])) for key in next(iter(found.values()))}
    if len(found) > 1:
        for key in ("true_descriptions", "legal_answers"):
            measured |= {f"{key}/{name}": each[key] for name, each in found.items()}
    return measured


def _prompts(vlm: VLM, batch: Sequence[Example]) -> list[Prompt]:
    return vlm.encoder([example.messages or vlm.conversation(example.observation) for example in batch])


def _parts(
    prompts: Sequence[Prompt], targets: Sequence[torch.Tensor], passes: int = _PASSES_OF_A_MIXTURE
) -> list[list[int]]:
    """The passes of a batch, by length, so that little of them is padding."""
    lengths = [len(prompt.input_ids) + len(target) for prompt, target in zip(prompts, targets, strict=True)]
    parts = np.array_split(np.argsort(lengths, kind="stable"), min(passes, len(lengths)))
    return [part.tolist() for part in parts]


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
