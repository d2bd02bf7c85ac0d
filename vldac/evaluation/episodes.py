"""Success in the simulator, on episodes that training never saw: random policy, base model, trained model.

    vldac evaluate --params params.yaml --base models/base --policy models/policy \\
        --out metrics/summary.json --episodes-dir evaluations
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from envs.base import EVALUATION_SEEDS, Observation
from envs.vector import VectorEnv, evaluation_seeds
from vldac import policy
from vldac.acting import Actor
from vldac.config import Config, load
from vldac.evaluation.filmstrip import draw
from vldac.evaluation.model import check
from vldac.evaluation.model import load as load_model
from vldac.evaluation.statistics import wilson_interval
from vldac.models.vlm import VLM
from vldac.utils.errors import report_errors
from vldac.utils.files import write_json
from vldac.utils.libraries import quiet, set_threads
from vldac.utils.progress import Progress
from vldac.utils.seeding import derive_seed

#: What is benchmarked, in this order.
POLICIES = ("random", "base", "trained")
_FILMED = 8  # episodes whose frames are kept


@dataclass(frozen=True)
class Reply:
    """What a policy said to one observation, and the action it named, None if it named none."""

    text: str
    action: str | None


class Turn(NamedTuple):
    """Where in which episode an observation is made.

    Attributes:
        seed: of the episode.
        step: environment steps before it.
    """

    seed: int
    step: int


#: Replies to a batch of observations, each with the actions that its environment accepts now and with its turn, which
#: decides what is drawn: an episode does not depend on which others are played beside it.
Policy = Callable[[Sequence[Observation], Sequence[Sequence[str]], Sequence[Turn]], list[Reply]]


@dataclass
class Episode:
    """One finished episode.

    Attributes:
        seed: of its reset.
        success: by the environment's own rule.
        episode_return: undiscounted sum of rewards.
        length: environment steps.
        invalid: answers that named no legal action.
        task: the kind of task, None where the environment has one only.
        replies: the texts, in order.
        frames: the newest frame before each reply, and the last one; empty unless it was filmed.
    """

    seed: int
    success: bool
    episode_return: float
    length: int
    invalid: int
    task: str | None
    replies: list[str]
    frames: list[NDArray[np.uint8]] = field(default_factory=list, repr=False)


def evaluate(config: Config, act: Policy, episodes: int, label: str) -> list[Episode]:
    """Plays each of the first `episodes` evaluation seeds once.

    A simulator that has finished its seeds stands still while the others finish theirs, so that short episodes do not
    crowd out long ones. Episodes that were lost with their worker are left out.
    """
    env, count = config.env, min(config.evaluate.num_envs, episodes)
    finished: list[Episode] = []
    with (
        Progress(f"{label} policy" if label == "random" else f"{label} model", episodes, "episodes") as progress,
        VectorEnv(
            env.id,
            count,
            num_workers=min(env.num_workers, count),
            seeds=evaluation_seeds(episodes, count),
            step_deadline=env.step_deadline,
            history=env.history,
            **env.make_options,
        ) as simulators,
    ):
        observations = simulators.reset()
        replies: list[list[str]] = [[] for _ in range(count)]
        frames: list[list[NDArray[np.uint8]]] = [[] for _ in range(count)]
        invalid = [0] * count
        while active := [i for i, observation in enumerate(observations) if observation is not None]:
            actions: list[str | None] = [None] * count
            answers = [""] * count
            shown = [cast(Observation, observations[i]) for i in active]
            turns = [Turn(cast(int, simulators.episode_seeds[i]), len(replies[i])) for i in active]
            replied = act(shown, [simulators.action_names[i] for i in active], turns)
            for i, observation, reply in zip(active, shown, replied, strict=True):
                actions[i], answers[i] = reply.action, reply.text
                replies[i].append(reply.text)
                if _is_filmed(simulators.episode_seeds[i]):
                    frames[i].append(observation["frames"][-1].copy())
            result = simulators.step(actions, answers)
            for i in active:
                info = result.infos[i]
                invalid[i] += bool(info.get("invalid", False))
                if not (result.terminated[i] or result.truncated[i]):
                    continue
                if not info.get("lost", False):
                    final = result.final_observations[i]
                    assert final is not None
                    finished.append(
                        Episode(
                            seed=info["episode_seed"],
                            success=bool(info["success"]),
                            episode_return=float(info["episode_return"]),
                            length=int(info["episode_length"]),
                            invalid=invalid[i],
                            task=info.get("task"),
                            replies=replies[i],
                            frames=[*frames[i], final["frames"][-1].copy()] if frames[i] else [],
                        )
                    )
                    progress.advance()
                replies[i], frames[i], invalid[i] = [], [], 0
            observations = result.observations
    finished.sort(key=lambda episode: episode.seed)
    return finished


def _is_filmed(seed: int | None) -> bool:
    return seed is not None and seed < EVALUATION_SEEDS.start + _FILMED


def vlm_policy(vlm: VLM, config: Config, seed: int) -> Policy:
    """Samples answers at the training temperature."""
    actor = Actor.of(vlm, config.rollout)

    def act(
        observations: Sequence[Observation], action_names: Sequence[Sequence[str]], turns: Sequence[Turn]
    ) -> list[Reply]:
        decisions = actor.act(observations, [derive_seed(seed, *turn) for turn in turns])
        return [Reply(decision.text, decision.action) for decision in decisions]

    return act


def random_policy(seed: int) -> Policy:
    """Names each of the actions that are accepted now with equal probability."""

    def act(
        observations: Sequence[Observation], action_names: Sequence[Sequence[str]], turns: Sequence[Turn]
    ) -> list[Reply]:
        draws = [np.random.default_rng([seed, *turn]) for turn in turns]
        chosen = [names[int(rng.integers(len(names)))] for names, rng in zip(action_names, draws, strict=True)]
        return [Reply(name, name) for name in chosen]

    return act


def summarize(episodes: Sequence[Episode]) -> dict[str, Any]:
    """Success with its 95% Wilson interval, mean return and mean steps; success by task where there are several.

    `steps_to_goal` is the mean length of all episodes: one that fails counts with every step it took.
    """
    count = len(episodes)
    if not count:
        raise RuntimeError("every evaluation episode was lost with its simulator; nothing can be said of this policy")
    successes = sum(e.success for e in episodes)
    returns = np.array([e.episode_return for e in episodes])
    summary = {
        "success": successes / count,
        "success_ci": list(wilson_interval(successes, count)),
        "return": float(returns.mean()),
        "return_standard_error": float(returns.std(ddof=1) / math.sqrt(count)) if count > 1 else 0.0,
        "steps_to_goal": sum(e.length for e in episodes) / count,
        "invalid_actions": sum(e.invalid for e in episodes) / sum(e.length for e in episodes),
        "episodes": count,
    }
    if tasks := sorted({e.task for e in episodes if e.task is not None}):
        summary["tasks"] = {task: _of_task([e.success for e in episodes if e.task == task]) for task in tasks}
    return summary


def _of_task(successes: Sequence[bool]) -> dict[str, Any]:
    count, total = len(successes), sum(successes)
    return {"success": total / count, "success_ci": list(wilson_interval(total, count)), "episodes": count}


def write_episodes(path: Path, episodes: Sequence[Episode]) -> None:
    """One JSON object an episode, frames left out."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        for episode in episodes:
            file.write(json.dumps({k: v for k, v in asdict(episode).items() if k != "frames"}) + "\n")


def run(
    config: Config,
    base: Path,
    policy_dir: Path,
    episodes_dir: Path,
    filmstrip: Path | None,
    *,
    checkpoints: Sequence[Path] = (),
    policies: Sequence[str] = POLICIES,
) -> dict[str, Any]:
    """Evaluates the random policy, the base model and the trained model on the same seeds.

    Args:
        config: of the run.
        base: directory of the base model.
        policy_dir: the trained policy.
        episodes_dir: takes one JSON Lines file a policy.
        filmstrip: PNG of one episode before and after training; None for none.
        checkpoints: policies on the way there, each evaluated on the first `evaluate.checkpoint_episodes` of the
            seeds.
        policies: of these three, those to evaluate; a filmstrip needs base and trained.

    Returns:
        What metrics/summary.json holds: an entry a policy, and a list of entries for the checkpoints, in order.
    """
    if "trained" in policies:
        check(base, policy_dir)
    # The same draws for every policy: what differs between two of them is then less of chance.
    seed = derive_seed(config.seed, "evaluation")
    summary: dict[str, Any] = {"env": config.env.id, "seed": config.seed, "temperature": config.rollout.temperature}
    played: dict[str, list[Episode]] = {}
    makers: dict[str, Callable[[], Policy]] = {
        "random": lambda: random_policy(seed),
        "base": lambda: vlm_policy(load_model(base, None, dtype=config.model.dtype, like=config.model), config, seed),
        "trained": lambda: vlm_policy(load_model(base, policy_dir, dtype=config.model.dtype), config, seed),
    }
    for name in policies:
        played[name] = evaluate(config, makers[name](), config.evaluate.episodes, name)
        summary[name] = summarize(played[name])
        write_episodes(episodes_dir / f"{name}.jsonl", played[name])
        print(f"{name}: success {summary[name]['success']:.3f} over {summary[name]['episodes']} episodes", flush=True)
    summary["checkpoints"] = [_checkpoint(config, base, path, episodes_dir) for path in checkpoints]
    if filmstrip is not None:
        draw(filmstrip, config.env.id, {"base model": played["base"], "trained model": played["trained"]})
    return summary


def _checkpoint(config: Config, base: Path, directory: Path, episodes_dir: Path) -> dict[str, Any]:
    name = directory.name
    seed = derive_seed(config.seed, "evaluation")
    act = vlm_policy(load_model(base, directory, dtype=config.model.dtype), config, seed)
    episodes = evaluate(config, act, config.evaluate.checkpoint_episodes, name)
    write_episodes(episodes_dir / f"{name}.jsonl", episodes)
    scores = summarize(episodes)
    print(f"{name}: success {scores['success']:.3f} over {scores['episodes']} episodes", flush=True)
    return {"name": name, "environment_steps": policy.describe(directory)["environment_steps"], **scores}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="vldac evaluate", description=__doc__.splitlines()[0])
    parser.add_argument("--params", help="configuration (default: params.yaml, or the defaults where there is none)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override one value")
    parser.add_argument("--base", type=Path, default=Path("models/base"))
    parser.add_argument("--policy", type=Path, default=Path("models/policy"))
    parser.add_argument("--out", type=Path, default=Path("metrics/summary.json"))
    parser.add_argument("--episodes-dir", type=Path, default=Path("evaluations"), help="one JSON line an episode")
    parser.add_argument("--filmstrip", type=Path, help="PNG of one episode before and after training")
    parser.add_argument("--checkpoints", type=Path, nargs="*", default=[], help="earlier policies, with fewer episodes")
    parser.add_argument("--policies", nargs="+", choices=POLICIES, default=POLICIES, help="default: all three")
    options = parser.parse_args(arguments)
    if options.filmstrip and not {"base", "trained"} <= {*options.policies}:
        parser.error("--filmstrip shows base and trained: name both in --policies")
    config = load(options.params, options.set)
    quiet()
    set_threads(config.deepspeed.threads)
    summary = run(
        config,
        options.base,
        options.policy,
        options.episodes_dir,
        options.filmstrip,
        checkpoints=options.checkpoints,
        policies=options.policies,
    )
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(options.out, summary)
    return 0


if __name__ == "__main__":
    sys.exit(report_errors(main))
