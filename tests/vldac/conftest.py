"""What tests of the learner share."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from vldac.distributed import Runtime, process_group
from vldac.utils.libraries import quiet


@pytest.fixture(scope="session")
def group() -> Iterator[tuple[Runtime, dict[str, str]]]:
    """A process group of one, which DeepSpeed takes once in a process, and the environment that it needs."""
    quiet()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
            patch.delenv(name, raising=False)
        before = dict(os.environ)
        with process_group(1) as runtime:
            needed = {name: value for name, value in os.environ.items() if before.get(name) != value}
            for name in needed:
                del os.environ[name]
            yield runtime, needed


@pytest.fixture(scope="module")
def runtime(group: tuple[Runtime, dict[str, str]]) -> Iterator[Runtime]:
    """This process as the only rank; the environment of it does not reach other tests' subprocesses."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in group[1].items():
            patch.setenv(name, value)
        yield group[0]
