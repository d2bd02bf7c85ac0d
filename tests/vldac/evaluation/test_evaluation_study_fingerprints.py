"""What decides a result, and what does not."""

from __future__ import annotations

from typing import Any

from vldac.evaluation.study import fingerprints


def test_what_does_not_concern_a_base_model_does_not_make_another(tiny_config: Any) -> None:
    of = fingerprints.base_fingerprint
    same = [tiny_config({"train": {"gamma": 0.5}}), tiny_config({"model": {"lora_rank": 0}}), tiny_config()]
    assert len({of(each) for each in same}) == 1
    assert fingerprints.base_fingerprint(tiny_config({"env": {"frames": 2}})) != fingerprints.base_fingerprint(
        tiny_config()
    )


def test_an_evaluation_is_told_by_what_it_plays_and_how_answers_are_sampled(tiny_config: Any) -> None:
    of = fingerprints.evaluation_fingerprint
    assert of(tiny_config({"train": {"gamma": 0.5}})) == of(tiny_config())
    others = [{"seed": 5}, {"evaluate": {"episodes": 3}}, {"rollout": {"temperature": 0.5}}, {"env": {"history": 1}}]
    assert len({of(tiny_config()), *(of(tiny_config(changes)) for changes in others)}) == 5


def test_a_benchmark_is_told_by_its_name_its_options_and_how_answers_are_given(tiny_config: Any) -> None:
    of = fingerprints.benchmark_fingerprint
    assert of("vsi_bench", tiny_config({"train": {"gamma": 0.5}})) == of("vsi_bench", tiny_config())
    others = [{"benchmarks": {"limit": 3}}, {"env": {"prompt": "full"}}, {"model": {"max_pixels": 50176}}]
    asked = [of("vsi_bench", tiny_config(changes)) for changes in others]
    assert len({of("balrog", tiny_config()), of("vsi_bench", tiny_config()), *asked}) == 5
