"""Reinforcement learning from start to end: collect, score, update, until the steps are spent.

    vldac train --params params.yaml --base models/base --run-dir runs/mine --out models/policy

The same command resumes from the last checkpoint of --run-dir, to the same weights as a run that was never stopped.
Under torchrun or the deepspeed launcher it is one rank of as many as were launched; by itself it starts
`deepspeed.ranks` of them.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import yaml

from envs import registry
from envs.vector import VectorEnv, seeds_from, shared_seeds, training_seeds
from vldac import algorithms, checkpoint, engines, exports, policy, trackers, zero3
from vldac.acting import Actor
from vldac.checkpoint import CheckpointError
from vldac.config import Config, ConfigError, load
from vldac.distributed import Runtime, process_group
from vldac.early_warnings import early_warnings
from vldac.engines.base import Engine
from vldac.episodes import WINDOW, EpisodeStatistics, episode_row, recent_success, running_since
from vldac.launch import launch_ranks
from vldac.learner import Learner
from vldac.memory import PeakMemory
from vldac.plan import needed, plan
from vldac.rollout import Collector, Rollout
from vldac.run_log import RunLog, claim
from vldac.system_metrics import system_metrics
from vldac.utils.errors import report_errors
from vldac.utils.files import write_json
from vldac.utils.libraries import quiet
from vldac.utils.progress import Progress
from vldac.utils.seeding import derive_seed

#: File of a checkpoint.
_EXPERIENCE = "experience.json"


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
    identity = policy.identity(base)
    lock = claim(run_dir, config, identity, runtime)
    peak = PeakMemory(runtime)
    torch.use_deterministic_algorithms(runtime.device.type == "cpu")
    torch.manual_seed(derive_seed(config.seed, "weights"))  # the adapter and the value head, alike on every rank
    algorithm = algorithms.make(config.train)
    vlm = zero3.load_base(base, config, runtime)
    learner = Learner(config, vlm, algorithm, runtime)
    engine = engines.make(config.rollout.engine, vlm, config.rollout.engine_options)
    actor = Actor.of(vlm, config.rollout, engine)
    exporter = exports.Exporter(learner, config, identity, runtime)
    metrics, episode_log = (RunLog(run_dir / f"{name}.jsonl", runtime) for name in ("metrics", "episodes"))

    with (
        contextlib.closing(engine),
        make_simulators(config, algorithm.group_size, runtime) as simulators,
        Progress("train", config.updates, "updates", shown=runtime.is_main) as progress,
        contextlib.ExitStack() as stack,
    ):
        collector = Collector(
            actor,
            simulators,
            seed=derive_seed(config.seed, "sampling"),
            first=_first_simulator(config, runtime),
            group_size=algorithm.group_size,
            whole_episodes=algorithm.whole_episodes,
        )
        experience = Experience(collector, simulators, runtime)

        def write(directory: Path) -> None:
            learner.save(directory)
            experience.save(directory / _EXPERIENCE)

        update = start(run_dir, config, learner, experience, metrics)
        progress.begin_at(update)
        metrics.truncate(update)
        episode_log.truncate(update)
        stack.enter_context(trackers.following(metrics, config))

        history, statistics, target = metrics.rows(), experience.statistics, config.train.stop_at
        while update < config.updates and not statistics.reached(target):
            started = time.perf_counter()
            rollout = play(config.rollout.steps, update, engine, learner, collector)
            learned = learner.update(rollout, update)
            finished = [
                episode_row(e, update, config) for episodes in runtime.gather(rollout.episodes) for e in episodes
            ]
            episode_log.append(finished)
            update += 1
            oldest = -runtime.max(-running_since(simulators.episode_lengths, update, config))
            row: dict[str, Any] = {
                "update": update,
                "environment_steps": update * config.steps_per_update,
                **learned,
                **rollout_metrics(rollout, time.perf_counter() - started, runtime),
                **statistics.add(finished, int(oldest), config.env.num_envs if algorithm.whole_episodes else None),
                **system_metrics(runtime.device),
            }
            history.append(row)
            row["warnings"] = early_warnings(history, statistics, config, int(oldest))
            noticed = peak.note(row, needed(learner.planned))
            metrics.append([row])
            stopping = report(progress, row, statistics, config, noticed)
            if update in config.exported_updates:  # before the checkpoint: what that resumes from has been exported
                exporter.write(update, exports.directory(run_dir, update))
            del rollout  # with what its pictures say, on the device, while the next one is collected
            if update % config.checkpoint.every == 0 or update == config.updates or stopping:
                metrics.sync()
                episode_log.sync()
                checkpoint.save(run_dir / "checkpoints", update, write, keep=config.checkpoint.keep, runtime=runtime)

    exporter.write(update, out)
    runtime.barrier()
    if lock is not None:
        lock.close()


def start(run_dir: Path, config: Config, learner: Learner, experience: Experience, metrics: RunLog) -> int:
    """Puts a run back to its newest whole checkpoint of which the metrics are whole too, or begins it.

    Returns:
        The updates that the run has made.

    Raises:
        CheckpointError: there are whole checkpoints, but not the metrics of the updates before them.
    """
    runtime, checkpoints = metrics.runtime, run_dir / "checkpoints"
    # Rank 0 looks for all: to verify a checkpoint is to read all of it.
    whole = _agreed(checkpoint.newest(checkpoints, metrics.whole_updates()) if runtime.is_main else None, runtime)
    if whole is None:
        if _agreed(checkpoint.newest(checkpoints) if runtime.is_main else None, runtime) is not None:
            raise CheckpointError(
                f"{metrics.path} has lost the metrics of updates that are in {checkpoints}; restore it from a copy, or "
                "choose another --run-dir to begin again"
            )
        experience.collector.start()
        return 0
    update = checkpoint.update_of(whole)
    learner.load(whole)
    experience.load(whole / _EXPERIENCE)
    exports.require(run_dir, config, update)
    if runtime.is_main:
        print(f"resuming from update {update} of {config.updates} ({whole})", flush=True)
    return update


@dataclass
class Experience:
    """What a checkpoint holds beside the learner: where all simulators stand, on any number of ranks.

    Randomness has no state: every draw is decided by the run's seed and by what it is for.

    Attributes:
        collector: plays this rank's simulators.
        simulators: their running episodes are kept as seeds and actions.
        runtime: this rank.
        statistics: of the episodes of all ranks.
    """

    collector: Collector
    simulators: VectorEnv
    runtime: Runtime
    statistics: EpisodeStatistics = field(default_factory=EpisodeStatistics)

    def save(self, path: Path) -> None:
        """Writes it as JSON; every rank must call it."""
        states = self.runtime.gather(self.simulators.state_dict())
        episodes = [episode for state in states for episode in state["episodes"]]
        if self.runtime.is_main:
            simulators = {**states[0], "episodes": episodes}
            write_json(path, {"simulators": simulators, "statistics": self.statistics.state_dict()})

    def load(self, path: Path) -> None:
        """Puts everything back where `save` found it."""
        state = json.loads(path.read_text(encoding="utf-8"))
        self.statistics.load_state_dict(state["statistics"])
        first, simulators = self.collector.first, state["simulators"]
        episodes = simulators["episodes"][first : first + self.simulators.num_envs]
        self.collector.resume({**simulators, "episodes": episodes})


def check(config: Config, base: Path | None) -> None:
    """Refuses what a run would fail at later: an environment, an algorithm or a model that is not there.

    Args:
        config: the run.
        base: directory of the base model that a user named; None for none.

    Raises:
        ConfigError: `model.base` cannot be a model, or `base` holds another one.
        UnknownEnvError: there is no environment `env.id`.
        UnknownNameError: an algorithm or engine of the user's own cannot be imported.
    """
    registry.spec(config.env.id)
    algorithms.make(config.train)
    engines.check_options(config.rollout.engine, config.rollout.engine_options)
    policy.require_name(config.model.base)
    if base is not None and base.exists():
        policy.require_base(base, config.model)


def make_simulators(config: Config, group_size: int, runtime: Runtime) -> VectorEnv:
    """This rank's share of the simulators, each on the training seeds that it has on any number of ranks.

    Args:
        config: the run.
        group_size: neighboring simulators that start their episodes from the same seeds.
        runtime: this rank.

    Raises:
        ConfigError: `env.num_envs` cannot be divided into such groups.
    """
    env, ranks = config.env, runtime.world_size
    if env.num_envs % (group_size * ranks):
        raise ConfigError(
            f"env.num_envs {env.num_envs} must be a multiple of {config.train.algorithm}'s group size {group_size} on "
            f"each of {ranks} rank(s)"
        )
    seeds, groups = training_seeds(config.seed), 2 if config.rollout.double_buffering else 1
    return VectorEnv(
        env.id,
        env.num_envs // ranks,
        num_workers=max(groups, env.num_workers // ranks),
        seeds=seeds_from(shared_seeds(seeds, group_size), _first_simulator(config, runtime)),
        step_deadline=env.step_deadline,
        groups=groups,
        history=env.history,
        **env.make_options,
    )


def _first_simulator(config: Config, runtime: Runtime) -> int:
    return runtime.rank * (config.env.num_envs // runtime.world_size)


def play(steps: int, update: int, engine: Engine, learner: Learner, collector: Collector) -> Rollout:
    """A rollout of `steps` steps of each simulator under the weights that have seen `update` updates."""
    engine.update_weights(update)
    with learner.sampling():
        return collector.collect(steps, update)


def rollout_metrics(rollout: Rollout, seconds: float, runtime: Runtime) -> dict[str, float]:
    """What an update's experience looked like, over all ranks."""
    responses = [step.response for row in rollout.steps for step in row]
    tokens_written = sum(len(r.token_ids) for r in responses)
    counts = [len(responses), tokens_written, rollout.invalid, rollout.truncated, rollout.lost]
    steps, tokens, invalid, truncated, lost = runtime.sum(torch.tensor(counts, dtype=torch.float64)).tolist()
    spent = {name: runtime.max(value) for name, value in rollout.seconds.items()}
    return {
        "rollout/response_tokens": tokens / steps,
        "rollout/invalid_actions": invalid / steps,
        "rollout/truncated_responses": truncated / steps,
        "rollout/lost_episodes": lost,
        "time/update_s": seconds,
        "time/simulator_share": spent["simulator"] / seconds,
        "time/generation_share": spent["generation"] / seconds,
        "time/learning_share": max(0.0, 1 - sum(spent.values()) / seconds),
        "speed/environment_steps_per_s": steps / seconds,
        "speed/generated_tokens_per_s": tokens / max(spent["generation"], 1e-9),
    }


def report(
    progress: Progress, row: Mapping[str, Any], statistics: EpisodeStatistics, config: Config, noticed: Sequence[str]
) -> bool:
    """Shows a person what an update came to, and what else was `noticed`.

    Returns:
        Whether the run ends before its last update, because it has reached `train.stop_at`.
    """
    progress.advance(note=f"success {recent_success(row)}")
    progress.log(progress_line(row, config))
    for line in (*noticed, *(f"warning: {warning}" for warning in row["warnings"])):
        progress.say(line)
    stopping = statistics.reached(config.train.stop_at) and row["update"] < config.updates
    if stopping:
        progress.say(
            f"the last {WINDOW} episodes have kept a success of {config.train.stop_at} over 5 updates: ending at "
            f"{row['environment_steps']} of {config.updates * config.steps_per_update} environment steps "
            "(train.stop_at)"
        )
    return stopping


def progress_line(row: Mapping[str, Any], config: Config) -> str:
    """One readable line an update."""

    def optional(name: str) -> str:  # of episodes before a cohort is complete, or of a critic that is not there
        return f"{row[name]:.2f}" if name in row else "-"

    fields = [
        f"update {row['update']}/{config.updates}",
        f"steps {row['environment_steps']}",
        f"success {recent_success(row)}",
        f"return {optional('episode/return')}",
        f"invalid {row['rollout/invalid_actions']:.2f}",
        f"kl {row['policy/kl_to_old']:.4f}",
        f"clipped {optional('policy/clip_fraction')}",
        f"entropy {row['policy/entropy']:.3f}",
        f"explained {optional('critic/explained_variance')}",
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


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(prog="vldac train", description=__doc__.splitlines()[0])
    parser.add_argument("--params", help="configuration (default: params.yaml, or the defaults where there is none)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override one value")
    parser.add_argument("--base", type=Path, help="directory of model.base (default: models/base, if it holds that)")
    parser.add_argument("--run-dir", type=Path, default=Path("runs/default"), help="checkpoints and metrics")
    parser.add_argument("--out", type=Path, default=Path("models/policy"), help="the trained policy")
    parser.add_argument("--dry-run", action="store_true", help="print the resolved configuration and the plan")
    # DeepSpeed's launcher adds it to every command, besides the environment variable that is read.
    parser.add_argument("--local_rank", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    launched = [f"deepspeed.ranks={os.environ['WORLD_SIZE']}"] if "WORLD_SIZE" in os.environ else []
    config = load(options.params, [*options.set, *launched])
    trackers.require(config)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    if options.dry_run:
        quiet()
        check(config, options.base)
        document = {"config": config.model_dump(mode="json"), "plan": plan(config)}
        print(yaml.safe_dump(document, sort_keys=False), end="")
        return 0
    if "WORLD_SIZE" not in os.environ and config.deepspeed.ranks > 1:
        return launch_ranks("vldac.train", arguments, config.deepspeed, name=config.fingerprint())
    quiet()
    small = config.model.base == "tiny"
    with process_group(config.deepspeed.threads, config.deepspeed.timeout, small=small) as runtime:
        check(config, options.base)
        base = policy.choose_base(options.base, config.model, options.run_dir)
        train(config, base, options.run_dir, options.out, runtime)
    return 0


if __name__ == "__main__":
    sys.exit(report_errors(main))
