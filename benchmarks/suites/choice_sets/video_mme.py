"""The two spatial tasks of Video-MME, questions about videos (Fu et al. 2024, arXiv 2405.21075)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from benchmarks.harness.tables import Row
from benchmarks.harness.task import BenchmarkDataError
from benchmarks.harness.video import read_frames
from benchmarks.suites.choice_sets import suite
from benchmarks.suites.choice_sets.choice_set import ChoiceSet, below
from benchmarks.suites.choice_sets.letters import extract_letter
from vldac.models.conversation import Image

TASKS = ("Spatial Perception", "Spatial Reasoning")
_CHOICES = "ABCD"
_NAME = re.compile(r"[\w-]+")


class VideoMMESpatial(ChoiceSet):
    """Spatial perception and reasoning of Video-MME, without subtitles, as lmms-eval reads it.

    Source: `lmms_eval/tasks/videomme`. Videos are `data/{videoID}.mp4`, or `.MP4` or `.mkv`.
    """

    name, title = suite.VIDEO_MME_SPATIAL.name, suite.VIDEO_MME_SPATIAL.title
    hub_name = "lmms-eval/Video-MME"
    columns = ("question_id", "task_type", "videoID", "question", "options", "answer")
    id_column = "question_id"
    task_column = "task_type"
    max_new_tokens = 16

    def wanted(self, row: Row) -> bool:
        """See `ChoiceSet`."""
        return row.text("task_type") in TASKS

    def letter(self, row: Row) -> str:
        """See `ChoiceSet`."""
        return row.letter("answer", _CHOICES)

    def text(self, row: Row) -> str:
        """See `ChoiceSet`; the options bring their letters along."""
        options = row.texts("options")
        if len(options) != len(_CHOICES):
            raise row.error(f"it has {len(options)} options")
        return "\n".join(
            (
                "Watch the video and choose the best answer to the question. Reply with its letter only: A, B, C or D.",
                row.text("question"),
                *options,
                "The letter of the best answer:",
            )
        )

    def pictures(self, row: Row) -> Sequence[Image]:
        """See `ChoiceSet`: evenly spaced frames of the video."""
        name = row.text("videoID")
        if not _NAME.fullmatch(name):
            raise row.error(f"{name[:40]!r} is no name of a video")
        video = below(self.folder / "data", (f"{name}.mp4", f"{name}.MP4", f"{name}.mkv"))
        if video is None:
            raise BenchmarkDataError(
                f"there is no {self.folder / 'data' / name}.mp4; videos are not fetched from the hub: unpack "
                f"videos_chunked_*.zip of {self.hub_name} into DIR, beside its tables, and name DIR with --data"
            )
        return read_frames(video, self.options.frames)

    def read(self, text: str) -> str:
        """See `ChoiceSet`."""
        return extract_letter(text, _CHOICES)
