"""The models that may be chosen. One of them is in memory at a time, and answers one request at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import PIL.Image
import torch
from numpy.typing import NDArray

from vldac.acting import Actor
from vldac.evaluation.play.errors import BusyError, NotFoundError
from vldac.evaluation.player import Token
from vldac.evaluation.watch import Player
from vldac.utils.errors import UserError
from vldac.utils.pictures import pad_narrow

#: Tokens of an answer about a picture.
MAX_ANSWER_TOKENS = 128
#: Of a picture as the model is shown it: a side of 448, the size of many vision towers.
MAX_SHOWN_PIXELS = 448 * 448
_PATIENCE = 120.0  # seconds that a request waits for those before it


@dataclass(frozen=True)
class Choice:
    """A model that may be chosen.

    Attributes:
        name: by which it is asked for, unlike any other's.
        note: what is shown beside the name, such as "@champion".
        environment: id of the one it was trained in; None where it was trained in none.
        load: reads its weights.
        stamp: tells what `load` would read now from what it has read; None for files that never change.
    """

    name: str
    note: str
    environment: str | None
    load: Callable[[], Player]
    stamp: Callable[[], object] | None = None


class Models:
    """The models to choose from.

    Args:
        find: lists them; it is called for each page, so that a model that was registered meanwhile is found.
        patience: seconds that a request waits for its turn.
    """

    def __init__(self, find: Callable[[], Sequence[Choice]], patience: float = _PATIENCE) -> None:
        self._find, self._patience = find, patience
        self._found: tuple[Choice, ...] = ()
        self._listing, self._turn = threading.Lock(), threading.Lock()
        self._loaded: tuple[object, Player] | None = None  # with what it was loaded of

    def choices(self) -> tuple[Choice, ...]:
        """All that may be chosen now."""
        with self._listing:
            self._found = tuple(self._find())
            return self._found

    @contextmanager
    def use(self, name: str) -> Iterator[Player]:
        """A model, loaded and for this caller alone; the one before it is let go, as is one whose files were made anew.

        Raises:
            NotFoundError: it is none of `choices`.
            BusyError: those before have kept it for too long.
            UserError: its files are damaged, or it does not fit into the memory of the device.
        """
        choice = self._choice(name)
        if not self._turn.acquire(timeout=self._patience):
            raise BusyError("the model is busy with another page; try again")
        try:
            source = name, choice.stamp and choice.stamp()
            if self._loaded is None or self._loaded[0] != source:
                self._loaded = None
                self._loaded = source, choice.load()
            yield self._loaded[1]
        except torch.OutOfMemoryError as error:
            raise UserError("the memory of the device is full; take a smaller model or a larger device") from error
        finally:
            self._turn.release()

    def _choice(self, name: str) -> Choice:
        for choices in (lambda: self._found, self.choices):
            for choice in choices():
                if choice.name == name:
                    return choice
        raise NotFoundError(f"there is no model {name!r} here; load the page again")


@dataclass(frozen=True)
class Reply:
    """An answer to a question about a picture.

    Attributes:
        picture: as the model was shown it, (H, W, 3) uint8.
        tokens: of the likeliest answer.
        truncated: it was cut off at its length limit.
    """

    picture: NDArray[np.uint8]
    tokens: tuple[Token, ...]
    truncated: bool


def ask(player: Player, picture: NDArray[np.uint8], question: str) -> Reply:
    """Asks a model about a picture.

    Args:
        player: the model.
        picture: (H, W, 3) uint8.
        question: the whole prompt.
    """
    shown = pad_narrow(_fitted(picture))
    actor = Actor(player.vlm, max_new_tokens=MAX_ANSWER_TOKENS)
    (decision,) = actor.act([{"frames": shown[None], "prompt": question}])
    return Reply(shown, player.tokens(decision.response), decision.truncated)


def _fitted(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A picture of at most `MAX_SHOWN_PIXELS`, scaled down where it has more."""
    height, width = picture.shape[:2]
    scale = (MAX_SHOWN_PIXELS / (height * width)) ** 0.5
    if scale >= 1:
        return picture
    size = max(1, int(width * scale)), max(1, int(height * scale))
    return np.asarray(PIL.Image.fromarray(picture).resize(size, PIL.Image.Resampling.BICUBIC))
