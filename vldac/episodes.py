"""Training episodes: what each one came to, and success over those that can be compared fairly.

Quick episodes end first, and quick episodes are mostly successes. A success rate over whatever has ended is therefore
too high at the start of a run, after a change of the policy, and in the last points of a curve. Here an episode counts
once every episode that began before it has ended too.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from envs.base import begins_by_expert
from vldac.config import Config
from vldac.evaluation.statistics import wilson_interval

#: Episodes of the running success rate.
WINDOW = 100
#: Updates in a row after which a success rate has been reached for good.
_KEPT = 5


def episode_row(episode: dict[str, Any], updates_before: int, config: Config) -> dict[str, Any]:
    """One finished episode as a line of episodes.jsonl.

    Args:
        episode: `info` of its last step, with the step of the rollout that it `ended_at`.
        updates_before: updates made before the rollout in which it ended.
        config: of the run.

    Returns:
        Among others "began": when it began, in environment steps of the run over all ranks; and "assisted": whether
        the expert had walked a part of the way.
    """
    ended = updates_before * config.rollout.steps + episode["ended_at"] + 1
    return {
        "update": updates_before + 1,
        "began": _steps(ended - episode["episode_length"], config),
        "success": bool(episode["success"]),
        "return": episode["episode_return"],
        "length": episode["episode_length"],
        "seed": episode["episode_seed"],
        "assisted": begins_by_expert(episode["episode_seed"], config.env.expert_start),
    }


def running_since(lengths: Sequence[int], updates: int, config: Config) -> int:
    """When the oldest running episode began, in environment steps of the run over all ranks.

    Args:
        lengths: steps that the running episode of each simulator has taken.
        updates: made so far.
        config: of the run.
    """
    return _steps(updates * config.rollout.steps - max(lengths), config)


def _steps(rows: int, config: Config) -> int:
    return rows * config.env.num_envs


def recent_success(row: Mapping[str, Any]) -> str:
    """Success of the last comparable episodes after an update, with its 95% interval and n; a dash for none."""
    rate, count = row.get(f"episode/success_last_{WINDOW}"), row.get(f"episode/success_last_{WINDOW}_count")
    if rate is None or not count:
        return "-"
    low, high = wilson_interval(round(rate * count), int(count))
    return f"{rate:.2f} [{low:.2f}, {high:.2f}] (n {count:.0f})"


def _begun_first(rows: Sequence[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """The episodes with which a rollout began, none if one of them has not ended."""
    began = min((row["began"] for row in rows), default=0)
    found = [row for row in rows if row["began"] == began]
    return found if len(found) == count else []


class EpisodeStatistics:
    """Success of complete cohorts: of the episodes that began before the oldest one that is still running.

    Attributes:
        complete_until: environment steps; every episode that began before has ended.
        ended: episodes so far, compared fairly or not.
        succeeded: of them.
        assisted: episodes besides, which the environment's expert has begun.
        recent: the success rate of the last `WINDOW` comparable episodes, after each of the last updates that added to
            so many.
        lowest: return of them; infinite before the first.
        highest: return of them.
    """

    def __init__(self) -> None:
        self.complete_until = self.ended = self.succeeded = self.assisted = 0
        self.lowest, self.highest = math.inf, -math.inf
        self._waiting: list[dict[str, Any]] = []
        self._recent: deque[dict[str, Any]] = deque(maxlen=WINDOW)
        self.recent: deque[float] = deque(maxlen=_KEPT)

    def add(self, rows: Sequence[dict[str, Any]], oldest: int, first: int | None = None) -> dict[str, float]:
        """Takes the episodes that ended in an update; assisted ones do not count.

        Args:
            rows: of `episode_row`, over all ranks.
            oldest: what `running_since` says, the smallest over all ranks.
            first: where every rollout begins with new episodes and gives up those that it does not end, how many it
                begins with: they are the cohort, if all of them have ended. Later ones would be the quick ones.

        Returns:
            Metrics: means over the episodes that became comparable by now, if any did, and the success rate of the
            last `WINDOW` of them, with the number of episodes behind each; and how many have ended, and succeeded, of
            all.
        """
        cohort = rows if first is None else _begun_first(rows, first)
        own = [row for row in rows if not row.get("assisted", False)]
        self.assisted += len(rows) - len(own)
        rows = own
        self.ended += len(rows)
        self.succeeded += sum(row["success"] for row in rows)
        self.lowest = min([self.lowest, *(row["return"] for row in rows)])
        self.highest = max([self.highest, *(row["return"] for row in rows)])
        if first is None:
            self.complete_until = max(self.complete_until, oldest)
        elif cohort:
            self.complete_until = max(self.complete_until, cohort[0]["began"] + 1)
        added = [row for row in cohort if not row.get("assisted", False)]
        waiting = sorted([*self._waiting, *added], key=lambda row: (row["began"], row["seed"]))
        fair = [row for row in waiting if row["began"] < self.complete_until]
        self._waiting = waiting[len(fair) :]
        self._recent.extend(fair)
        metrics: dict[str, float] = {
            "episode/complete_until": float(self.complete_until),
            "episode/ended": self.ended,
            "episode/succeeded": self.succeeded,
        }
        if fair:
            for name in ("success", "return", "length"):
                metrics[f"episode/{name}"] = sum(float(row[name]) for row in fair) / len(fair)
            metrics["episode/count"] = len(fair)
        if self._recent:
            metrics[f"episode/success_last_{WINDOW}"] = sum(row["success"] for row in self._recent) / len(self._recent)
            metrics[f"episode/success_last_{WINDOW}_count"] = len(self._recent)
            if fair and len(self._recent) == WINDOW:  # otherwise it is the reading of before
                self.recent.append(metrics[f"episode/success_last_{WINDOW}"])
        return metrics

    def reached(self, target: float | None) -> bool:
        """Whether the success of the last `WINDOW` comparable episodes has been `target` or more for five updates."""
        return target is not None and len(self.recent) == _KEPT and min(self.recent) >= target

    def state_dict(self) -> dict[str, Any]:
        """Everything as JSON values."""
        return {
            "complete_until": self.complete_until,
            "ended": self.ended,
            "succeeded": self.succeeded,
            "assisted": self.assisted,
            "returns": [self.lowest, self.highest],
            "waiting": list(self._waiting),
            "recent": list(self._recent),
            "rates": list(self.recent),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Puts everything back where `state_dict` found it."""
        self.complete_until = int(state["complete_until"])
        self.ended, self.succeeded = int(state["ended"]), int(state["succeeded"])
        self.assisted = int(state["assisted"])
        self.lowest, self.highest = state["returns"]
        self._waiting = list(state["waiting"])
        self._recent = deque(state["recent"], maxlen=WINDOW)
        self.recent = deque(state["rates"], maxlen=_KEPT)
