from __future__ import annotations

import errno
import subprocess
import sys

import pytest
import torch

from envs.base import SimulatorError
from vldac.utils.errors import UserError, explain, report_errors


class TwoCausesError(UserError):
    pass


def failing(error: BaseException) -> int:
    def main() -> int:
        raise error

    return report_errors(main)


@pytest.mark.parametrize(
    ("error", "lines"),
    [
        (TwoCausesError("a is wrong; mend a\nb is wrong; mend b"), ["a is wrong; mend a", "b is wrong; mend b"]),
        (SimulatorError("no display; install one"), ["no display; install one"]),
        (
            OSError(errno.ENOSPC, "No space left on device", "/x"),
            ["/x: No space left on device; free some space and run the same command again"],
        ),
        (FileNotFoundError("two\n lines"), ["two lines"]),
        (TwoCausesError(), ["TwoCausesError"]),
    ],
)
def test_an_expected_failure_is_a_line_for_each_cause(
    error: Exception, lines: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert failing(error) == 1
    assert capsys.readouterr() == ("", "".join(f"error: {line}\n" for line in lines))


def test_an_interrupt_has_its_own_status(capsys: pytest.CaptureFixture[str]) -> None:
    assert failing(KeyboardInterrupt()) == 130
    assert capsys.readouterr().err.startswith("error: interrupted; the same command resumes")


def test_a_defect_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        failing(ZeroDivisionError())


def test_an_error_without_words_is_named_by_its_type() -> None:
    assert explain(RuntimeError()) == "RuntimeError"


def test_reporting_loads_no_simulator_and_no_model_library() -> None:
    code = "import sys, vldac.utils.errors; print({'torch', 'gymnasium', 'envs.base'} & sys.modules.keys())"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


def test_a_device_without_room_is_one_line_with_what_to_set(capsys: pytest.CaptureFixture[str]) -> None:
    full = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has 79 GiB.")
    assert failing(full) == 1
    printed = capsys.readouterr().err
    assert printed.startswith("error: the memory of the device is full (CUDA out of memory); take train.gradient_check")
    assert printed.count("\n") == 1
