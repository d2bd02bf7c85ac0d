"""Plays episodes with a policy and shows them step by step, beside its base on the same seeds where that is asked for.

    vldac watch models/policy --base

Writes index.html, a player that needs no other file, and episodes.gif. Without a seed it plays several evaluation
seeds and shows two: the success that was hardest, and a failure.
"""

from __future__ import annotations

import argparse
import sys
from collections import deque
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from envs import registry
from envs.base import EVALUATION_SEEDS, Env, Exchange, Observation
from vldac import parsing, policy
from vldac.acting import Actor, Decision
from vldac.algorithms import registry as algorithms
from vldac.config import Config, EnvConfig, parse
from vldac.evaluation import environments
from vldac.evaluation.choice import choose
from vldac.evaluation.model import load as load_model
from vldac.evaluation.player import Answer, Panel, Show, Token, Turn, animate, outcome, page
from vldac.models.vlm import VLM, Response
from vldac.parsing import ParsedResponse
from vldac.utils.errors import UserError, report_errors
from vldac.utils.libraries import quiet, set_threads
from vldac.utils.progress import Progress
from vldac.utils.seeding import derive_seed
from vldac.value_head import ValueHead

#: Legal actions that are scored at a step; an environment may list more.
MOST_ACTIONS = 32
_BATCH = 8


@dataclass(frozen=True)
class Step:
    """One response of an episode, as it was sampled.

    Attributes:
        observation: what was shown.
        decision: what the policy made of it.
        action_names: the legal actions.
        legal: the response named one.
        reward: of the step.
    """

    observation: Observation
    decision: Decision
    action_names: tuple[str, ...]
    legal: bool
    reward: float


@dataclass(frozen=True)
class Episode:
    """A finished episode.

    Attributes:
        seed: of its reset.
        success: by the environment's own rule.
        steps: in order.
        last_frame: (H, W, 3) uint8, after the last of them.
    """

    seed: int
    success: bool
    steps: tuple[Step, ...]
    last_frame: NDArray[np.uint8]

    @property
    def length(self) -> int:
        """Environment steps."""
        return len(self.steps)

    @property
    def episode_return(self) -> float:
        """Undiscounted sum of rewards."""
        return sum(step.reward for step in self.steps)


@dataclass(frozen=True)
class Player:
    """A policy that plays and can be looked into.

    Attributes:
        label: as it is shown.
        vlm: the policy.
        config: of the run that trained it; its sampling holds here too.
        value_head: its critic; None for a base, or an algorithm without one.
    """

    label: str
    vlm: VLM
    config: Config
    value_head: ValueHead | None = None

    def play(self, env: Any, seed: int) -> Episode:
        """Plays the episode of a seed: in the policy's own environment, the one that `evaluate` has counted."""
        unwrapped, steps = cast(Env, env.unwrapped), list[Step]()
        history = deque[Exchange](maxlen=self.config.env.history)
        observation, _ = env.reset(seed=seed)
        ended, info = False, dict[str, Any]()
        while not ended:
            shown = cast(Observation, {**observation, "history": tuple(history)})
            names, decision = unwrapped.action_names, self.decide(shown, seed, len(steps))
            action = None if decision.action is None else unwrapped.parse_action(decision.action)
            history.append(Exchange(shown["prompt"], decision.text))
            observation, reward, terminated, truncated, info = env.step(action)
            reward = info.get("unscaled_reward", reward)
            steps.append(Step(shown, decision, names, not info["invalid"], float(reward)))
            ended = terminated or truncated
        return Episode(seed, bool(info["success"]), tuple(steps), observation["frames"][-1].copy())

    def decide(self, observation: Observation, seed: int, step: int, attempt: int = 0) -> Decision:
        """Answers an observation.

        Args:
            observation: what is shown.
            seed: of the episode.
            step: environment steps before it.
            attempt: 0 samples what `evaluate` samples there, every other number something else.
        """
        place = (seed, step, attempt) if attempt else (seed, step)
        sampling = derive_seed(derive_seed(self.config.seed, "evaluation"), *place)
        (decision,) = self._actor.act([observation], [sampling])
        return decision

    @cached_property
    def _actor(self) -> Actor:
        rollout = self.config.rollout
        return Actor.of(self.vlm, rollout)

    def explain(self, episode: Episode) -> Panel:
        """Looks into each step: probabilities of tokens and actions, and the critic's value."""
        return Panel(self.label, episode.success, tuple(self._turn(step) for step in episode.steps), episode.last_frame)

    def _turn(self, step: Step) -> Turn:
        frame, prompt = step.observation["frames"][-1], step.observation["prompt"]
        return Turn(frame, prompt, self.look_into(step.decision, step.action_names), step.legal, step.reward)

    def look_into(self, decision: Decision, action_names: Sequence[str]) -> Answer:
        """Probabilities of the tokens of a response and of each legal action, and the critic's value."""
        return Answer(
            tokens=self.tokens(decision.response),
            action=decision.action,
            value=self._value(decision),
            actions=self._actions(decision, action_names[:MOST_ACTIONS]),
        )

    def tokens(self, response: Response) -> tuple[Token, ...]:
        """The tokens of a response as texts, without the end of turn."""
        ids, tokens, before = response.token_ids, list[Token](), ""
        for number, (token, log_prob) in enumerate(zip(ids, response.log_probs, strict=True), start=1):
            if int(token) == self.vlm.end_id:
                continue
            text = self.vlm.decode(ids[:number])
            # The first bytes of a character alone read as U+FFFD, which the next token replaces.
            added = "" if text.endswith("\ufffd") and number < len(ids) else text[len(before) :]
            before = text if added else before
            tokens.append(Token(added, float(log_prob.exp())))
        return tuple(tokens)

    @torch.no_grad()
    def _value(self, decision: Decision) -> float | None:
        if self.value_head is None:
            return None
        scores = self.vlm([decision.prompt], [decision.response.token_ids], self.config.rollout.temperature)
        states = algorithms.make(self.config.train).critic_states(scores.states)
        return float(self.value_head(states).flatten()[0])

    @torch.no_grad()
    def _actions(self, decision: Decision, names: Sequence[str]) -> tuple[tuple[str, float], ...]:
        """The probability of each legal action among them, given the thoughts, as it would be sampled."""
        parsed = decision.parsed
        if parsed is None or not names:
            return ()
        targets = [
            self.vlm.encode_response(parsing.render_response(ParsedResponse(parsed.thoughts, name))) for name in names
        ]
        log_probs: list[float] = []
        for start in range(0, len(targets), _BATCH):
            part = targets[start : start + _BATCH]
            scores = self.vlm([decision.prompt] * len(part), part, self.config.rollout.temperature)
            log_probs += scores.log_probs.double().sum(dim=1).tolist()
        shares = torch.softmax(torch.tensor(log_probs, dtype=torch.float64), dim=0).tolist()
        return tuple(zip(names, shares, strict=True))


def load_player(base: str, policy_dir: Path, label: str) -> Player:
    """A trained policy and its critic.

    Raises:
        OSError: a directory is missing or incomplete.
    """
    config = parse(policy.describe(policy_dir)["config"])
    vlm = load_model(base, policy_dir, dtype=config.model.dtype)
    head, path = None, policy_dir / "value_head.safetensors"
    if path.is_file():
        head = ValueHead(vlm.hidden_size, config.train.value_hidden_sizes)
        head.load_state_dict(load_file(path))
        head = head.to(vlm.device)
    return Player(label, vlm, config, head)


def load_base(base: str, config: Config, label: str = "base") -> Player:
    """A model that has not been trained, which plays as `config` says.

    Raises:
        OSError: nothing is there, or it is incomplete.
    """
    return Player(label, load_model(base, None, dtype=config.model.dtype, like=config.model), config)


def load_players(base: str, policy_dir: Path, name: str, *, beside_base: bool) -> list[Player]:
    """The policy, under a name, and its base where it is asked for.

    Raises:
        OSError: a directory is missing or incomplete.
    """
    player = load_player(base, policy_dir, f"trained: {name}")
    return [player, load_base(base, player.config)] if beside_base else [player]


def chosen(name: str | None, own: EnvConfig, root: Path) -> EnvConfig:
    """The environment that a person has chosen for a policy.

    Args:
        name: its id, or that of a preset; None takes the policy's own.
        own: that the policy was trained in.
        root: the project, see `vldac.evaluation.environments.named`.
    """
    if name is None or name == own.id:
        return own
    return environments.named(name, root) or EnvConfig(id=name)


def make_options(own: EnvConfig, env: EnvConfig) -> dict[str, Any]:
    """Options of `envs.registry.make` for an environment that is shown as a policy's own is.

    Args:
        own: that the policy was trained in.
        env: the one that is made, which has its rules: its options, its limit, what an illegal action costs.
    """
    rules = env.model_dump(include={"options", "max_steps", "reward_scale", "invalid_reward"})
    return own.make_options | rules | {"expert_start": 0.0}  # which is of training alone


def watch(players: Sequence[Player], env: Any, seeds: Sequence[int], candidates: int) -> list[Show]:
    """Plays episodes and returns those to show.

    Args:
        players: the first of them decides which.
        env: the environment.
        seeds: to show; none plays `candidates` evaluation seeds and chooses.
        candidates: seeds that are played where none is given.
    """
    every, played = seeds or EVALUATION_SEEDS[:candidates], list[tuple[Episode, ...]]()
    with Progress("playing", len(every) * len(players), "episodes") as progress:
        for seed in every:
            episodes: list[Episode] = []
            for player in players:
                episodes.append(episode := player.play(env, seed))
                came_to = outcome(episode.length, episode.episode_return, success=episode.success)
                progress.advance()
                progress.say(f"seed {seed}  {player.label}  {came_to}")
            played.append(tuple(episodes))
    shown = [played[index] for index in (range(len(played)) if seeds else choose(played))]
    with Progress("looking into the answers", len(shown) * len(players), "episodes") as progress:
        shows: list[Show] = []
        for one in shown:
            panels: list[Panel] = []
            for player, episode in zip(players, one, strict=True):
                panels.append(player.explain(episode))
                progress.advance()
            shows.append(Show(one[0].seed, tuple(panels)))
    return shows


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="vldac watch", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--policy", type=Path, default=Path("models/policy"), help="directory (default: %(default)s)")
    parser.add_argument("--base", default="models/base", help="its base model (default: %(default)s)")
    parser.add_argument("--name", help="of the policy, as it is shown; default: its directory")
    parser.add_argument("--beside-base", action="store_true", help="play the base on the same seeds, side by side")
    parser.add_argument("--env", metavar="ID", help="or a preset; default: that of the policy's training")
    parser.add_argument("--seed", type=int, nargs="+", default=[], help="default: two of several evaluation seeds")
    parser.add_argument("--episodes", type=int, default=8, help="seeds to choose from (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("watch"), help="directory (default: %(default)s)")
    options = parser.parse_args(arguments)
    if options.episodes < 1:
        raise UserError(f"--episodes {options.episodes}: at least one episode is needed; give 1 or more")
    if wrong := [seed for seed in options.seed if not 0 <= seed < EVALUATION_SEEDS.stop]:
        raise UserError(f"--seed {wrong[0]}: give a number from 0 to {EVALUATION_SEEDS.stop - 1}")
    quiet()
    name, own = options.name or str(options.policy), policy.recorded_config(options.policy, "env").env
    world = chosen(options.env, own, Path.cwd())
    with closing(registry.make(world.id, **make_options(own, world))) as env:  # before models that take minutes to load
        with Progress("loading the model"):
            players = load_players(options.base, options.policy, name, beside_base=options.beside_base)
        set_threads(players[0].config.deepspeed.threads)
        shows = watch(players, env, options.seed, options.episodes)
    config = players[0].config
    title = f"{options.env or own.id}, {config.model.base} ({players[0].vlm.backbone.config.model_type})"
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "index.html").write_text(page(title, shows), encoding="utf-8")
    animate(options.out / "episodes.gif", title, shows)
    print(f"open {options.out / 'index.html'} in a browser; {options.out / 'episodes.gif'} shows the same episodes")
    return 0


if __name__ == "__main__":
    sys.exit(report_errors(main))
