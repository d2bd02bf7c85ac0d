"""What a person should hear while there is time: a run that cannot learn as it is set up says so early."""

from __future__ import annotations

import math
from collections.abc import Mapping

from vldac.config import Config
from vldac.episodes import EpisodeStatistics

#: Share of the first rollout's responses above which something is set up wrongly.
_NEARLY_ALL = 0.9


def early_warnings(row: Mapping[str, float], statistics: EpisodeStatistics, config: Config) -> list[str]:
    """Warnings after an update, one line each.

    Args:
        row: the metrics of the update.
        statistics: of all episodes so far.
        config: of the run.
    """
    found = []
    if row["update"] == 1:
        if (cut := row["rollout/truncated_responses"]) > _NEARLY_ALL:
            found.append(
                f"{cut:.0%} of the responses were cut off at rollout.max_new_tokens {config.rollout.max_new_tokens}, "
                "before the model could name an action; raise it"
            )
        elif (invalid := row["rollout/invalid_actions"]) > _NEARLY_ALL:
            found.append(
                f"{invalid:.0%} of the responses named no legal action; look at them with vldac evaluate, and try "
                "env.prompt full for a pretrained model, or a longer warm start for a small one"
            )
    if row["update"] == math.ceil(config.updates / 10) and statistics.ended:
        so_far = f"in the first {row['environment_steps']} environment steps ({statistics.ended} episodes)"
        advice = "an easier env.id, more env.num_envs, longer rollout.steps or warm_start.expert_walk may help"
        if statistics.lowest == statistics.highest:
            found.append(
                f"every episode has returned {statistics.highest:g} {so_far}: there is nothing to learn from; {advice}"
            )
        elif not statistics.succeeded:
            found.append(f"no episode has succeeded {so_far}; {advice}")
    return found
