"""What many tests share: the parameters of a run of seconds, and the small model that such runs start from."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast
from unittest import mock

import pytest
import yaml

# Before torch is imported: spinning threads of parallel tests would take each other's cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")


#: Seconds of a slow test by the folder of tests that it is in, roughly; others take ten.
SLOW_SECONDS = {"integration": 60, "pipelines": 30}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first: side by side, no process is left alone with a long one at the end."""
    seconds: Counter[Path] = Counter()
    for item in items:
        if item.get_closest_marker("slow"):
            folder = item.path.relative_to(Path(__file__).parent).parts[0]
            seconds[item.path] += SLOW_SECONDS.get(folder, 10)
    items.sort(key=lambda item: -seconds[item.path])


@pytest.fixture(scope="session", autouse=True)
def _settings_of_a_user() -> Iterator[None]:
    """This interpreter's programs first, and neither servers nor settings of whoever runs the tests."""
    with mock.patch.dict(os.environ):
        for name in [name for name in os.environ if name.startswith(("MLFLOW_", "PREFECT_", "DVC_"))]:
            del os.environ[name]
        os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        yield


@pytest.fixture(autouse=True)
def _environment() -> Iterator[None]:
    """What a test, or the code that it calls, puts into the environment ends with the test."""
    with mock.patch.dict(os.environ):
        yield


TINY_PARAMS: dict[str, Any] = {
    "seed": 3,
    "model": {
        "lora_rank": 4,
        "lora_alpha": 8,
        "tiny": {
            "hidden_size": 64,
            "layers": 1,
            "heads": 4,
            "kv_heads": 1,
            "intermediate_size": 128,
            "vision_depth": 1,
            "vision_width": 32,
            "vocabulary": 384,
        },
    },
    "env": {"id": "GymCards-NumberLine-v0", "width": 32, "height": 32, "num_envs": 4, "num_workers": 1},
    # Few updates: about half of the answers are legal, so that runs see both kinds.
    "warm_start": {"updates": 80, "batch_size": 16, "learning_rate": 3.0e-3},
    "rollout": {"steps": 4, "max_new_tokens": 24},
    "train": {
        "total_steps": 64,
        "batch_size": 8,
        "micro_batch_size": 8,
        "value_warmup": 1,
        "value_hidden_sizes": [16],
    },
    "deepspeed": {"ranks": 1},
    "checkpoint": {"every": 1},
    "evaluate": {"episodes": 6, "num_envs": 4},
    "benchmarks": {"limit": 1, "max_new_tokens": 4, "max_pixels": 4096, "balrog": {"environments": ["babyai", "nle"]}},
}


def _merged(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    result = dict(values)
    for key, change in changes.items():
        result[key] = _merged(result.get(key, {}), change) if isinstance(change, dict) else change
    return result


@pytest.fixture(scope="session")
def tiny_params() -> Any:
    """A function from changes, such as {"train": {"epochs": 1}}, to the values of a small params.yaml."""
    return lambda changes=None: _merged(TINY_PARAMS, changes or {})


@pytest.fixture(scope="session")
def tiny_config(tiny_params: Any) -> Any:
    """A function from changes to the `Config` of a small run."""
    from vldac.config import parse  # noqa: PLC0415  # tests of other packages need no model library

    return lambda changes=None: parse(tiny_params(changes))


@pytest.fixture
def tiny_params_file(tiny_params: Any, tmp_path: Path) -> Any:
    """A function from changes to the path of a small params.yaml."""

    def write(changes: dict[str, Any] | None = None) -> Path:
        path = tmp_path / "params.yaml"
        path.write_text(yaml.safe_dump(tiny_params(changes)))
        return path

    return write


@pytest.fixture(scope="session")
def tiny_base(tiny_config: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base model of a hundred thousand parameters, warm-started on NumberLine for seconds; not to be changed."""
    import torch  # noqa: PLC0415  # as above

    from vldac import warm_start  # noqa: PLC0415
    from vldac.utils.libraries import quiet  # noqa: PLC0415

    quiet()
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("models") / "base"
    warm_start.run(tiny_config(), out)
    return out


@pytest.fixture(scope="session")
def tiny_policy(tiny_base: Path, tiny_config: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy on `tiny_base` whose adapter is the identity and whose critic says 0.25; not to be changed."""
    import torch  # noqa: PLC0415  # as above

    from vldac import policy  # noqa: PLC0415
    from vldac.models.vlm import VLM  # noqa: PLC0415
    from vldac.value_head import ValueHead  # noqa: PLC0415

    directory, config = tmp_path_factory.mktemp("models") / "policy", tiny_config()
    vlm = VLM.from_pretrained(tiny_base)
    vlm.add_adapter(config.model.lora_rank, config.model.lora_alpha)
    head = ValueHead(vlm.hidden_size, config.train.value_hidden_sizes)
    with torch.no_grad():
        cast(torch.nn.Linear, head.layers[-1]).bias.fill_(0.25)
    description = {
        "adapter": True,
        "config": config.model_dump(mode="json"),
        "base": policy.identity(tiny_base),
        "environment_steps": 0,
    }
    policy.save(directory, vlm, head.state_dict(), description)
    return directory
