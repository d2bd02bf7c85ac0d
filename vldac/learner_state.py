"""What a checkpoint holds of the learner: weights and Adam's moments, whole, on however many ranks they are.

DeepSpeed's own checkpoints are pickles with a file for each rank. These are safetensors with every parameter whole, so
that a run resumes on another number of ranks or at another ZeRO stage, and nothing in them can be executed.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from vldac.utils.errors import UserError
from vldac.utils.tensors import write_tensors
from vldac.utils.zero import deepspeed

_MOMENTS = ("exp_avg", "exp_avg_sq")
#: Bytes after which a new file is begun: rank 0 holds no more of a model of billions in memory at once.
_SHARD = 2 << 30


class LearnerStateError(UserError, OSError):
    """A checkpoint's learner state is missing, damaged or of another model; the message is one line."""


def save(engine: Any, directory: Path, *, is_main: bool) -> None:
    """Writes the trained weights in float32 and the optimizer's state; every rank must call it.

    Args:
        engine: of DeepSpeed, with torch's Adam, at any ZeRO stage.
        directory: receives state-00000.safetensors and so on.
        is_main: whether this rank writes.
    """
    directory.mkdir(parents=True, exist_ok=True)
    shard: dict[str, Tensor] = {"steps": torch.tensor(_steps(engine), dtype=torch.int64)}
    size = number = 0
    for name, tensor in _tensors(engine):
        if is_main:
            shard[name] = tensor.detach().cpu().contiguous()
            size += shard[name].nbytes
            if size >= _SHARD:
                write_tensors(shard, directory / f"state-{number:05}.safetensors")
                shard, size, number = {}, 0, number + 1
    if is_main and shard:
        write_tensors(shard, directory / f"state-{number:05}.safetensors")


def load(engine: Any, directory: Path) -> None:
    """Puts the engine into the state that `save` wrote; every rank must call it.

    Raises:
        LearnerStateError: the files are missing, or hold other parameters than the engine trains.
    """
    found: dict[str, Path] = {}
    for path in sorted(directory.glob("state-*.safetensors")):
        with safe_open(path, framework="pt") as file:
            found |= dict.fromkeys(file.keys(), path)
    names = {name for name, p in _trained(engine.module)}
    wanted = {"steps"} | {f"{kind}.{name}" for kind in ("weight", *_MOMENTS) for name in names}
    if wanted - found.keys() or found.keys() - wanted:
        raise LearnerStateError(f"{directory} does not hold the state of the parameters that this run trains")

    def read(name: str) -> Tensor:
        with safe_open(found[name], framework="pt") as file:
            return file.get_tensor(name)

    _set_steps(engine, int(read("steps")))
    for name, parameter in _trained(engine.module):
        weight = read(f"weight.{name}")
        with torch.no_grad(), deepspeed.zero.GatheredParameters([parameter], modifier_rank=0):
            if parameter.numel():  # of a sharded one, rank 0 alone has it now
                parameter.copy_(weight)
        for kind in ("weight", *_MOMENTS):
            _put(engine, parameter, kind, weight if kind == "weight" else read(f"{kind}.{name}"))


def _trained(module: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(name, parameter) for name, parameter in module.named_parameters() if parameter.requires_grad]


def _masters(engine: Any) -> dict[nn.Parameter, Tensor]:
    """Without ZeRO, what Adam steps for each trained parameter: itself, or its float32 copy."""
    if hasattr(engine.optimizer, "fp32_groups"):
        low, high = chain(*engine.optimizer.fp16_groups), chain(*engine.optimizer.fp32_groups)
        return dict(zip(low, high, strict=True))
    return {parameter: parameter for _, parameter in _trained(engine.module)}


def _stepped(engine: Any) -> list[Tensor]:
    """The tensors that Adam steps on this rank: parameters, or flat partitions of them."""
    for name in ("fp32_partitioned_groups_flat", "single_partition_of_fp32_groups", "fp32_groups_flat_partition"):
        if hasattr(engine.optimizer, name):  # ZeRO stage 3; 1 and 2; 1 in bfloat16 with float32 gradients
            return list(getattr(engine.optimizer, name))
    return list(_masters(engine).values())


def _steps(engine: Any) -> int:
    """Optimizer steps so far."""
    states = [engine.basic_optimizer.state.get(tensor) for tensor in _stepped(engine)]
    return max((int(state["step"]) for state in states if state), default=0)


def _set_steps(engine: Any, steps: int) -> None:
    """Gives Adam a state, which it makes at its first step, of moments that are still to come."""
    for tensor in _stepped(engine):
        engine.basic_optimizer.state[tensor] = {
            "step": torch.tensor(float(steps)),
            **{kind: torch.zeros_like(tensor) for kind in _MOMENTS},
        }
    if hasattr(engine.optimizer, "_hp_optimizer_states_linked"):  # from parameters to their parts of that state
        engine.optimizer._hp_optimizer_states_linked = False
        engine.optimizer._lazy_init_hp_params_optimizer_state()


def _tensors(engine: Any) -> Iterator[tuple[str, Tensor]]:
    """Every tensor of the state by name, whole, float32; a collective of all ranks."""
    begun = _steps(engine) > 0
    for name, parameter in _trained(engine.module):
        for kind in ("weight", *_MOMENTS):
            if kind != "weight" and not begun:
                shape = getattr(parameter, "ds_shape", parameter.shape)
                yield f"{kind}.{name}", torch.zeros(shape)
            else:
                yield f"{kind}.{name}", _whole(engine, parameter, kind)


def _whole(engine: Any, parameter: nn.Parameter, kind: str) -> Tensor:
    sharded = hasattr(parameter, "ds_id") or hasattr(parameter, "_hp_mapping")
    if not sharded:
        master = _masters(engine)[parameter]
        return master if kind == "weight" else engine.basic_optimizer.state[master][kind]
    whole: Tensor = (
        deepspeed.utils.safe_get_full_fp32_param(parameter)
        if kind == "weight"
        else deepspeed.utils.safe_get_full_optimizer_state(parameter, kind)
    )
    return whole


def _put(engine: Any, parameter: nn.Parameter, kind: str, value: Tensor) -> None:
    """Copies this rank's part of a whole tensor to where Adam has it."""
    key = None if kind == "weight" else kind
    flat = value.flatten()
    if hasattr(parameter, "ds_id"):
        optimizer = engine.optimizer
        part, _ = optimizer._get_fp32_opt_state_partition(parameter, release_swap_buffers=True, optim_state_key=key)
        first = part.numel() * optimizer._get_param_partition_rank(parameter)
        mine = flat[first : first + part.numel()]
        part.data.zero_()  # the last rank's part is padded
        part.data[: mine.numel()].copy_(mine)
    elif hasattr(parameter, "_hp_mapping"):
        if (mapping := parameter._hp_mapping) is not None:
            address = mapping.lp_fragment_address
            mapping.get_hp_fragment(key).data.copy_(flat[address.start : address.start + address.numel])
    else:
        master = _masters(engine)[parameter]
        target = master if key is None else engine.basic_optimizer.state[master][key]
        target.data.copy_(value)
