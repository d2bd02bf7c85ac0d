"""What a person should hear while there is time: a run that cannot learn as it is set up says so early."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from vldac.config import Config
from vldac.episodes import EpisodeStatistics

#: Share of the first rollout's responses above which something is set up wrongly.
_NEARLY_ALL = 0.9
#: Ended episodes without which nothing is said about success.
_ENOUGH = 20
#: Share of the first update's entropy below which a policy hardly tries anything new, and the success that excuses it.
_LITTLE_ENTROPY, _GOOD_SUCCESS = 0.2, 0.5
#: Share of the range of returns by which the return must have moved to be called rising.
_RISE = 0.1

_CURES = "try an easier env.id or preset, more env.num_envs"


def early_warnings(
    history: Sequence[Mapping[str, Any]], statistics: EpisodeStatistics, config: Config, oldest: int
) -> list[str]:
    """Warnings after an update, one line each.

    Success is judged twice: once a tenth of the updates is made and `_ENOUGH` episodes have ended, and at half of them.

    Args:
        history: the metrics of the updates so far, the newest last.
        statistics: of all episodes so far.
        config: of the run.
        oldest: when the oldest running episode began (`vldac.episodes.running_since`), over all ranks.
    """
    row = history[-1]
    found = _first_responses(row, config) if row["update"] == 1 else []
    if row["update"] == 1 and row["train/policy_frozen"] and config.train.value_warmup >= config.updates:
        found.append(
            f"train.value_warmup {config.train.value_warmup} takes all {config.updates} updates: the value head "
            "learns, and the policy stays as it is; set it to 0, or train.total_steps above "
            f"{config.train.value_warmup * config.steps_per_update}"
        )
    tenth = math.ceil(config.updates / 10)
    if row["update"] == tenth and not statistics.ended and not statistics.assisted:
        found.append(
            f"no episode has ended in the first {row['environment_steps']} environment steps; the oldest that runs has "
            f"taken {(row['environment_steps'] - oldest) // config.env.num_envs}: whether the goal is ever reached is "
            "not known yet; set longer rollout.steps, or a smaller env.max_steps"
        )
    if _judged(row, tenth) and (
        len(history) == 1 or not _judged(history[-2], tenth) or row["update"] == math.ceil(config.updates / 2)
    ):
        found += _success(history, statistics, config)
    if _collapsed(history[0], row) and not (len(history) > 1 and _collapsed(history[0], history[-2])):
        found.append(
            f"the entropy of the responses has fallen from {history[0]['policy/entropy']:.3f} to "
            f"{row['policy/entropy']:.3f} while success is {row['episode/success_last_100']:.2f}: the policy hardly "
            "tries anything new; try a lower train.learning_rate, a higher train.kl_coefficient or rollout.temperature"
        )
    return found


def _first_responses(row: Mapping[str, Any], config: Config) -> list[str]:
    if (cut := row["rollout/truncated_responses"]) > _NEARLY_ALL:
        return [
            f"{cut:.0%} of the responses were cut off at rollout.max_new_tokens {config.rollout.max_new_tokens}, "
            "before the model could name an action; raise it"
        ]
    if (invalid := row["rollout/invalid_actions"]) > _NEARLY_ALL:
        return [
            f"{invalid:.0%} of the responses named no legal action; look at them with vldac evaluate, and try "
            "env.prompt full for a pretrained model, or a longer warm start for a small one"
        ]
    return []


def _judged(row: Mapping[str, Any], tenth: int) -> bool:
    return row["update"] >= tenth and row.get("episode/ended", 0) >= _ENOUGH


def _success(history: Sequence[Mapping[str, Any]], statistics: EpisodeStatistics, config: Config) -> list[str]:
    """What a run without any success, or without any difference between its episodes, should hear."""
    steps = history[-1]["environment_steps"]
    so_far = f"in the first {steps} environment steps ({statistics.ended} episodes)"
    cures = _CURES
    if config.model.base == "tiny":
        cures += ", or warm_start: sparse, which shows the base model what an expert does"
    if statistics.succeeded == statistics.ended:
        return []
    if statistics.lowest == statistics.highest:
        return [f"every episode has returned {statistics.lowest:g} {so_far}: there is nothing to learn from; {cures}"]
    if statistics.succeeded:
        return []
    first, last = _returns(history)
    if last - first > _RISE * (statistics.highest - statistics.lowest):
        return [
            f"no episode has succeeded {so_far}, while the return rose from {first:.3g} to {last:.3g}: that is "
            "progress where rewards tell of each step; where only the goal is rewarded, the policy learns to avoid "
            f"penalties and may stay there; then {cures}"
        ]
    return [f"no episode has succeeded {so_far}, and the return does not rise; {cures}, or longer rollout.steps"]


def _returns(history: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """Mean return of comparable episodes in the first and last third of the updates that have any; 0 for none."""
    rows = [row for row in history if "episode/return" in row]
    third = len(rows) // 3
    if not third:
        return 0.0, 0.0

    def mean(part: Sequence[Mapping[str, Any]]) -> float:
        count = sum(row["episode/count"] for row in part)
        return float(sum(row["episode/return"] * row["episode/count"] for row in part) / count)

    return mean(rows[:third]), mean(rows[-third:])


def _collapsed(first: Mapping[str, Any], row: Mapping[str, Any]) -> bool:
    success = row.get("episode/success_last_100")
    if success is None or row["episode/success_last_100_count"] < _ENOUGH or success >= _GOOD_SUCCESS:
        return False
    return bool(row["policy/entropy"] < _LITTLE_ENTROPY * first["policy/entropy"])
