"""Generation by vLLM, in a process and an environment of its own (`vldac.engines.vllm_server`).

Token ids and visual features go there, token ids and the log-probabilities that they were drawn at come back; after
each update the server is told where the adapter lies. The vision tower runs in the learner, once, and is not loaded by
the server. Both ends are one machine and one user: they talk over a pair of sockets that no other process can reach.
"""

from __future__ import annotations

import math
import os
import socket
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
from peft import PeftModel
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from vldac.engines import vllm_server
from vldac.engines.stopping import Stopping
from vldac.engines.vllm_server import receive, send
from vldac.models.vlm import VLM, Prompt, Response
from vldac.utils.errors import UserError
from vldac.utils.processes import stop_group, tie_to_parent

#: Bytes of an answer: a million tokens and their prompts.
_MOST = 2**27
_LOG = "server.log"
#: Of adapters, which vLLM knows by these sizes.
_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
#: What launchers tell a rank, and where this project's packages lie: the server is no rank and has packages of its own.
_NOT_ITS_OWN = frozenset(
    {"RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "LOCAL_SIZE", "MASTER_ADDR", "MASTER_PORT"}
    | {"PYTHONPATH", "VIRTUAL_ENV"}
)
#: By one of them, `torch.distributed` of the server would wait for the store of the run's launcher.
_OF_LAUNCHERS = ("TORCHELASTIC_", "GROUP_", "ROLE_")


class EngineError(UserError):
    """vLLM cannot be started, has ended, or has answered nonsense; the message is one line."""


class VLLMOptions(BaseModel):
    """Options of the engine, from `rollout.engine_options`.

    Attributes:
        python: the interpreter of an environment in which vLLM is installed.
        devices: GPUs by their numbers, dealt to the ranks of a machine; none puts each server beside its rank.
        memory_share: of a GPU that the server takes for weights and cache.
        max_tokens: of a prompt and its response.
        start_timeout: seconds.
        timeout: seconds for the responses to one batch.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, validate_default=True)

    python: Annotated[str, Field(min_length=1)]
    devices: tuple[Annotated[int, Field(ge=0)], ...] = ()
    memory_share: Annotated[float, Field(gt=0, lt=1)] = 0.4
    max_tokens: Annotated[int, Field(ge=16)] = 4096
    start_timeout: Annotated[float, Field(gt=0)] = 900.0
    timeout: Annotated[float, Field(gt=0)] = 600.0


class VLLMEngine:
    """See `vldac.engines.base.Engine`.

    A response is decided by its prompt, the weights and its seed up to the rounding of vLLM's kernels, which depends on
    the rest of the batch.

    Args:
        vlm: the policy, with an adapter.
        options: of `VLLMOptions`.

    Raises:
        EngineError: the model is none that can be served, or the server does not start.
    """

    Options = VLLMOptions
    exact = False

    def __init__(self, vlm: VLM, options: VLLMOptions) -> None:
        if not isinstance(vlm.model, PeftModel) or vlm.lockstep or vlm.model.active_peft_config.r > max(_RANKS):
            raise EngineError(
                "rollout.engine vllm takes over an adapter after each update, and this run has none that is whole on a "
                f"rank of the run; set model.lora_rank from 1 to {max(_RANKS)} and deepspeed.zero_stage below 3"
            )
        self.vlm, self.options = vlm, options
        self.directory = tempfile.TemporaryDirectory(prefix="vldac-vllm-")
        self.connection, self.process = launch(options, Path(self.directory.name) / _LOG, _environment(vlm, options))
        forbidden = vlm.forbidden.nonzero().flatten().tolist()
        start = {"end_id": vlm.end_id, "forbidden": forbidden, "engine": _engine(vlm, options)}
        self.version = str(self._ask(start, "ready", timeout=options.start_timeout))

    def generate(
        self,
        prompts: Sequence[Prompt],
        *,
        max_new_tokens: int,
        temperature: float,
        seeds: Sequence[int] | None = None,
        stop_at_answer: bool = False,
    ) -> list[Response]:
        """See `vldac.engines.base.Engine`; a response that is to stop at its answer is cut there when it is back.

        Raises:
            EngineError: the server has ended, is too slow, or has answered nonsense.
        """
        seeds = [0] * len(prompts) if seeds is None else seeds
        described = [
            {
                "token_ids": self._collapsed(prompt),
                "grids": prompt.pictures["image_grid_thw"].tolist() if prompt.pictures else [],
                "seed": seed % 2**63,
            }
            for prompt, seed in zip(prompts, seeds, strict=True)
        ]
        asked = {
            "op": "generate",
            "temperature": temperature,
            "max_new_tokens": max_new_tokens,
            "prompts": described,
        }
        features = {str(i): prompt.features["pooled"].cpu() for i, prompt in enumerate(prompts) if prompt.features}
        answers = self._ask(asked, "responses", features)
        if not isinstance(answers, list) or len(answers) != len(prompts):
            raise EngineError("vLLM has not answered each prompt; look for another version of it")
        responses = [self._read(a, p, max_new_tokens) for a, p in zip(answers, prompts, strict=True)]
        return [self._cut(response) for response in responses] if stop_at_answer else responses

    def update_weights(self, version: int) -> None:
        """Writes the adapter and tells the server where.

        Raises:
            EngineError: the server has ended or does not take it.
        """
        directory = Path(self.directory.name) / "adapter"
        self.vlm.model.save_pretrained(directory, safe_serialization=True)
        self._ask({"op": "adapter", "version": version, "path": str(directory)}, "ready")

    def close(self) -> None:
        """Ends the server."""
        self.connection.close()
        stop_group(self.process)
        self.directory.cleanup()

    def _ask(
        self,
        message: Mapping[str, Any],
        wanted: str,
        tensors: Mapping[str, Tensor] | None = None,
        timeout: float | None = None,
    ) -> Any:
        """What the answer to a message has under the key `wanted`; without it, the server is ended.

        Raises:
            EngineError: the server has ended, is too slow, or has answered something else.
        """
        seconds = timeout or self.options.timeout
        self.connection.settimeout(seconds)
        try:
            send(self.connection, message, tensors)
            answer, _ = receive(self.connection, most=_MOST, timeout=seconds)
        except TimeoutError:
            reason = f"vLLM has not answered in time ({seconds:g} s)"
        except (EOFError, OSError) as error:
            reason = f"the vLLM server has ended ({error}); it last said: {self._last_words()}"
        else:
            if wanted in answer:
                return answer[wanted]
            reason = f"vLLM: {answer.get('error', 'an answer that is none')}"
        self.close()
        raise EngineError(reason)

    def _last_words(self) -> str:
        with (Path(self.directory.name) / _LOG).open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - 4096))
            lines = log.read().decode(errors="replace").splitlines()
        return next((line.strip()[-300:] for line in reversed(lines) if line.strip()), "nothing")

    def _collapsed(self, prompt: Prompt) -> list[int]:
        """The token ids of a prompt with one placeholder a picture, which vLLM expands again.

        Raises:
            EngineError: the prompt's pictures are of a kind that cannot be handed over.
        """
        image = self.vlm.family.image_token_id
        ids = prompt.input_ids.tolist()
        collapsed = [token for i, token in enumerate(ids) if token != image or i == 0 or ids[i - 1] != image]
        pictures = len(prompt.pictures.get("image_grid_thw", ()))
        known = not prompt.pictures if prompt.features is None else set(prompt.features) == {"pooled"}
        if not known or collapsed.count(image) != pictures:
            raise EngineError(
                f"the pictures of a {self.vlm.backbone.config.model_type} cannot be handed over to vLLM; set "
                "rollout.engine to transformers"
            )
        return collapsed

    def _read(self, answer: Any, prompt: Prompt, most: int) -> Response:
        """One response, after a look at whether it can be one.

        Raises:
            EngineError: it cannot.
        """
        answer = answer if isinstance(answer, dict) else {}
        ids, scores = answer.get("token_ids"), answer.get("log_probs")
        if answer.get("prompt") != prompt.input_ids.tolist():
            raise EngineError("vLLM reads another prompt than the learner; look for another version of it")
        if (
            not (_list_of(ids, int) and _list_of(scores, float) and len(ids) == len(scores) and 1 <= len(ids) <= most)
            or not all(0 <= token < len(self.vlm.forbidden) for token in ids)
            or self.vlm.forbidden[ids].any()
            or self.vlm.end_id in ids[:-1]
            or not all(math.isfinite(score) and score <= 1e-3 for score in scores)
        ):
            raise EngineError("vLLM has answered with tokens that it cannot have drawn; look for another version of it")
        return Response(torch.tensor(ids), torch.tensor(scores))

    def _cut(self, response: Response) -> Response:
        stopping = Stopping(self.vlm, at_answer=True)
        ids = response.token_ids.to(self.vlm.device)
        for count in range(1, len(ids)):
            if stopping.ended(ids[None, :count]):
                return Response(response.token_ids[:count], response.log_probs[:count])
        return response


def launch(
    options: VLLMOptions, log: Path, environment: Mapping[str, str]
) -> tuple[socket.socket, subprocess.Popen[str]]:
    """Starts a server that ends with this process.

    Returns:
        The parent's end of the socket, and the process.

    Raises:
        EngineError: there is no such interpreter.
    """
    if not os.access(options.python, os.X_OK):
        raise EngineError(
            f"rollout.engine_options.python {options.python} is no interpreter; name that of an environment with vLLM"
        )
    ours, its = socket.socketpair()
    with its, log.open("wb") as output:
        command = [options.python, "-P", str(Path(vllm_server.__file__)), str(its.fileno())]
        process = subprocess.Popen(
            tie_to_parent(command),
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=[its.fileno()],
            start_new_session=True,
            text=True,
        )
    return ours, process


def _engine(vlm: VLM, options: VLLMOptions) -> dict[str, Any]:
    """What `vllm.LLM` is made with: it samples from the distribution that the learner scores."""
    adapter = vlm.model.active_peft_config
    return {
        "model": vlm.backbone.name_or_path,
        "revision": vlm.commit,
        "dtype": str(vlm.backbone.dtype).removeprefix("torch."),
        "generation_config": "vllm",  # its own defaults, and nothing of what a released model advises for chats
        "logprobs_mode": "processed_logprobs",  # of what is drawn from, temperature and forbidden tokens included
        "enable_lora": True,
        "max_lora_rank": min(rank for rank in _RANKS if rank >= adapter.r),
        "max_model_len": options.max_tokens,
        "gpu_memory_utilization": options.memory_share,
        "enable_mm_embeds": True,
        "limit_mm_per_prompt": {"image": 0, "video": 0},  # pictures come as features: there is no vision tower
        "mm_processor_cache_gb": 0,
        "enforce_eager": vlm.device.type == "cpu",
        "trust_remote_code": False,
    }


def _environment(vlm: VLM, options: VLLMOptions) -> dict[str, str]:
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in _NOT_ITS_OWN and not name.startswith(_OF_LAUNCHERS)
    }
    environment |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
    if vlm.device.type == "cuda":
        visible = [name for name in environment.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
        device = vlm.device.index or 0
        if options.devices:
            device = options.devices[int(os.environ.get("LOCAL_RANK", "0")) % len(options.devices)]
        environment["CUDA_VISIBLE_DEVICES"] = visible[device] if device < len(visible) else str(device)
    else:
        environment = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"} | environment
        environment["OMP_NUM_THREADS"] = str(torch.get_num_threads())
    return environment


def _list_of(value: Any, kind: type) -> bool:
    return isinstance(value, list) and all(type(each) is kind for each in value)
