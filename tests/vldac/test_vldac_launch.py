"""Ranks that start, fail and are lost, on this machine, under a stand-in for Slurm, and on two hosts of a network."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from vldac.config import ConfigError, parse
from vldac.config.schema import DeepSpeedConfig
from vldac.launch import LaunchError, launch_ranks

REPOSITORY = Path(__file__).parents[2]
#: What a rank does: writes who it is, and then as its argument says.
PROBE = """
import json, os, pathlib, signal, sys, time
rank = int(os.environ["RANK"])
names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
pathlib.Path(sys.argv[2], f"rank-{rank}.json").write_text(json.dumps([int(os.environ[name]) for name in names]))
if sys.argv[1] == "killed" and rank == 1:
    os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[1] == "fails" and rank == 1:
    sys.exit(3)
if sys.argv[1] != "ends":
    time.sleep(600)
"""


@pytest.fixture
def probe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "rank_probe.py").write_text(PROBE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return "rank_probe"


def test_each_rank_is_told_who_it_is(probe: str, tmp_path: Path) -> None:
    assert launch_ranks(probe, ["ends", str(tmp_path)], DeepSpeedConfig(ranks=3), name="a") == 0
    found = [json.loads((tmp_path / f"rank-{rank}.json").read_text()) for rank in range(3)]
    assert found == [[rank, 3, rank, 3] for rank in range(3)]


def test_a_rank_that_is_killed_stops_the_others_and_is_told_in_one_line(
    probe: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(LaunchError, match=r"rank 1 was killed by SIGKILL .* resumes from the last checkpoint$"):
        launch_ranks(probe, ["killed", str(tmp_path)], DeepSpeedConfig(ranks=2), name="a")  # the other sleeps on
    assert capfd.readouterr().err == ""


def test_a_rank_that_fails_has_told_why_itself(probe: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert launch_ranks(probe, ["fails", str(tmp_path)], DeepSpeedConfig(ranks=2), name="a") == 3
    assert capfd.readouterr().err == ""


def test_slurm_starts_the_same_command_on_each_node(
    probe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripts = {
        "srun": f'#!/bin/sh\necho "$@" > {tmp_path}/typed\n',
        "scontrol": '#!/bin/sh\n[ "$*" = "show hostnames node[4-5]" ] && printf "node4\\nnode5\\n"\n',
    }
    for name, text in scripts.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    settings = DeepSpeedConfig(ranks=4, nodes=2, launcher="slurm")
    monkeypatch.delenv("SLURM_JOB_NODELIST", raising=False)
    with pytest.raises(LaunchError, match="needs an allocation"):
        launch_ranks(probe, ["ends"], settings, name="a")
    monkeypatch.setenv("SLURM_JOB_NODELIST", "node[4-5]")
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "16")
    assert launch_ranks(probe, ["ends"], settings, name="a") == 0
    assert " --cpus-per-task=16 " in (tmp_path / "typed").read_text()
    monkeypatch.delenv("SLURM_CPUS_PER_TASK")
    assert launch_ranks(probe, ["ends"], settings, name="a") == 0
    assert "cpus-per-task" not in (tmp_path / "typed").read_text()
    typed = (tmp_path / "typed").read_text()
    assert typed.startswith("--nodes=2 --ntasks=2 --ntasks-per-node=1")
    assert f"-m {probe} ends --set deepspeed.launcher=torchrun --set deepspeed.rendezvous=node4:29500" in typed


def test_nodes_and_launchers_that_do_not_fit_are_named() -> None:
    for values, parts in (
        ({"ranks": 3, "nodes": 2, "launcher": "slurm"}, "ranks 3 must be a multiple of nodes 2"),
        ({"ranks": 2, "nodes": 2}, "nodes 2 need launcher torchrun or slurm"),
        ({"ranks": 2, "nodes": 2, "launcher": "torchrun"}, "needs rendezvous"),
    ):
        with pytest.raises(ConfigError, match=parts):
            parse({"deepspeed": values})


# Two hosts: network namespaces of this machine, joined by a cable


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


def can_make_hosts() -> bool:
    if os.geteuid() or shutil.which("ip") is None or shutil.which("unshare") is None:
        return False
    made = subprocess.run(["ip", "netns", "add", "vldac-probe"], check=False, capture_output=True).returncode == 0
    if made:
        ip("netns", "delete", "vldac-probe")
    return made


@pytest.fixture
def hosts() -> Iterator[dict[str, str]]:
    """Names of two network namespaces, and their addresses."""
    if not can_make_hosts():
        pytest.skip("network namespaces need root and iproute2")
    addresses = {f"vldac-{os.getpid()}-{n}": f"10.83.7.{n}" for n in (1, 2)}
    first, second = addresses
    try:
        for name in addresses:
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
        ip("-n", first, "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", second)
        for name, address in addresses.items():
            ip("-n", name, "address", "add", f"{address}/24", "dev", "cable")
            ip("-n", name, "link", "set", "cable", "up")
        yield addresses
    finally:
        for name in addresses:
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


@pytest.mark.slow
def test_two_hosts_train_one_policy(hosts: dict[str, str], tiny_params: Any, tiny_base: Path, tmp_path: Path) -> None:
    settings = {"ranks": 2, "nodes": 2, "launcher": "torchrun", "rendezvous": f"{next(iter(hosts.values()))}:29511"}
    params = tmp_path / "params.yaml"
    params.write_text(yaml.safe_dump(tiny_params({"train": {"total_steps": 32}, "deepspeed": settings})))

    def start(host: str, address: str) -> subprocess.Popen[str]:
        train = [sys.executable, "-m", "vldac.train", "--params", params, "--base", tiny_base]
        places = ["--run-dir", tmp_path / "run", "--out", tmp_path / "policy"]
        return subprocess.Popen(
            # A host's name is its address: the ranks find each other without a name server.
            ["ip", "netns", "exec", host, "unshare", "--uts", "sh", "-c", f'hostname {address}; exec "$@"', "sh"]
            + [str(word) for word in (*train, *places)],
            cwd=REPOSITORY,
            env={**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "cable"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    processes = [start(host, address) for host, address in hosts.items()]
    outputs = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert sum(output.count("update 2/2") for output in outputs) == 1
    assert (tmp_path / "policy" / "adapter_model.safetensors").is_file()
    assert all("type on each of them: python -m vldac.train --params" in output for output in outputs)
