"""Starts the ranks of a run: on this machine, on several that meet at a rendezvous, or on those of a Slurm job."""

from __future__ import annotations

import logging
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from vldac.config.schema import DeepSpeedConfig
from vldac.utils.errors import UserError
from vldac.utils.processes import die_with_parent

#: Set for ranks that are killed with the process that started them.
DIE_WITH_PARENT = "VLDAC_DIE_WITH_PARENT"
#: Seconds between two looks at whether every rank is alive, and between the request to stop and the kill.
_MONITOR, _GRACE = 0.2, 5
_PORT = 29500


class LaunchError(UserError):
    """The ranks of a run could not be started, or one of them was lost; the message is one line."""


def launch_ranks(module: str, arguments: Sequence[str], settings: DeepSpeedConfig, *, name: str) -> int:
    """Runs `python -m module` as the ranks of this machine, and waits for those of all machines.

    With `launcher: torchrun` the same command is typed on each of `nodes` machines, which meet at `rendezvous`. With
    `launcher: slurm` it is typed once, within an allocation, and `srun` starts it on each node.

    Args:
        module: the program of a rank.
        arguments: of it.
        settings: how many ranks on how many nodes, and how they meet.
        name: of the run; machines that meet must mean the same one.

    Returns:
        The exit status: 0, that of a rank that has told its error itself, or 128 and the signal that ended this.

    Raises:
        LaunchError: a rank was killed, or there is no Slurm.
    """
    if settings.launcher == "slurm":
        return _srun(module, arguments, settings)
    if settings.nodes > 1:
        typed = shlex.join(["python", "-m", module, *arguments])
        print(f"meeting the other nodes at {settings.rendezvous}; type on each of them: {typed}", flush=True)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ[DIE_WITH_PARENT] = "1"
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # it tells each failure in fifty lines
    launch = LaunchConfig(
        min_nodes=settings.nodes,
        max_nodes=settings.nodes,
        nproc_per_node=settings.ranks // settings.nodes,
        run_id=name,
        rdzv_backend="c10d",
        rdzv_endpoint=settings.rendezvous or "127.0.0.1:0",
        rdzv_configs={"join_timeout": int(settings.timeout)},
        local_addr="127.0.0.1" if settings.nodes == 1 else None,
        max_restarts=0,
        monitor_interval=_MONITOR,
        shutdown_timeout=_GRACE,
    )
    try:
        elastic_launch(launch, sys.executable)("-m", module, *arguments)
    except SignalException as error:
        return 128 + int(error.sigval)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode > 0:  # it has told why
            return int(failure.exitcode)
        raise LaunchError(
            f"rank {rank} was killed by {signal.Signals(-failure.exitcode).name} and the others were stopped; the same "
            "command resumes from the last checkpoint"
        ) from None
    return 0


def _srun(module: str, arguments: Sequence[str], settings: DeepSpeedConfig) -> int:
    """Types the command on each node of the allocation, with the first of them as the rendezvous."""
    nodes = os.environ.get("SLURM_JOB_NODELIST")
    if nodes is None:
        raise LaunchError("deepspeed.launcher slurm needs an allocation; run this within sbatch or salloc")
    rendezvous = settings.rendezvous or f"{_first_host(nodes)}:{_PORT}"
    # Which srun does not take over from sbatch: without it, all ranks of a node may share one core.
    cores = os.environ.get("SLURM_CPUS_PER_TASK")
    meeting = ("--set", "deepspeed.launcher=torchrun", "--set", f"deepspeed.rendezvous={rendezvous}")
    process = subprocess.Popen(
        [
            *("srun", f"--nodes={settings.nodes}", f"--ntasks={settings.nodes}", "--ntasks-per-node=1"),
            *([f"--cpus-per-task={cores}"] if cores else []),
            *("--kill-on-bad-exit=1", sys.executable, "-m", module, *arguments, *meeting),
        ],
        preexec_fn=die_with_parent,  # noqa: PLW1509  # one prctl call, nothing that could deadlock after fork
    )
    try:
        return process.wait()
    except BaseException:  # an interrupt: the ranks get it as well, and are waited for
        process.send_signal(signal.SIGTERM)
        process.wait()
        raise


def _first_host(nodes: str) -> str:
    hosts = subprocess.run(["scontrol", "show", "hostnames", nodes], capture_output=True, text=True, check=True)
    return hosts.stdout.split()[0]
