"""What a run does to its machine, under the names that MLflow gives system metrics."""

from __future__ import annotations

import psutil
import torch

_MEGABYTE = 1e6


def system_metrics(device: torch.device) -> dict[str, float]:
    """CPU use in percent since the last call, memory in megabytes and percent; on a GPU its memory too.

    Args:
        device: what the learner computes on.
    """
    memory = psutil.virtual_memory()
    metrics = {
        "system/cpu_utilization_percentage": psutil.cpu_percent(),
        "system/system_memory_usage_megabytes": memory.used / _MEGABYTE,
        "system/system_memory_usage_percentage": 100 * memory.used / memory.total,
        "system/process_memory_usage_megabytes": psutil.Process().memory_info().rss / _MEGABYTE,
    }
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        name = f"system/gpu_{device.index or 0}_memory_usage"
        metrics[f"{name}_megabytes"] = (total - free) / _MEGABYTE
        metrics[f"{name}_percentage"] = 100 * (total - free) / total
    return metrics
