"""Lines of results of a study, made up."""

from __future__ import annotations

from typing import Any


def line(algorithm: str, environment: str, seed: int, success: float, **changes: Any) -> dict[str, Any]:
    """A line of cells.jsonl."""
    score = {"success": success, "success_ci": [0.4, 0.6], "episodes": 200}
    made = {
        "environment": environment,
        "algorithm": algorithm,
        "kind": "main",
        "variant": "",
        "seed": seed,
        "model": "tiny",
        "environment_steps": 64,
        "trained": score,
        "base": {**score, "success": 0.5},
        "random": {**score, "success": 0.45},
        "threshold": 0.9,
        "steps_to_threshold": 48 if success > 0.8 else None,
        "seconds_to_threshold": 12.0 if success > 0.8 else None,
        "seconds": 16.0,
        "cpu_seconds": 15.0,
        "curve": {
            "environment_steps": [16, 32, 48, 64],
            "success": [None, 0.5, success - 0.1, success],
            "episodes": [0, 60, 100, 100],
            "seconds": [4.0, 8.0, 12.0, 16.0],
        },
        "versions": {"vldac": "0.2.0"},
        "machine": {"architecture": "x86_64", "processor": "CPU", "cores": 2, "gpu": None},
    }
    return {**made, **changes}
