"""Prompts that a user writes, in every kind of environment."""

from __future__ import annotations

from typing import Any, cast

import pytest
from misbehaving_envs import Counter

from envs.base import MAX_PROMPT_CHARACTERS, Env, UnsuitableEnvError
from envs.registry import make
from envs.templates import PLACEHOLDERS, Template, list_actions
from envs.vector import VectorEnv, training_seeds
from envs.wrappers import FrameWindow, TemplatePrompt

VALUES = {name: name.upper() for name in PLACEHOLDERS}


def test_placeholders_are_replaced_and_nothing_else_is_read() -> None:
    template = Template('{frames} of {prompt}: {{"a": {state}}} {instruction} {actions} {answer_format}')
    assert template.format(VALUES) == 'FRAMES of PROMPT: {"a": STATE} INSTRUCTION ACTIONS ANSWER_FORMAT'
    hostile = "{instruction} {0} {{ {x.__class__} %s }"
    assert Template("{state}").format({**VALUES, "state": hostile}) == hostile


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{instuction}", r"unknown placeholder \{instuction\}; did you mean \{instruction\}\?"),
        ("{x}", r"unknown placeholder \{x\}; the placeholders are \{instruction\}, \{state\}, .*; write \{\{ for a"),
        ("{}", r"unknown placeholder \{\};"),
        ("{0}", r"unknown placeholder \{0\};"),
        ("{instruction.__class__}", r"unknown placeholder \{instruction.__class__\}"),
        ("{actions[0]}", r"unknown placeholder \{actions\[0\]\}; did you mean \{actions\}\?"),
        ("{instruction!r}", r"formats \{instruction\}; a placeholder is its name alone"),
        ("{instruction:>9999999}", r"formats \{instruction\}"),
        ("{instruction:{frames}}", r"formats \{instruction\}"),
        ('Say {"action": "x"}', r"unknown placeholder \{\"action\"\}"),
        ("{instruction} }", r"Single '\}' encountered in format string; write \{\{ and \}\} for braces"),
        ("{instruction", r"expected '\}' before end of string; write"),
        ("just text", r"holds no placeholder; they are \{instruction\}"),
        (" \n", "is empty"),
        ("{state}" + 4090 * "x", r"has 4097 characters; it may have 4096"),
    ],
)
def test_what_is_no_template_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(UnsuitableEnvError, match=reason) as found:
        Template(text)
    assert "\n" not in str(found.value)


def test_a_long_state_is_cut_and_what_cannot_be_cut_is_refused() -> None:
    values = {**VALUES, "state": "s" * 50_000}
    text = Template("{state}|{instruction}|{state}").format(values)
    assert MAX_PROMPT_CHARACTERS - 1 <= len(text) <= MAX_PROMPT_CHARACTERS
    assert text.count("s ...|") == 1
    assert text.endswith("s ...")
    for template in ("{prompt}", "{prompt}{state}"):
        with pytest.raises(UnsuitableEnvError, match=r"a prompt of .* characters; one may have 8192"):
            Template(template).format({**VALUES, "prompt": "p" * 9000})


def test_of_many_actions_some_are_told() -> None:
    assert list_actions(["left", "right"]) == "left, right"
    told = list_actions([f"click[{number:04}]" for number in range(1000)])
    assert len(told) < 2620
    assert told.startswith("click[0000], click[0001], ")
    kept, more = told.removesuffix(" more").split(" and ")
    assert kept.count("click") + int(more) == 1000


@pytest.mark.parametrize("prompt", ["full", "terse"])
@pytest.mark.parametrize(
    "env_id",
    [
        "GymCards-EZPoints-v0",
        "MiniWorld-Sign-v0",
        "Pictures-v0",
        "ALFWorld-Small-v0",
        "WebShop-Small-v0",
        "gymnasium:Taxi-v4",
    ],
)
def test_every_environment_tells_the_parts_of_its_prompt(env_id: str, prompt: Any) -> None:
    template = "{instruction}\n--\n{state}\n--\n{actions}\n--\n{frames}\n--\n{prompt}"
    env = make(env_id, width=24, height=24, frames=2, prompt=prompt, prompt_template=template)
    world = cast(Env, env.unwrapped)
    observation, _ = env.reset(seed=3)
    for _ in range(2):
        instruction, state, actions, frames, whole = observation["prompt"].split("\n--\n")
        assert instruction
        assert instruction in whole
        assert state in whole
        assert bool(state) == (env_id in {"ALFWorld-Small-v0", "WebShop-Small-v0"})
        assert actions == ", ".join(world.action_names)
        assert frames == "2"
        assert observation["frames"].shape[0] == 2
        assert observation in env.observation_space
        observation = env.step(world.parse_action(world.expert_action() or world.action_names[0]))[0]
    env.close()


def test_an_environment_that_has_its_instruction_in_its_prompt_alone_says_so() -> None:
    window = FrameWindow(Counter(width=4, height=4), 1)
    observation, _ = TemplatePrompt(window, "Now: {prompt} ü").reset(seed=5)
    assert observation["prompt"] == "Now: seed 5 step 0 ü"
    with pytest.raises(
        UnsuitableEnvError, match=r"Counter tells its instruction in its own prompt only; write \{prompt"
    ):
        TemplatePrompt(window, "{instruction}").reset(seed=5)


def test_workers_show_it_too() -> None:
    options: dict[str, Any] = {"width": 24, "height": 24, "prompt_template": "{actions}? {frames}", "max_steps": 1}
    with VectorEnv("GymCards-NumberLine-v0", 1, num_workers=1, seeds=training_seeds(0), **options) as pool:
        (observation,) = pool.reset()
        assert observation is not None
        assert observation["prompt"] == "-, +? 1"
        (final,) = pool.step([None]).final_observations
        assert final is not None
        assert final["prompt"] == "-, +? 1"
