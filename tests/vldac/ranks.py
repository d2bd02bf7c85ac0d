"""Rank processes that run one case after another, because their libraries take longer to import than a case to run."""

from __future__ import annotations

import gc
import importlib
import io
import multiprocessing
import os
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch.distributed import TCPStore

from vldac.config import Config, parse
from vldac.distributed import Runtime, process_group
from vldac.utils.libraries import quiet
from vldac.utils.processes import die_with_parent

#: What a rank does with a configuration, a base and arguments of the case's own, and finds.
Case = Callable[..., dict[str, Any]]

_SECONDS = 600.0  # for one case; a rank that waits for a peer which has failed takes longer
_POOLS: dict[int, _Ranks] = {}


def run_ranks(case: Case, base: Path, params: dict[str, Any], **arguments: Any) -> list[dict[str, Any]]:
    """What each rank of `case(config, base, runtime, **arguments)` has found, in as many processes as `params` says.

    Args:
        case: a function of a module.
        base: directory of the base model.
        params: of the run.
        **arguments: of the case, besides.
    """
    count = params["deepspeed"]["ranks"]
    if count not in _POOLS:
        _POOLS[count] = _Ranks(count)
    try:
        return _POOLS[count].run(case, base, params, arguments)
    except BaseException:  # what the ranks stand in now is not known
        _POOLS.pop(count).close()
        raise


class _Ranks:
    """A process group."""

    def __init__(self, count: int) -> None:
        context = multiprocessing.get_context("spawn")
        # Where the ranks meet, as with torchrun: here, so that no other process can take the port first.
        self._store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        self._connections: list[Any] = []
        self._processes = []
        for rank in range(count):
            here, there = context.Pipe()
            group = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
            environment = {name: str(value) for name, value in group.items()}
            environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(self._store.port), "OMP_NUM_THREADS": "1"}
            environment |= {"TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "0"}
            process = context.Process(target=_serve, args=(there, environment), daemon=True)
            process.start()
            there.close()
            self._connections.append(here)
            self._processes.append(process)

    def run(self, case: Case, base: Path, params: dict[str, Any], arguments: dict[str, Any]) -> list[dict[str, Any]]:
        for connection in self._connections:
            connection.send((case.__module__, case.__name__, base, params, arguments))
        found = []
        for rank, connection in enumerate(self._connections):
            assert connection.poll(_SECONDS), f"rank {rank} did not answer in time"
            failure, saved = connection.recv()
            assert failure is None, f"rank {rank}:\n{failure}"
            found.append(torch.load(io.BytesIO(saved), weights_only=True))
        return found

    def close(self) -> None:
        for process in self._processes:
            process.kill()
            process.join()


def _serve(connection: Connection, environment: dict[str, str]) -> None:
    die_with_parent()
    os.environ.update(environment)
    quiet()
    with process_group(1) as runtime:
        while True:
            try:
                module, name, base, params, arguments = connection.recv()
            except EOFError:
                return
            try:
                case = getattr(importlib.import_module(module), name)
                found = _run(case, parse(params), base, runtime, arguments)
            except BaseException:  # noqa: BLE001  # the test that asked is told, whatever it is
                connection.send((traceback.format_exc(), None))
            else:
                connection.send((None, found))
            gc.collect()


def _run(case: Case, config: Config, base: Path, runtime: Runtime, arguments: dict[str, Any]) -> bytes:
    """What a rank has found, as a file: tensors go between processes through memory that they share otherwise."""
    saved = io.BytesIO()
    torch.save(case(config, base, runtime, **arguments), saved)
    return saved.getvalue()
