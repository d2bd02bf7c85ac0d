from __future__ import annotations

import itertools
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import binomtest, chisquare
from transformers import AutoModelForImageTextToText, AutoTokenizer

from envs.gym_cards.number_line import NumberLine
from vldac import parsing, policy, warm_start
from vldac.engines.transformers import TransformersEngine
from vldac.examples import Example, collect, corpus, sources
from vldac.parsing import ParsedResponse


def collect_examples(config: Any, count: int, seed: int) -> list[Example]:
    """Examples of the run's own environment."""
    return collect(replace(sources(config)[0], seed=seed), count)


@pytest.fixture(scope="module")
def examples(tiny_config: Any) -> list[Example]:
    return collect_examples(tiny_config(), 200, seed=1)


def test_descriptions_are_true_of_the_picture_beside_them(examples: list[Example]) -> None:
    game = NumberLine(width=32, height=32)
    game.reset(seed=0)
    seen = set()
    for example in examples:
        found = re.fullmatch(r"target (\d) current (\d) target is (higher|lower|equal)", example.description)
        assert found
        game.target, game.current = int(found[1]), int(found[2])
        relation = (game.target > game.current) - (game.target < game.current)
        assert found[3] == {1: "higher", -1: "lower", 0: "equal"}[relation]
        assert np.array_equal(example.observation["frames"][-1], game.render())
        seen.add(example.description)
    assert len(seen) > 15


def test_examples_come_from_the_middle_of_episodes_as_well_as_from_their_start(examples: list[Example]) -> None:
    numbers = [[int(word) for word in e.description.split() if word.isdigit()] for e in examples]
    # Two episodes in a row rarely agree on the target and differ by one in the current number; two steps always do.
    walked = [t == u and abs(c - d) <= 1 for (t, c), (u, d) in itertools.pairwise(numbers)]
    assert 0.4 < sum(walked) / len(walked) < 0.95
    assert len(examples) == 200


def test_examples_are_decided_by_their_seed(tiny_config: Any) -> None:
    first, same, other = (collect_examples(tiny_config(), 20, seed=s) for s in (1, 1, 2))
    assert [e.description for e in first] == [e.description for e in same]
    assert [e.description for e in first] != [e.description for e in other]


class Recorder(torch.nn.Module):
    """Takes a model's place in the warm start and remembers the targets it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.targets: list[str] = []

    def conversation(self, observation: Any) -> None:
        return None

    def encoder(self, conversations: Any) -> list[None]:
        return [None] * len(conversations)

    def encode_response(self, text: str) -> str:
        self.targets.append(text)
        return text

    def forward(self, prompts: Any, targets: Any, temperature: float) -> Any:
        assert temperature == 1.0
        log_probs = self.weight.expand(len(prompts), 1)
        return type("Scores", (), {"log_probs": log_probs, "mask": torch.ones(len(prompts), 1).bool()})


def test_actions_of_the_targets_are_uniformly_random_not_an_experts(tiny_config: Any, examples: list[Example]) -> None:
    recorder = Recorder()
    warm_start.train(tiny_config(), recorder, examples, seed=0)  # type: ignore[arg-type]  # stands in for a VLM
    read = [parsing.parse_response(text) for text in recorder.targets]
    chosen: Counter[tuple[str, str]] = Counter()
    for answer in read:
        assert answer is not None
        chosen[answer.thoughts.rpartition(" ")[2], answer.action] += 1
    assert len(read) == 80 * 16
    # Whatever the scene is, both moves are as frequent as each other.
    for relation in ("higher", "lower"):
        assert chisquare([chosen[relation, "+"], chosen[relation, "-"]]).pvalue > 1e-3


def test_the_expert_is_taught_as_often_as_asked_for(tiny_config: Any) -> None:
    config = tiny_config({"warm_start": {"expert_actions": 0.5}})
    recorder = Recorder()
    warm_start.train(config, recorder, collect_examples(config, 200, seed=1), seed=0)  # type: ignore[arg-type]
    better = {"higher": "+", "lower": "-"}
    read = [answer for text in recorder.targets if (answer := parsing.parse_response(text))]
    right = sum(better[answer.thoughts.rpartition(" ")[2]] == answer.action for answer in read)
    assert binomtest(right, len(read), 0.75).pvalue > 1e-3  # half of them the expert's, half of the rest by chance


def test_an_expert_leads_the_walk_as_often_as_asked_for(tiny_config: Any) -> None:
    def closer(share: float) -> float:
        """Of the steps within an episode, those that brought the number nearer to its target."""
        examples = collect_examples(tiny_config({"warm_start": {"expert_walk": share}}), 400, seed=1)
        pairs = [[int(word) for word in e.description.split() if word.isdigit()] for e in examples]
        steps = [(abs(t - c), abs(t - d)) for (t, c), (u, d) in itertools.pairwise(pairs) if t == u and abs(c - d) == 1]
        return sum(after < before for before, after in steps) / len(steps)

    assert closer(1.0) > 0.95  # neighboring episodes can look like a step
    assert closer(0.0) < closer(0.5) < closer(1.0)


def test_the_corpus_holds_every_prompt_and_every_kind_of_answer(examples: list[Example]) -> None:
    texts = set(corpus(examples))
    for example in examples:
        assert example.observation["prompt"] in texts
        assert {
            parsing.render_response(ParsedResponse(example.description, action)) for action in example.actions
        } <= texts


def test_the_base_is_an_ordinary_hugging_face_directory(tiny_base: Path) -> None:
    model = AutoModelForImageTextToText.from_pretrained(tiny_base)
    assert type(model).__name__ == "Qwen2VLForConditionalGeneration"
    tokenizer = AutoTokenizer.from_pretrained(tiny_base)
    text = '{"thoughts": "target 4 current 1 target is higher", "action": "+"} naïve\n  ü €'
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert tokenizer.convert_ids_to_tokens(model.generation_config.eos_token_id) == ["<|im_end|>", "<|endoftext|>"]
    ours = policy.load_base(tiny_base, policy.ModelConfig())
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), ours.backbone.parameters(), strict=True))


def test_plain_transformers_generates_what_ours_generates(tiny_base: Path) -> None:
    ours = policy.load_base(tiny_base, policy.ModelConfig())
    frame = NumberLine(width=32, height=32)
    observation, _ = frame.reset(seed=5)
    prompts = ours.encode([observation["frames"]], ["number line. move current to target. actions: -, +."])
    (response,) = TransformersEngine(ours).generate(prompts, max_new_tokens=24, temperature=0.0)
    model = AutoModelForImageTextToText.from_pretrained(tiny_base)
    inputs, width = ours.collate(prompts)
    plain = model.generate(**inputs, max_new_tokens=24, do_sample=False)[0, width:]
    assert plain.tolist() == response.token_ids.tolist()


def test_the_warm_start_taught_the_format(tiny_base: Path, tiny_config: Any) -> None:
    config = tiny_config()
    held_out = collect_examples(config, 64, seed=99)
    measured = warm_start.measure(config, policy.load_base(tiny_base, config.model), held_out, seed=0)
    assert 0.2 < measured["legal_answers"] <= 1
    assert 0 <= measured["true_descriptions"] <= 1
    assert 1 <= measured["response_tokens"] <= 24


def test_a_base_from_elsewhere_becomes_a_pointer(tiny_config: Any, tmp_path: Path) -> None:
    config = tiny_config({"model": {"base": "Qwen/Qwen2-VL-7B-Instruct", "revision": "abc"}})
    assert warm_start.run(config, tmp_path / "base") == {}
    assert (tmp_path / "base" / "base.json").exists()
    assert sorted(p.name for p in (tmp_path / "base").iterdir()) == ["base.json"]
