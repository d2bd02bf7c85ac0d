"""vLLM in a process and an environment of its own, at the other end of a socket that its parent holds.

    PYTHON -P vldac/engines/vllm_server.py FD

It imports nothing of this project: the environment that has vLLM has another transformers. The parent
(`vldac.engines.vllm`) sends how to start, then where an adapter lies and what to generate; each message is answered by
one. A message is two lengths, a JSON object and tensors as safetensors. The server ends when the socket does.
"""

from __future__ import annotations

import importlib
import json
import socket
import struct
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

_LENGTHS = struct.Struct("!QQ")
#: Bytes of one message: gigabytes of visual features fit, a length that is nonsense does not.
MOST = 2**34


class ProtocolError(ConnectionError):
    """What came over the socket is no message."""


def send(
    connection: socket.socket, message: Mapping[str, Any], tensors: Mapping[str, torch.Tensor] | None = None
) -> None:
    """Sends one message."""
    text = json.dumps(message, allow_nan=False).encode()
    data = save(dict(tensors)) if tensors else b""
    connection.sendall(_LENGTHS.pack(len(text), len(data)) + text + data)


def receive(
    connection: socket.socket, *, most: int = MOST, timeout: float | None = None
) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Waits for one message.

    Args:
        connection: to whoever sends it.
        most: bytes of a message.
        timeout: seconds until all of it is there, however it trickles in; None waits for ever.

    Raises:
        ProtocolError: it is none, or longer than `most` bytes.
        EOFError: the other end is closed.
        TimeoutError: it is not there in time.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    text, data = _LENGTHS.unpack(_exactly(connection, _LENGTHS.size, deadline))
    if text + data > most:
        raise ProtocolError(f"a message of {text + data} bytes")
    try:
        message = json.loads(_exactly(connection, text, deadline), parse_constant=_refused)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"a message that is no JSON: {error}") from None
    if not isinstance(message, dict):
        raise ProtocolError("a message that is no object")
    try:
        return message, load(_exactly(connection, data, deadline)) if data else {}
    except SafetensorError as error:
        raise ProtocolError(f"a message with tensors that are none: {error}") from None


def _refused(name: str) -> None:
    raise ValueError(f"it holds {name}")


def _exactly(connection: socket.socket, count: int, deadline: float | None) -> bytes:
    data = bytearray(count)
    view, done = memoryview(data), 0
    while done < count:
        if deadline is not None:
            connection.settimeout(max(deadline - time.monotonic(), 1e-3))
        got = connection.recv_into(view[done:], min(count - done, 2**20))
        if not got:
            raise EOFError("the other end is closed")
        done += got
    return bytes(data)


class Server:
    """Answers messages.

    Args:
        start: the first message, see `vldac.engines.vllm`.
    """

    def __init__(self, start: Mapping[str, Any]) -> None:
        self.vllm = importlib.import_module("vllm")  # which the parent's environment lacks
        self.lora_request = importlib.import_module("vllm.lora.request").LoRARequest
        self.end_id, self.adapter = int(start["end_id"]), None
        self.llm = self.vllm.LLM(**start["engine"], logits_processors=[_leaving_out(start["forbidden"])])

    def answer(self, message: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> dict[str, Any]:
        """The answer to one message."""
        if message["op"] == "adapter":
            version = int(message["version"])
            if self.adapter is not None:
                self.llm.llm_engine.remove_lora(self.adapter.lora_int_id)
            self.adapter = self.lora_request(f"update-{version}", version + 1, message["path"])
            return {"ready": version}
        return {"responses": self.generate(message, tensors)}

    def generate(self, message: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> list[dict[str, Any]]:
        """Samples a response to each prompt, in their order."""
        prompts = []
        for number, prompt in enumerate(message["prompts"]):
            pictures = {}
            if prompt["grids"]:
                grids = torch.tensor(prompt["grids"])
                pictures = {"image": {"image_embeds": tensors[str(number)], "image_grid_thw": grids}}
            prompts.append({"prompt_token_ids": prompt["token_ids"], "multi_modal_data": pictures})
        params = [
            self.vllm.SamplingParams(
                temperature=message["temperature"],
                max_tokens=message["max_new_tokens"],
                seed=prompt["seed"],
                logprobs=0,  # of the token that was drawn, and no other
                stop_token_ids=[self.end_id],
                ignore_eos=True,
                detokenize=False,
            )
            for prompt in message["prompts"]
        ]
        outputs = self.llm.generate(prompts, params, use_tqdm=False, lora_request=self.adapter)
        answers = []
        for output in outputs:
            (written,) = output.outputs
            drawn = zip(written.token_ids, written.logprobs, strict=True)
            answers.append(
                {
                    "prompt": list(output.prompt_token_ids),
                    "token_ids": list(written.token_ids),
                    "log_probs": [float(scores[token].logprob) for token, scores in drawn],
                }
            )
        return answers


def _leaving_out(forbidden: Sequence[int]) -> Any:
    """A logits processor of vLLM that leaves out the tokens which must never be drawn."""
    base = importlib.import_module("vllm.v1.sample.logits_processor").LogitsProcessor

    class LeavingOut(base):  # type: ignore[misc, valid-type]  # known when it runs
        def __init__(self, config: Any, device: torch.device, is_pin_memory: bool) -> None:
            self.forbidden = torch.tensor(forbidden, dtype=torch.int64, device=device)

        def apply(self, logits: torch.Tensor) -> torch.Tensor:
            return logits.index_fill_(-1, self.forbidden, -torch.inf)

        def is_argmax_invariant(self) -> bool:
            return False

        def update_state(self, batch_update: Any) -> None:
            """Nothing to do: all requests leave out the same."""

    return LeavingOut


def main(fd: int) -> None:
    """Serves until the socket is closed."""
    with socket.socket(fileno=fd) as connection:
        try:
            server = Server(receive(connection)[0])
            send(connection, {"ready": server.vllm.__version__})
            while True:
                send(connection, server.answer(*receive(connection)))
        except EOFError:
            return
        except Exception as error:
            send(connection, {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"})
            raise


if __name__ == "__main__":
    main(int(sys.argv[1]))
