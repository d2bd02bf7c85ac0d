"""What decides a benchmark besides the model: the options that all benchmarks share, and the base of a suite's own.

Every option is declared once, as a field with its type, bounds, default and description. The command line
(`benchmarks.harness.command_line`), the section `benchmarks` of a params file (`benchmarks.harness.section`) and the
validation of both follow from the fields. A suite with options of its own subclasses `Options`:

    class BalrogOptions(Options):
        agent: Literal["naive", "cot"] = Field(default="naive", description="...")
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Profile = Literal["short", "full"]
Style = Literal["full", "terse"]
#: How answers are read where the published program and lmms-eval differ.
Parser = Literal["original", "lmms-eval"]
Positive = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """The behavior of every model of options: frozen and strict, so that "16" is not 16 and true is not 1."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, validate_default=True)


class SharedOptions(Section):
    """The options of every benchmark that a params file gives; the defaults are those of the published evaluations."""

    profile: Profile = Field(default="short", description="short: minutes on a laptop; full: the published protocol")
    data: Path | None = Field(default=None, description="folder with the published data, or a data set of the hub")
    frames: Annotated[int, Field(ge=1, le=256)] = Field(default=32, description="frames of a video, evenly spaced")
    max_pixels: Positive = Field(default=200_704, description="larger pictures are scaled down to it")
    min_pixels: Positive = Field(default=3_136, description="smaller pictures are scaled up to it")
    batch_size: Positive = Field(default=16, description="questions or episodes at once")
    tokens_at_once: Positive = Field(
        default=32_768, description="tokens of a batch, padding and answers included; lower it where memory is short"
    )
    limit: Positive | None = Field(
        default=None, description="questions or episodes of each task instead of the profile's"
    )
    max_new_tokens: Positive | None = Field(
        default=None, description="of an answer instead of the benchmark's own limit"
    )
    seed: Annotated[int, Field(ge=0, lt=2**31)] = Field(
        default=0, description="of whatever the benchmark draws; synthetic sets have a fixed seed of their own"
    )

    @model_validator(mode="after")
    def _ordered(self) -> SharedOptions:
        if self.min_pixels > self.max_pixels:
            raise ValueError(f"min_pixels {self.min_pixels} exceeds max_pixels {self.max_pixels}; lower it")
        return self


class Options(SharedOptions):
    """What a benchmark is given. `style` follows from `env.prompt` in a pipeline.

    Attributes:
        speed: names of the options that decide how fast a benchmark is, and not its answers.
    """

    speed: ClassVar[frozenset[str]] = frozenset({"batch_size", "tokens_at_once"})

    style: Style = Field(
        default="full", description="prompts: full for pretrained models, terse for models of a few million parameters"
    )

    def deciding(self) -> dict[str, Any]:
        """The options that decide the records, as JSON values."""
        return self.model_dump(mode="json", exclude=set(self.speed))

    @classmethod
    def own(cls) -> dict[str, Any]:
        """The fields (`pydantic.fields.FieldInfo` by name) that all benchmarks do not share."""
        return {name: field for name, field in cls.model_fields.items() if name not in Options.model_fields}
