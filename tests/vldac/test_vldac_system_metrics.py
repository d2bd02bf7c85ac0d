from __future__ import annotations

import psutil
import pytest
import torch

from vldac.system_metrics import system_metrics


def test_what_a_run_does_to_its_machine_is_in_plain_units() -> None:
    metrics = system_metrics(torch.device("cpu"))
    memory = psutil.virtual_memory()
    assert metrics["system/process_memory_usage_megabytes"] == pytest.approx(
        psutil.Process().memory_info().rss / 1e6, rel=0.2
    )
    assert metrics["system/system_memory_usage_megabytes"] < memory.total / 1e6
    assert 0 < metrics["system/system_memory_usage_percentage"] <= 100
    assert not [name for name in metrics if "gpu" in name]
