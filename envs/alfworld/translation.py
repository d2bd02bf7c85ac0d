"""From a PDDL problem to the form that fast-downward runs, which takes a second for a kitchen and is therefore kept."""

from __future__ import annotations

import gzip
import hashlib
import json
import sys
import zlib
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import fast_downward

from envs.alfworld import store

#: Part of the name of kept translations; to be raised when the fields of `Translation` change.
_FORMAT = 1
#: A kitchen of fifty receptacles translates to 3 MB.
_MAX_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Translation:
    """A grounded planning problem.

    Attributes:
        sas: in fast-downward's own format.
        parameters: names of the parameters of each action, in order.
        facts: what holds at the start, (predicate, *arguments), static facts included.
    """

    sas: str
    parameters: dict[str, list[str]]
    facts: list[tuple[str, ...]]


def translate(domain: str, problem: str) -> Translation:
    """The translation of a problem, from memory or disk where it is known.

    Raises:
        SimulatorError: the cache directory cannot be written.
    """
    digest = hashlib.sha256(f"{_FORMAT}\0{domain}\0{problem}".encode()).hexdigest()
    return _kept(digest, domain, problem)


@lru_cache(maxsize=8)
def _kept(digest: str, domain: str, problem: str) -> Translation:
    path = store.cache_directory() / "translations" / digest[:2] / f"{digest}.json.gz"
    known = _decode(store.read(path, _MAX_BYTES))
    if known is None:
        known = _translate(domain, problem)
        store.write(path, gzip.compress(json.dumps(asdict(known)).encode(), compresslevel=3, mtime=0))
    return known


def _decode(data: bytes | None) -> Translation | None:
    """A kept translation, or None where the file is damaged: the checksum of gzip covers every byte."""
    if data is None:
        return None
    try:
        inflated = zlib.decompressobj(wbits=31)
        text = inflated.decompress(data, _MAX_BYTES)
        values = json.loads(text) if inflated.eof else None
    except (zlib.error, ValueError):
        return None
    return None if values is None else _from_json(values)


def _from_json(values: Any) -> Translation:
    return Translation(
        sas=values["sas"],
        parameters=values["parameters"],
        facts=[tuple(fact) for fact in values["facts"]],
    )


def _translate(domain: str, problem: str) -> Translation:
    arguments = sys.argv
    try:
        task, sas = fast_downward.pddl2sas(domain, problem)
    finally:
        sys.argv = arguments  # the translator puts its own in place
    facts = {(atom.predicate, *atom.args) for atom in task.init if getattr(atom, "predicate", "=") != "="}
    return Translation(
        sas=sas,
        parameters={action.name: [p.name.strip("?") for p in action.parameters] for action in task.actions},
        facts=sorted(facts),
    )
