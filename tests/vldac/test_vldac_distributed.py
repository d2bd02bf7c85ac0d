from __future__ import annotations

import os

import pytest
import torch

from vldac import distributed
from vldac.distributed import DeviceError, Runtime, process_group


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    return monkeypatch


@pytest.mark.parametrize(
    ("count", "ranks", "device"), [(0, 2, "cpu"), (1, 2, "cpu"), (2, 2, "cuda:1"), (8, 2, "cuda:1")]
)
def test_a_small_model_is_trained_on_the_cpu_unless_every_rank_has_a_gpu(
    gpus: pytest.MonkeyPatch, count: int, ranks: int, device: str
) -> None:
    gpus.setattr(torch.cuda, "device_count", lambda: count)
    assert str(distributed._device(1, ranks, small=True)) == device


def test_a_large_model_is_never_trained_on_the_cpu_beside_a_gpu(gpus: pytest.MonkeyPatch) -> None:
    gpus.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(DeviceError, match=r"2 ranks need a GPU each, and this machine has 1; set deepspeed.ranks to 1"):
        distributed._device(0, 2, small=False)


@pytest.mark.parametrize(
    "name", ["LOCAL_WORLD_SIZE", "LOCAL_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE", "SLURM_NTASKS_PER_NODE"]
)
def test_threads_are_shared_among_the_ranks_of_a_machine_under_every_launcher(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(distributed, "set_threads", lambda threads, ranks: told.append((threads, ranks)))
    for other in distributed._LOCAL_SIZES:
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(name, "4")
    monkeypatch.setattr(distributed.dist, "init_process_group", lambda *_, **__: None)
    monkeypatch.setattr(distributed.dist, "destroy_process_group", lambda: None)
    for variable in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(variable, os.environ.get(variable, "0") if variable != "WORLD_SIZE" else "1")
    with process_group(0):
        assert told == [(0, 4)]


def test_a_group_of_one_adds_and_gathers_its_own() -> None:
    alone = Runtime(0, 1, torch.device("cpu"))
    values = torch.tensor([1.0, 2.0])
    total = alone.sum(values)
    assert torch.equal(total, values)
    assert total.data_ptr() != values.data_ptr()
    assert alone.max(3) == 3.0
    assert alone.gather({"a": 1}) == [{"a": 1}]
