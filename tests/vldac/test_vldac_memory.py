from __future__ import annotations

import numpy as np
import pytest
import torch

from vldac import memory, plan
from vldac.config import Config, parse
from vldac.distributed import Runtime
from vldac.memory import PeakMemory, compared

ALONE = Runtime(0, 1, torch.device("cpu"))


def test_the_peak_is_what_was_taken_since() -> None:
    peak = PeakMemory(ALONE)
    before = peak.mib()
    taken = np.ones(64 * 2**20 + int(before) * 2**20, dtype=np.uint8)  # more than the process has ever had
    assert peak.mib() >= before + 50
    del taken
    assert peak.mib() >= before + 50  # also after it was given back


def test_only_the_first_update_that_trains_the_policy_is_set_beside_the_plan() -> None:
    peak = PeakMemory(ALONE)
    rows: list[dict[str, float]] = [{"train/policy_frozen": frozen} for frozen in (1.0, 0.0, 0.0)]
    lines = [peak.note(row, 10.0) for row in rows]
    assert [len(each) for each in lines] == [0, 1, 0]
    assert [row.get("system/planned_memory_mib") for row in rows] == [None, 10.0, None]
    assert rows[1]["system/peak_memory_mib"] >= 0


@pytest.mark.parametrize(
    ("peak", "planned", "warned"),
    [(4000, 3000, False), (4600, 3000, True), (1000, 3000, True), (2000, 3000, False), (300, 10, False)],
)
def test_a_plan_that_was_off_by_more_than_half_is_a_warning(peak: float, planned: float, warned: bool) -> None:
    first, *more = compared(peak, planned)
    assert first.startswith(f"memory of a rank: {peak} MiB at most up to its first update of the policy since it")
    assert first.endswith(f"planned {planned} MiB")
    assert [line.startswith("warning: ") for line in more] == [True] * warned


def test_gradient_checkpointing_is_automatic_where_the_plan_would_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    def planned(config: Config) -> dict[str, float]:
        found = plan.plan(config)["memory"]
        assert isinstance(found, dict)
        return found

    config = parse({})
    assert config.train.gradient_checkpointing == "auto"
    roomy = planned(config)
    assert roomy["gradient_checkpointing"] is False  # the small model fits on any machine
    never, always = (planned(parse({"train": {"gradient_checkpointing": wanted}})) for wanted in (False, True))
    assert roomy == never
    assert always["activations_mib"] < 0.4 * never["activations_mib"]
    for room, expected in ((roomy["total_mib"] + 1, never), (roomy["total_mib"] - 1, always)):
        monkeypatch.setattr(plan, "room", lambda _ranks, room=room: room)
        assert planned(config) == expected


def test_ranks_share_the_memory_of_a_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert memory.room(4) == pytest.approx(memory.room(1) / 4)
