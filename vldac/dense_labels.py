"""The first lesson of a small vision-language model: its vision tower learns what lies where.

Text alone gives a tower that knows nothing hardly any gradient: a model of a few million parameters stays at chance on
questions about pictures for hundreds of updates. The renderer of a simulator knows what it has drawn and where
(`envs.base.Env.marks`), so the tower is first taught to name that, in each visual token by itself: the token's output
must lie along the embeddings of the words of what it shows, and away from those of all other words. The language model
then reads visual tokens like words that it knows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from vldac.examples import Example
from vldac.loop_state import LoopState
from vldac.models.vlm import VLM, Prompt
from vldac.utils.errors import UserError
from vldac.utils.progress import Progress
from vldac.utils.schedules import trapezoid

_POSITIVE_WEIGHT = 5.0  # most visual tokens show none of the things
_RISE, _SLOPE = 50, 2.5  # of the learning rate; see `trapezoid`
_WEIGHT_DECAY = 0.05


class WordHead(nn.Module):
    """Scores each word in each visual token: the cosine of its output and the word's embedding, scaled.

    Args:
        vlm: whose embeddings are taken as they are.
        names: of what can be seen; each of their words is scored.
    """

    #: (words, H), of length 1.
    directions: Tensor

    def __init__(self, vlm: VLM, names: Sequence[str]) -> None:
        super().__init__()
        self.words = {word: number for number, word in enumerate(sorted({w for name in names for w in name.split()}))}
        table = vlm.backbone.get_input_embeddings().weight.detach()
        # A word is written with the blank before it, as in the middle of a sentence.
        ids = [vlm.tokenizer(f" {word}", add_special_tokens=False)["input_ids"] for word in self.words]
        self.register_buffer("directions", F.normalize(torch.stack([table[each].mean(0) for each in ids]), dim=-1))
        self.scale = nn.Parameter(torch.tensor(10.0))
        self.bias = nn.Parameter(torch.tensor(-4.0))

    def forward(self, features: Tensor) -> Tensor:
        """Logits (N, words) of visual tokens (N, H)."""
        logits: Tensor = self.scale * F.normalize(features, dim=-1) @ self.directions.T + self.bias
        return logits

    def labels(self, example: Example, rows: int, columns: int) -> NDArray[np.float32]:
        """Which words each visual token of a picture shows: (rows * columns, words), 1 or 0."""
        shown = np.zeros((rows, columns, len(self.words)), np.float32)
        for mark in example.marks:
            row, column = (min(max(int(at * n), 0), n - 1) for at, n in ((mark.y, rows), (mark.x, columns)))
            for word in mark.name.split():
                shown[row, column, self.words[word]] = 1
        return shown.reshape(-1, len(self.words))


def teach(
    vlm: VLM,
    examples: Sequence[Example],
    *,
    updates: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
    kept: Path | None = None,
    identity: str = "",
) -> dict[str, float]:
    """Trains the vision tower on what its examples' newest frames show.

    Args:
        vlm: a Qwen-VL model in training mode; its language model is left as it is.
        examples: those without marks are left out.
        updates: of the optimizer.
        batch_size: pictures of an update.
        learning_rate: highest; see `vldac.utils.schedules.trapezoid`.
        seed: of the order.
        kept: where the state of the lesson is kept, for one that is killed; None keeps nothing.
        identity: see `vldac.loop_state.LoopState`.

    Returns:
        Recall and precision of the words over the last tenth of the updates.

    Raises:
        UserError: no example has marks.
    """
    examples = [example for example in examples if example.marks]
    if not examples:
        raise UserError(
            "warm_start.dense_updates needs an environment that tells what its frames show, or warm_start.pictures; "
            "set it to 0"
        )
    table = vlm.backbone.get_input_embeddings().weight
    with torch.no_grad():  # to length 1: shorter ones would be elsewhere after a few steps of the optimizer
        table.div_(table.norm(dim=-1, keepdim=True).mean())
    head = WordHead(vlm, [mark.name for example in examples for mark in example.marks])
    tower = vlm.backbone.model.visual
    optimizer = torch.optim.AdamW(
        [*tower.parameters(), *head.parameters()], lr=learning_rate, weight_decay=_WEIGHT_DECAY
    )
    rng = np.random.default_rng(seed)
    state = LoopState(kept, identity, {"vlm": vlm, "head": head}, optimizer, rng)
    begun, rest = state.resume()
    counts = torch.tensor(rest.get("counts", [0.0, 0.0, 0.0]))  # found, shown, claimed
    with Progress("dense labels", updates, "updates") as progress:
        progress.advance(begun)
        for update in range(begun, updates):
            batch = [examples[i] for i in rng.integers(0, len(examples), batch_size)]
            prompts = vlm.encode([example.observation["frames"][-1:] for example in batch], ["" for _ in batch])
            features = torch.cat([each["pooled"] for each in vlm.family.vision_features(vlm.backbone, prompts)])
            shown = [head.labels(example, *_grid(vlm, prompt)) for example, prompt in zip(batch, prompts, strict=True)]
            labels = torch.from_numpy(np.concatenate(shown))
            logits = head(features)
            loss = F.binary_cross_entropy_with_logits(logits, labels, pos_weight=torch.tensor(_POSITIVE_WEIGHT))
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * trapezoid(update, updates, rise=_RISE, slope=_SLOPE)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            if update >= updates - math.ceil(updates / 10):
                claimed = logits.detach() > 0
                counts += torch.stack([(claimed * labels).sum(), labels.sum(), claimed.sum()])
            progress.advance(note=f"loss {loss.item():.4f}")
            state.keep(update + 1, {"counts": counts.tolist()}, now=update + 1 == updates)
    found, there, claimed_words = counts.tolist()
    return {"dense_recall": found / max(there, 1), "dense_precision": found / max(claimed_words, 1)}


def _grid(vlm: VLM, prompt: Prompt) -> tuple[int, int]:
    """Rows and columns of the visual tokens of a prompt's picture."""
    _, rows, columns = prompt.pictures["image_grid_thw"][0].tolist()
    merged = vlm.image_processor.merge_size
    return rows // merged, columns // merged
