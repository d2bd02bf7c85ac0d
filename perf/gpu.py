"""What to run first on a GPU: steps/s, tokens/s, model FLOP/s and memory of large models with random weights.

    vldac perf gpu [--shapes 2b 7b] [--minutes 9] [--vllm-python /opt/vllm/bin/python]
    vldac perf gpu --plan        # on any machine: the memory that each case is planned with, and runs nothing

Nothing is downloaded: speed and memory do not depend on what a model knows. Simulators are replaced by random pictures,
so that what is measured is the model's part of a step, with the paper's 155 tokens of prompt and 100 of response. Each
line is printed when it is known. Each case has a process to itself, and with it all memory of the GPU; a case that does
not fit, by the plan or in fact, is said to be left out, and so is vLLM where no interpreter is named that has it.
`--shapes middle` tries all of it on a CPU.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from transformers import AutoModelForImageTextToText, Qwen2VLConfig

from envs.base import Observation
from envs.vector import VectorStep
from vldac import algorithms, engines
from vldac.acting import Actor
from vldac.config import Config, TinyConfig, parse
from vldac.distributed import Runtime, process_group
from vldac.engines.base import Engine
from vldac.engines.vllm import EngineError, VLLMOptions
from vldac.learner import Learner
from vldac.models import tiny
from vldac.models.vlm import VLM
from vldac.plan import memory, needed
from vldac.rollout import Collector
from vldac.utils.errors import report_errors
from vldac.utils.libraries import quiet

#: Text and vision of the released Qwen2-VL models, and of one that a CPU can try: hidden size, layers, heads, key-value
#: heads, intermediate size, rows of the vocabulary, whether they are the head's too; depth and width of the vision.
SHAPES: dict[str, tuple[tuple[int, int, int, int, int, int, bool], tuple[int, int]]] = {
    "2b": ((1536, 28, 12, 2, 8960, 151_936, True), (32, 1280)),
    "7b": ((3584, 28, 28, 4, 18944, 152_064, False), (32, 1280)),
    "middle": ((768, 2, 12, 2, 2048, 152_064, True), (2, 320)),
}
_PICTURE, _TEXT, _RESPONSE, _STEPS = 112, 120, 100, 2


@dataclass(frozen=True)
class Case:
    """One way of training a shape."""

    shape: str
    lora_rank: int
    zero_stage: int
    checkpointing: bool
    envs: int
    engine: str = "transformers"
    compiled: bool = False
    ranks: int = 1

    @property
    def label(self) -> str:
        """As it is printed."""
        kind = f"LoRA {self.lora_rank}" if self.lora_rank else "every weight"
        more = [self.engine] if self.engine != "transformers" else []
        more += ["compiled decoding"] if self.compiled else []
        more += ["checkpointing"] if self.checkpointing else []
        more += [f"a rank of {self.ranks}"] if self.ranks > 1 else []
        return ", ".join([f"{self.shape} {kind}", f"ZeRO {self.zero_stage}", *more])


class RandomPictures:
    """Simulators whose observations are random and whose episodes never end (`vldac.rollout.Simulators`)."""

    def __init__(self, count: int) -> None:
        self.rng, self.count, self.groups = np.random.default_rng(0), count, [range(count)]
        self.episode_numbers, self.episode_lengths = [0] * count, [0] * count

    def reset(self) -> list[Observation | None]:
        """Random pictures."""
        return [self._shown() for _ in range(self.count)]

    def begin(self, numbers: Sequence[int]) -> list[Observation | None]:
        """Random pictures."""
        return self.reset()

    def load_state_dict(self, state: dict[str, Any]) -> list[Observation | None]:
        """Random pictures."""
        return self.reset()

    def step_async(self, actions: Sequence[str | None], group: int, answers: Sequence[str] | None = None) -> None:
        """Takes no notice of the actions."""

    def step_wait(self, group: int) -> VectorStep:
        """Random pictures and rewards."""
        self.episode_lengths = [length + 1 for length in self.episode_lengths]
        never = np.zeros(self.count, bool)
        infos: list[dict[str, Any]] = [{"invalid": False} for _ in range(self.count)]
        return VectorStep(self.reset(), self.rng.normal(size=self.count), never, never, [None] * self.count, infos)

    def _shown(self) -> Observation:
        frames = self.rng.integers(0, 256, (1, _PICTURE, _PICTURE, 3), dtype=np.uint8)
        return {"frames": frames, "prompt": "go there. " * (_TEXT // 3)}


def describe(shape: str) -> Qwen2VLConfig:
    """The Hugging Face configuration of a shape."""
    (hidden, layers, heads, groups, intermediate, rows, tied), (depth, width) = SHAPES[shape]
    text = {
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": groups,
        "intermediate_size": intermediate,
        "vocab_size": rows,
        "tie_word_embeddings": tied,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 1e6,
            "mrope_section": [hidden // heads // 8, *([hidden // heads * 3 // 16] * 2)],
        },
    }
    vision = {"depth": depth, "embed_dim": width, "hidden_size": hidden, "num_heads": width // 80}
    return Qwen2VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=tied)


def build(shape: str, dtype: torch.dtype, device: torch.device) -> VLM:
    """A model with random weights on a small tokenizer; the other rows of its vocabulary are forbidden."""
    with tempfile.TemporaryDirectory() as directory:
        tiny.build(TinyConfig(hidden_size=64, layers=1, patch_size=14), ["go there. user\n"] * 5, 0, Path(directory))
        small = VLM.from_pretrained(directory)
    config = describe(shape)
    for name in ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id"):
        setattr(config, name, getattr(small.backbone.config, name))
    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForImageTextToText.from_config(config, dtype=dtype, attn_implementation="sdpa")
    return VLM(model, type(small.family)(model.config, small.tokenizer, small.image_processor)).to(device).eval()


def configuration(case: Case, dtype: str) -> Config:
    """A run of one update of `_STEPS` steps."""
    steps = case.envs * _STEPS
    return parse(
        {
            "model": {"dtype": dtype, "lora_rank": case.lora_rank, "lora_alpha": max(1, 2 * case.lora_rank)},
            "env": {"num_envs": case.envs, "width": _PICTURE, "height": _PICTURE},
            "rollout": {"steps": _STEPS, "max_new_tokens": _RESPONSE, "temperature": 1.0},
            "train": {
                "total_steps": steps,
                "batch_size": steps,
                "micro_batch_size": 4,
                "value_warmup": 0,
                "gradient_checkpointing": case.checkpointing,
                "learning_rate": 1e-5,
                "final_learning_rate": 1e-5,
            },
            "deepspeed": {"ranks": case.ranks, "zero_stage": case.zero_stage},
        }
    )


def measure(case: Case, vlm: VLM, config: Config, runtime: Runtime, python: str | None = None) -> dict[str, float]:
    """The second of two updates: seconds of each part, tokens, FLOPs and peak memory.

    Args:
        case: what is measured.
        vlm: the model of its shape.
        config: its run.
        runtime: this rank.
        python: the interpreter of vLLM's environment, where vLLM samples.

    Raises:
        EngineError: vLLM does not start, or has ended.
    """
    with contextlib.ExitStack() as stack:
        options: dict[str, Any] = {"compiled": True} if case.compiled else {}
        if case.engine == "vllm":
            options = {"python": python}
            save(vlm, Path(stack.enter_context(tempfile.TemporaryDirectory())))
        learner = Learner(config, vlm, algorithms.make(config.train), runtime)
        engine = stack.enter_context(contextlib.closing(engines.make(case.engine, vlm, options)))
        return _second_update(case, learner, engine)


def save(vlm: VLM, directory: Path) -> None:
    """Writes a model to where an engine of another process reads it."""
    for part in (vlm.model, vlm.tokenizer, vlm.image_processor):
        part.save_pretrained(directory)
    vlm.backbone.name_or_path = str(directory)


def _second_update(case: Case, learner: Learner, engine: Engine) -> dict[str, float]:
    vlm, config, runtime = learner.vlm, learner.config, learner.runtime
    rollout, temperature = config.rollout, config.rollout.temperature
    actor = Actor(vlm, max_new_tokens=rollout.max_new_tokens, temperature=temperature, engine=engine)
    collector = Collector(actor, RandomPictures(case.envs))
    collector.start()
    found: dict[str, float] = {}
    for update in range(2):
        if runtime.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(runtime.device)
        started = time.perf_counter()
        engine.update_weights(update)
        with learner.sampling():
            collected = collector.collect(rollout.steps, update)
        learned = learner.update(collected, update)
        seconds = time.perf_counter() - started
        steps = [step for row in collected.steps for step in row]
        prompt = float(sum(len(step.prompt.input_ids) for step in steps))
        response = float(sum(len(step.response.token_ids) for step in steps))
        found = {
            "steps_per_s": len(steps) / seconds,
            "generation_s": collected.seconds["generation"],
            "learning_s": learned["time/learning_s"],
            "tokens_per_s": response / collected.seconds["generation"],
            "generation_flop": flop(vlm, prompt + response, 2),
            # Old log-probabilities, the reference, and two epochs forward and backward (twice that for every weight).
            "learning_flop": flop(vlm, prompt + response, 4 + config.train.epochs * (4 if case.lora_rank else 6)),
            "peak_mib": peak_mib(runtime.device),
            "effective_sample_size": learned.get("importance/effective_sample_size", 1.0),
        }
    return found


def flop(vlm: VLM, tokens: float, a_weight_and_token: float) -> float:
    """Model FLOPs of the language model's layers; attention scores, the vision tower and the head are left out."""
    layers = vlm.family.trunk(vlm.backbone).language_model.layers
    weights = sum(p.numel() for name, p in layers.named_parameters() if "lora_" not in name)
    return a_weight_and_token * weights * tokens


def peak_mib(device: torch.device) -> float:
    """Of the GPU since the update began, or of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def matmul_rate(dtype: torch.dtype, device: torch.device, size: int) -> float:
    """FLOP/s of this machine in products of size x size matrices: what a share is a share of."""
    a = torch.randn(size, size, dtype=dtype, device=device)
    rates = []
    for _ in range(5):
        started = time.perf_counter()
        result: Tensor = a @ a
        float(result[0, 0])  # waits for it
        rates.append(2 * size**3 / (time.perf_counter() - started))
    return max(rates)


def cases(shapes: Sequence[str], *, small: bool, vllm: bool) -> Iterator[Case]:
    """From the likeliest to work to the most demanding; with `vllm`, vLLM samples one of them."""
    envs = 2 if small else 16
    for shape in shapes:
        for checkpointing in (False, True):
            yield Case(shape, 64, 1, checkpointing, envs)
        yield Case(shape, 64, 1, True, envs, compiled=True)
        if vllm:
            yield Case(shape, 64, 1, True, envs, engine="vllm")
        for stage in (1, 2, 3):
            yield Case(shape, 0, stage, True, envs)


def plans(shapes: Sequence[str]) -> Iterator[str]:
    """A line for each way of training, with the memory that it is planned with in bfloat16, of one GPU or of eight."""
    for shape in shapes:
        alone = [case for case in cases([shape], small=False, vllm=False) if not case.compiled]
        eight = [Case(shape, 0, stage, checkpointing=True, envs=16, ranks=8) for stage in (2, 3)]
        for case in [*(one for one in alone if one.zero_stage == 1), *eight]:
            planned = memory(configuration(case, "bfloat16"), describe(shape))
            device, host = planned["total_mib"] / 1024, planned["host_mib"] / 1024
            yield f"{case.label}: {device:.1f} GiB, and {host:.1f} on the host"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="vldac perf gpu", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shapes", nargs="+", choices=sorted(SHAPES), default=["2b", "7b"])
    parser.add_argument("--minutes", type=float, default=9.0, help="no case is begun after (default: %(default)s)")
    parser.add_argument(
        "--vllm-python",
        default=os.environ.get("VLDAC_VLLM_PYTHON"),
        help="interpreter of an environment with vLLM (default: VLDAC_VLLM_PYTHON of the environment)",
    )
    parser.add_argument("--plan", action="store_true", help="print the planned memory of each case, and run nothing")
    options = parser.parse_args(arguments)
    quiet()
    if options.plan:
        for line in plans(options.shapes):
            print(line)
        return 0
    started = time.monotonic()
    machine = apart(look)
    dtype = "bfloat16" if machine.gpu else "float32"
    print(
        f"{machine.name}, torch {torch.__version__}, {dtype}: products at {machine.rate / 1e12:.2f} TFLOP/s", flush=True
    )
    if not options.vllm_python:
        print("vLLM: left out, --vllm-python names no interpreter of an environment with it", flush=True)
    for case in cases(options.shapes, small=not machine.gpu, vllm=bool(options.vllm_python)):
        if time.monotonic() - started > 60 * options.minutes:
            print(f"{case.label}: left out, the time is over", flush=True)
            continue
        try:
            said = apart(told, case, machine, options.vllm_python)
        except BrokenProcessPool:
            said = "left out, its process was killed"
        print(f"{case.label}: {said}", flush=True)
    return 0


@dataclass(frozen=True)
class Machine:
    """What cases are measured on.

    Attributes:
        name: of the GPU, or "CPU".
        gpu: whether there is one.
        room: MiB of its memory.
        rate: FLOP/s of products.
    """

    name: str
    gpu: bool
    room: float
    rate: float


_Result = TypeVar("_Result")


def apart(function: Callable[..., _Result], *arguments: Any) -> _Result:
    """Calls a function in a process of its own: what an engine of DeepSpeed holds is free only when its process ends.

    Raises:
        BrokenProcessPool: it was killed.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def look() -> Machine:
    """The machine, and how fast it multiplies."""
    with process_group(0) as runtime:
        device, gpu = runtime.device, runtime.device.type == "cuda"
        room = torch.cuda.get_device_properties(device).total_memory / 2**20 if gpu else float("inf")
        rate = matmul_rate(torch.bfloat16 if gpu else torch.float32, device, 8192 if gpu else 1024)
        return Machine(torch.cuda.get_device_name(device) if gpu else "CPU", gpu, room, rate)


def told(case: Case, machine: Machine, python: str | None) -> str:
    """Measures a case, and says how fast it was or why it was left out."""
    quiet()
    dtype = "bfloat16" if machine.gpu else "float32"
    config = configuration(case, dtype)
    planned = needed(memory(config, describe(case.shape)))
    room = machine.room * (1 - (VLLMOptions.model_fields["memory_share"].default if case.engine == "vllm" else 0))
    if planned > room:
        return f"left out, planned {planned:.0f} MiB of {room:.0f}"
    with process_group(0) as runtime:
        try:
            row = measure(case, build(case.shape, getattr(torch, dtype), runtime.device), config, runtime, python)
        except EngineError as error:
            return f"left out, {error}"
        except torch.OutOfMemoryError:
            return f"left out, it ran out of the {room:.0f} MiB of memory, planned {planned:.0f}"
    # 1 where the other engine's log-probabilities are the learner's.
    effective = f"; effective sample size {row['effective_sample_size']:.4f}" if case.engine == "vllm" else ""
    return (
        f"{row['steps_per_s']:.2f} steps/s; generation {row['tokens_per_s']:.0f} tokens/s at "
        f"{row['generation_flop'] / row['generation_s'] / machine.rate:.1%} of the products' rate, learning at "
        f"{row['learning_flop'] / row['learning_s'] / machine.rate:.1%}; peak {row['peak_mib']:.0f} MiB, planned "
        f"{planned:.0f}{effective}"
    )


if __name__ == "__main__":
    sys.exit(report_errors(main))
