from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sharded_cases
import torch
from learner_cases import weights_of
from ranks import run_ranks

from vldac import algorithms, policy, zero3
from vldac.config import parse
from vldac.distributed import Runtime
from vldac.learner import Learner

TRAIN = {"batch_size": 8, "micro_batch_size": 4, "value_warmup": 0, "total_steps": 32}


@pytest.mark.slow
@pytest.mark.parametrize("lora_rank", [4, 0], ids=["adapter", "every weight"])
def test_weights_are_loaded_in_parts_gathered_once_to_sample_and_learn_as_whole_ones(
    lora_rank: int, tiny_params: Any, tiny_base: Path, runtime: Runtime, tmp_path: Path
) -> None:
    changes = {"model": {"lora_rank": lora_rank}, "train": TRAIN}
    params = tiny_params({**changes, "deepspeed": {"ranks": 2, "zero_stage": 3}})
    first, second = run_ranks(sharded_cases.run_case, tiny_base, params)
    config = parse(tiny_params(changes))
    base = dict(policy.load_base(tiny_base, config.model).named_parameters())
    numbers = sum(parameter.numel() for parameter in base.values())
    torch.manual_seed(5)
    drawn = torch.rand(3)
    torch.manual_seed(5)
    whole = Learner(config, policy.load_base(tiny_base, config.model), algorithms.make(config.train), runtime)
    whole.update(sharded_cases.made_rollout(config, tiny_base, runtime), 0)
    learned = weights_of(whole)
    for rank in (first, second):
        assert rank["held"] == 0
        assert rank["numbers"] == numbers
        assert numbers <= 2 * rank["shards"] < 1.01 * numbers  # a last shard is padded
        assert torch.equal(rank["drawn"], drawn)  # the critic and an adapter begin alike on all ranks
        assert rank["planned"]["parameters"] == whole.planned["parameters"]
        assert rank["planned"]["trained_parameters"] == whole.planned["trained_parameters"]
        assert rank["planned"]["weights_gathered_once"]
        loaded = {name.replace("base_model.model.", ""): weight for name, weight in rank["loaded"].items()}
        for name, weight in base.items():
            assert torch.equal(loaded[name], weight), name
        assert rank["fetched True"] == 0 < rank["fetched False"]
        texts = [[ids.tolist() for ids in rank[f"sampled {gathers}"]] for gathers in (True, False)]
        assert texts[0] == texts[1]
        assert rank["weights"].keys() == learned.keys()
        for name, weight in learned.items():
            assert torch.allclose(rank["weights"][name], weight, atol=1e-5), name
    # What is saved is whole on rank 0, one by one, and of an adapter alone where there is one.
    names = {name.removeprefix("model.") for name in learned}
    assert first["saved"].keys() == names
    assert second["saved"] == {}
    for name, weight in first["weights"].items():
        assert torch.equal(first["saved"][name.removeprefix("model.")], weight), name
    assert max(float((learned[name] - first["loaded"][name]).abs().max()) for name in learned) > 1e-3
    assert [len(ids) for ids in first["sampled True"]] != [len(ids) for ids in second["sampled True"]]


def test_a_run_with_whole_weights_is_loaded_as_ever(tiny_config: Any, tiny_base: Path) -> None:
    for stage, ranks in ((2, 2), (3, 1)):
        config = tiny_config({"deepspeed": {"ranks": ranks, "zero_stage": stage}})
        vlm = zero3.load_base(tiny_base, config, Runtime(0, ranks, torch.device("cpu")))
        assert all(parameter.numel() for parameter in vlm.parameters())
