"""VL-DAC from start to end: collect, score, update, until the steps are spent.

    vldac train --params params.yaml --base models/base --run-dir runs/mine --out models/policy

The same command goes on from the last checkpoint of --run-dir, to the same weights as a run that was never stopped.
Under torchrun or the deepspeed launcher it is one rank; by itself it starts `deepspeed.ranks` of them.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import yaml

from envs.vector import VectorEnv, training_seeds
from vldac import checkpoint, exports, policy
from vldac.checkpoint import generator_state, restore_generator, write_json
from vldac.config import Config, ConfigError, load
from vldac.families import UnsupportedFamilyError
from vldac.learner import HealthError, Learner
from vldac.objectives import VLDAC
from vldac.plan import plan
from vldac.rollout import Collector, Rollout
from vldac.run_log import RunLog, claim
from vldac.runtime import Runtime, derive_seed, fail_readably, launch_ranks, process_group, quiet
from vldac.system_metrics import system_metrics

_WINDOW = 100  # episodes of a running success rate


def train(config: Config, base: Path, run_dir: Path, out: Path, runtime: Runtime) -> None:
    """Trains one run, from its last checkpoint if it has one, and writes the policy to `out`.

    Args:
        config: the run.
        base: directory of the base model.
        run_dir: checkpoints, metrics.jsonl (one line an update), episodes.jsonl (one line an episode) and exports, the
            policies of `checkpoint.export_every`.
        out: the policy directory; it appears whole or not at all.
        runtime: this rank.

    Raises:
        ConfigError: `run_dir` holds a run with other parameters or another base model, or lacks exports that it is to
            have.
        CheckpointError: a checkpoint could not be written; those before it are whole.
    """
    claim(run_dir, config, base, runtime)
    torch.use_deterministic_algorithms(runtime.device.type == "cpu")
    torch.manual_seed(derive_seed(config.seed, "weights"))  # the adapter and the value head, alike on every rank
    sampling, shuffling = torch.Generator(runtime.device), torch.Generator()
    sampling.manual_seed(derive_seed(config.seed, "sampling", runtime.rank))
    shuffling.manual_seed(derive_seed(config.seed, "minibatches", runtime.rank))

    objective = VLDAC(config.train.gamma, config.train.gae_lambda, config.train.clip)
    vlm = policy.load_base(base, config.model)
    learner = Learner(config, vlm, objective, runtime, shuffling)
    metrics = RunLog(run_dir / "metrics.jsonl", runtime)
    episode_log = RunLog(run_dir / "episodes.jsonl", runtime)
    window: deque[float] = deque(maxlen=_WINDOW)
    checkpoints = run_dir / "checkpoints"

    with make_simulators(config, runtime) as simulators:
        collector = Collector(
            vlm,
            simulators,
            max_new_tokens=config.rollout.max_new_tokens,
            temperature=config.rollout.temperature,
            generator=sampling,
        )
        experience = Experience(collector, simulators, {"sampling": sampling, "shuffling": shuffling}, window)

        def write(directory: Path) -> None:
            learner.save(directory)
            experience.save(directory / f"rank-{runtime.rank}.json")

        update = 0
        if (whole := _agreed(checkpoint.newest(checkpoints), runtime)) is not None:
            update = checkpoint.update_of(whole)
            learner.load(whole)
            experience.load(whole / f"rank-{runtime.rank}.json")
            exports.require(run_dir, config, update)
            if runtime.is_main:
                print(f"going on from update {update} of {config.updates} ({whole})", flush=True)
        else:
            collector.start()
        metrics.truncate(update)
        episode_log.truncate(update)

        while update < config.updates:
            started = time.perf_counter()
            rollout = collector.collect(config.rollout.steps)
            learned = learner.update(rollout, update)
            finished = _gather(rollout.episodes, runtime)
            episode_log.append([episode_row(e, update, config) for e in finished])
            update += 1
            window.extend(float(e["success"]) for e in finished)
            row = {
                "update": update,
                "environment_steps": update * config.steps_per_update,
                **learned,
                **rollout_metrics(rollout, finished, window, time.perf_counter() - started, runtime),
                **system_metrics(runtime.device),
            }
            metrics.append([row])
            if runtime.is_main:
                print(progress_line(row, config), flush=True)
            if update in config.exported_updates:  # before the checkpoint: what that resumes from has been exported
                exports.write(learner, config, update, exports.directory(run_dir, update), runtime)
            if update % config.checkpoint.every == 0 or update == config.updates:
                checkpoint.save(checkpoints, update, write, keep=config.checkpoint.keep, runtime=runtime)

    exports.write(learner, config, config.updates, out, runtime)
    runtime.barrier()


@dataclass
class Experience:
    """What a checkpoint holds of a rank beside the learner: where its simulators and its randomness stand.

    Attributes:
        collector: plays the simulators.
        simulators: their running episodes are kept as seeds and actions.
        generators: by name.
        window: success of the last episodes of all ranks.
    """

    collector: Collector
    simulators: VectorEnv
    generators: dict[str, torch.Generator]
    window: deque[float]

    def save(self, path: Path) -> None:
        """Writes it as JSON."""
        state = {
            "num_envs": self.simulators.state_dict(),
            "generators": {name: generator_state(generator) for name, generator in self.generators.items()},
            "window": list(self.window),
        }
        write_json(path, state)

    def load(self, path: Path) -> None:
        """Puts everything back where `save` found it."""
        state = json.loads(path.read_text(encoding="utf-8"))
        for name, generator in self.generators.items():
            restore_generator(generator, state["generators"][name])
        self.window.extend(state["window"])
        self.collector.resume(state["simulators"])


def make_simulators(config: Config, runtime: Runtime) -> VectorEnv:
    """This rank's simulators, on training seeds that no other rank draws."""
    env = config.env
    return VectorEnv(
        env.id,
        env.num_envs,
        num_workers=env.num_workers,
        seeds=training_seeds(config.seed, runtime.rank),
        step_deadline=env.step_deadline,
        **env.make_options,
    )


def rollout_metrics(
    rollout: Rollout, finished: list[dict[str, Any]], window: deque[float], seconds: float, runtime: Runtime
) -> dict[str, float]:
    """What an update's experience looked like, over all ranks. Nothing is said of episodes if none ended."""
    responses = [step.response for row in rollout.steps for step in row]
    counts = [len(responses), sum(len(r.token_ids) for r in responses), rollout.invalid, rollout.lost]
    steps, tokens, invalid, lost = runtime.sum(torch.tensor(counts, dtype=torch.float64)).tolist()
    spent = {name: runtime.max(value) for name, value in rollout.seconds.items()}
    metrics = {
        "rollout/response_tokens": tokens / steps,
        "rollout/invalid_actions": invalid / steps,
        "rollout/lost_episodes": lost,
        "time/update_s": seconds,
        "time/simulator_share": spent["simulator"] / seconds,
        "time/generation_share": spent["generation"] / seconds,
        "time/learning_share": max(0.0, 1 - sum(spent.values()) / seconds),
        "speed/environment_steps_per_s": steps / seconds,
        "speed/generated_tokens_per_s": tokens / max(spent["generation"], 1e-9),
    }
    if finished:
        for name, key in (("success", "success"), ("return", "episode_return"), ("length", "episode_length")):
            metrics[f"episode/{name}"] = sum(float(e[key]) for e in finished) / len(finished)
        metrics["episode/count"] = len(finished)
    if window:
        metrics["episode/success_last_100"] = sum(window) / len(window)
    return metrics


def episode_row(episode: dict[str, Any], updates_before: int, config: Config) -> dict[str, Any]:
    """One finished episode, and when it began, in environment steps of the run over all ranks.

    A learning curve is drawn over beginnings. Over endings it starts too high, because the episodes that end first
    are the quick successes.
    """
    ended = updates_before * config.rollout.steps + episode["ended_at"] + 1
    return {
        "update": updates_before + 1,
        "began": (ended - episode["episode_length"]) * config.env.num_envs * config.deepspeed.ranks,
        "success": bool(episode["success"]),
        "return": episode["episode_return"],
        "length": episode["episode_length"],
        "seed": episode["episode_seed"],
    }


def progress_line(row: dict[str, Any], config: Config) -> str:
    """One readable line an update."""

    def optional(name: str) -> str:  # nothing is said of episodes before one has ended
        return f"{row[name]:.2f}" if name in row else "-"

    fields = [
        f"update {row['update']}/{config.updates}",
        f"steps {row['environment_steps']}",
        f"success {optional('episode/success_last_100')}",
        f"return {optional('episode/return')}",
        f"invalid {row['rollout/invalid_actions']:.2f}",
        f"kl {row['policy/kl_to_old']:.4f}",
        f"clipped {row['policy/clip_fraction']:.2f}",
        f"entropy {row['policy/entropy']:.3f}",
        f"explained {row['critic/explained_variance']:.2f}",
        f"{row['speed/environment_steps_per_s']:.0f} steps/s",
    ]
    return "  ".join(fields)


def _agreed(path: Path | None, runtime: Runtime) -> Path | None:
    """Rank 0's choice of checkpoint, on every rank."""
    if runtime.world_size == 1:
        return path
    choice = [None if path is None else str(path)]
    dist.broadcast_object_list(choice, src=0)
    return None if choice[0] is None else Path(choice[0])


def _gather(episodes: list[dict[str, Any]], runtime: Runtime) -> list[dict[str, Any]]:
    if runtime.world_size == 1:
        return episodes
    lists: list[list[dict[str, Any]]] = [[] for _ in range(runtime.world_size)]
    dist.all_gather_object(lists, episodes)
    return [episode for rank in lists for episode in rank]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(prog="vldac train", description=__doc__.splitlines()[0])
    parser.add_argument("--params", help="configuration (default: params.yaml, or the defaults where there is none)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override one value")
    parser.add_argument("--base", type=Path, default=Path("models/base"), help="base model (default: %(default)s)")
    parser.add_argument("--run-dir", type=Path, default=Path("runs/default"), help="checkpoints and metrics")
    parser.add_argument("--out", type=Path, default=Path("models/policy"), help="the trained policy")
    parser.add_argument("--dry-run", action="store_true", help="print the resolved configuration and the plan")
    options = parser.parse_args(arguments)
    config = load(options.params, options.set)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    if options.dry_run:
        quiet()
        base = str(options.base) if (options.base / "config.json").exists() else None
        document = {"config": config.model_dump(mode="json"), "plan": plan(config, base)}
        print(yaml.safe_dump(document, sort_keys=False), end="")
        return 0
    if "WORLD_SIZE" not in os.environ and config.deepspeed.ranks > 1:
        return launch_ranks("vldac.train", arguments, config.deepspeed.ranks)
    if (ranks := int(os.environ.get("WORLD_SIZE", "1"))) != config.deepspeed.ranks:
        raise ConfigError(f"this was launched as {ranks} ranks, but deepspeed.ranks is {config.deepspeed.ranks}")
    quiet()
    with process_group(config.deepspeed.threads) as runtime:
        train(config, options.base, options.run_dir, options.out, runtime)
    return 0


if __name__ == "__main__":
    sys.exit(fail_readably(main, (HealthError, UnsupportedFamilyError)))
