"""The training command as a user runs it: resumed, killed, out of disk, on two ranks."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from vldac import checkpoint
from vldac.config import ConfigError
from vldac.distributed import Runtime
from vldac.run_log import RunLog, claim

REPOSITORY = Path(__file__).parents[2]
#: Sixteen updates, long enough to be killed in the middle of.
LONG = {"train": {"total_steps": 256}, "checkpoint": {"every": 2}}


class Run:
    """A directory of a run and the command that makes it."""

    def __init__(self, directory: Path, params: Path, base: Path) -> None:
        self.directory, self.params, self.base = directory, params, base
        self.checkpoints = directory / "run" / "checkpoints"
        self.metrics = directory / "run" / "metrics.jsonl"
        self.policy = directory / "policy"
        directory.mkdir()

    def command(self, *extra: str) -> list[str]:
        places = ["--base", str(self.base), "--run-dir", str(self.directory / "run"), "--out", str(self.policy)]
        return [*extra, "--params", str(self.params), *places]

    def start(self, **options: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command(sys.executable, "-m", "vldac.train"),
            cwd=REPOSITORY,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            **options,
        )

    def finish(self) -> str:
        process = self.start()
        output, _ = process.communicate()
        assert process.returncode == 0, output
        return output

    def rows(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.metrics.read_text().splitlines()]

    def episodes(self) -> list[dict[str, Any]]:
        """The episodes that ended, without what a clock decides."""
        lines = (self.directory / "run" / "episodes.jsonl").read_text().splitlines()
        rows = [{k: v for k, v in json.loads(line).items() if k != "time_s"} for line in lines]
        return sorted(rows, key=lambda row: (row["update"], row["began"], row["seed"]))

    def result(self) -> tuple[dict[str, bytes], list[dict[str, Any]]]:
        """The policy's files, and the metrics without what a clock decides."""
        files = {path.name: path.read_bytes() for path in sorted(self.policy.iterdir())}
        timed = ("time", "speed/", "system/")
        return files, [{k: v for k, v in row.items() if not k.startswith(timed)} for row in self.rows()]


def environment() -> dict[str, str]:
    left_out = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    kept = {k: v for k, v in os.environ.items() if k not in left_out}
    return {**kept, "OMP_NUM_THREADS": "1"}


def wait_for(condition: Any, process: subprocess.Popen[str]) -> None:
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.002)


def session_members(session: int) -> set[int]:
    """Processes of a session that are still running; a run starts one, so this finds all that it left behind."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.add(int(stat.parent.name))
    return found


def kill(process: subprocess.Popen[str]) -> None:
    """SIGKILL to the command alone, as the kernel would do it; whatever it started must end by itself."""
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.stdout is not None
    process.stdout.close()
    until = time.monotonic() + 60
    while left := session_members(process.pid):
        assert time.monotonic() < until, f"processes {left} outlived the run"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def long_params(tiny_params: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("params") / "params.yaml"
    path.write_text(yaml.safe_dump(tiny_params(LONG)))
    return path


@pytest.fixture(scope="module")
def uninterrupted(long_params: Path, tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = Run(tmp_path_factory.mktemp("uninterrupted") / "a", long_params, tiny_base)
    run.finish()
    return run


@pytest.mark.slow
def test_a_run_writes_one_line_an_update_and_a_policy(uninterrupted: Run) -> None:
    rows = uninterrupted.rows()
    assert [row["update"] for row in rows] == list(range(1, 17))
    assert [row["environment_steps"] for row in rows] == [16 * i for i in range(1, 17)]
    wanted = {
        "health/first_ratio_error",
        "health/sampler_log_prob_gap",
        "policy/clip_fraction",
        "policy/entropy",
        "policy/kl_to_reference",
        "policy/grad_norm",
        "critic/explained_variance",
        "rollout/response_tokens",
        "rollout/invalid_actions",
        "speed/environment_steps_per_s",
        "speed/generated_tokens_per_s",
        "time/simulator_share",
        "time/generation_share",
        "time/learning_share",
        "system/cpu_utilization_percentage",
        "system/process_memory_usage_megabytes",
    }
    assert wanted <= rows[-1].keys()
    assert 20 < rows[-1]["system/process_memory_usage_megabytes"] < rows[-1]["system/system_memory_usage_megabytes"]
    assert 0 < rows[-1]["system/system_memory_usage_percentage"] < 100
    assert max(row["health/first_ratio_error"] for row in rows) < 1e-3
    assert max(row["health/sampler_log_prob_gap"] for row in rows) < 1e-3
    assert 0 < sum(row["rollout/invalid_actions"] for row in rows) < 16  # both kinds of answers were met
    assert sum(row.get("episode/count", 0) for row in rows) > 0
    assert {"adapter_model.safetensors", "value_head.safetensors", "vldac.json"} <= uninterrupted.result()[0].keys()
    assert len(list(uninterrupted.checkpoints.iterdir())) == 2


@pytest.mark.slow
def test_the_same_command_again_changes_nothing(uninterrupted: Run) -> None:
    before = uninterrupted.result()
    assert "resuming from update 16 of 16" in uninterrupted.finish()
    assert uninterrupted.result() == before


def mid_update(run: Run, process: subprocess.Popen[str]) -> None:
    wait_for(lambda: checkpoint._all(run.checkpoints), process)
    time.sleep(random.Random().uniform(0, 1.0))  # any moment will do


def mid_checkpoint(run: Run, process: subprocess.Popen[str]) -> None:
    wait_for(lambda: checkpoint._all(run.checkpoints), process)
    wait_for(lambda: list(run.checkpoints.glob(".writing-*")), process)


def before_any_checkpoint(run: Run, process: subprocess.Popen[str]) -> None:
    wait_for(lambda: run.metrics.exists() and run.metrics.read_text().count("\n") >= 1, process)


@pytest.mark.slow
@pytest.mark.parametrize("moments", [[mid_update, mid_checkpoint], [before_any_checkpoint]])
def test_a_killed_run_ends_as_if_it_had_never_been_killed(
    moments: list[Any], uninterrupted: Run, tmp_path: Path, long_params: Path, tiny_base: Path
) -> None:
    run = Run(tmp_path / "b", long_params, tiny_base)
    for moment in moments:
        process = run.start()
        moment(run, process)
        kill(process)
        assert not run.policy.exists()  # it was killed before its end, or this test shows nothing
    output = run.finish()
    assert ("resuming from update" in output) == (moments != [before_any_checkpoint])
    assert run.result() == uninterrupted.result()
    assert not list(run.checkpoints.glob(".writing-*"))


@pytest.mark.slow
def test_a_run_whose_newest_checkpoint_is_broken_goes_on_from_the_one_before(
    uninterrupted: Run, tmp_path: Path, long_params: Path, tiny_base: Path
) -> None:
    run = Run(tmp_path / "b", long_params, tiny_base)
    process = run.start()
    wait_for(lambda: len(checkpoint._all(run.checkpoints)) == 2, process)
    kill(process)
    before, newest = checkpoint._all(run.checkpoints)[-2:]
    file = next(newest.glob("policy/state-*.safetensors"))
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    output = run.finish()
    assert f"checkpoint {newest} is broken" in output
    assert f"resuming from update {checkpoint.update_of(before)}" in output
    assert run.result() == uninterrupted.result()


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_leaves_the_older_checkpoint_whole(
    tmp_path: Path, long_params: Path, tiny_base: Path
) -> None:
    run = Run(tmp_path / "b", long_params, tiny_base)
    process = run.start()
    wait_for(lambda: checkpoint._all(run.checkpoints), process)
    kill(process)
    (good,) = checkpoint._all(run.checkpoints)[-1:]
    # A limit on the size of a file, with its signal ignored, fails a write just as a full disk does.
    limited = (
        "import resource, runpy, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))\n"
        "sys.argv[0] = 'vldac.train'\n"
        "runpy.run_module('vldac.train', run_name='__main__')\n"
    )
    command = run.command(sys.executable, "-c", limited)
    done = subprocess.run(command, cwd=REPOSITORY, env=environment(), capture_output=True, text=True, check=False)
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert len(errors) == 1
    assert errors[0].startswith("error: could not write the checkpoint")
    checkpoint.verify(good)
    assert checkpoint.newest(run.checkpoints) == good
    assert not run.policy.exists()
    run.finish()  # with space again, the same command resumes


class OnTwoRanks:
    """A run on two ranks, and a killed one that may be resumed on any number of them."""

    def __init__(self, tiny_params: Any, base: Path, directory: Path) -> None:
        self.tiny_params, self.base, self.directory = tiny_params, base, directory
        self.whole = self.run("whole", 2)
        self.output = self.whole.finish()
        self._killed = self.run("killed", 2)
        process = self._killed.start()
        wait_for(lambda: checkpoint._all(self._killed.checkpoints), process)
        kill(process)

    def run(self, name: str, ranks: int) -> Run:
        params = self.directory / f"{ranks}.yaml"
        params.write_text(yaml.safe_dump(self.tiny_params({"deepspeed": {"ranks": ranks}})))
        return Run(self.directory / name, params, self.base)

    def resumed(self, ranks: int) -> Run:
        run = self.run(f"resumed-on-{ranks}", ranks)
        shutil.copytree(self._killed.directory, run.directory, dirs_exist_ok=True)
        assert "resuming from update" in run.finish()
        return run


@pytest.fixture(scope="module")
def on_two_ranks(tiny_params: Any, tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> OnTwoRanks:
    return OnTwoRanks(tiny_params, tiny_base, tmp_path_factory.mktemp("ranks"))


@pytest.mark.slow
def test_two_ranks_train_one_policy_and_write_each_line_once(on_two_ranks: OnTwoRanks) -> None:
    run = on_two_ranks.whole
    assert on_two_ranks.output.count("update 4/4") == 1
    assert [row["update"] for row in run.rows()] == [1, 2, 3, 4]
    newest = checkpoint.newest(run.checkpoints)
    assert newest is not None
    state = json.loads((newest / "experience.json").read_text())
    assert len({e["seed"] for e in state["simulators"]["episodes"]}) == 4  # each rank has simulators of its own
    # A run that resumes on two ranks ends where one that was never stopped ends.
    assert on_two_ranks.resumed(2).result() == run.result()


@pytest.mark.slow
def test_a_run_ends_early_once_its_success_has_been_kept(
    tiny_params_file: Any, tiny_base: Path, tmp_path: Path
) -> None:
    changes = {"env": {"num_envs": 16, "max_steps": 2}, "rollout": {"steps": 8}, "checkpoint": {"every": 50}}
    train = {"total_steps": 50 * 128, "batch_size": 64, "micro_batch_size": 64, "stop_at": 0.0, "epochs": 1}
    run = Run(tmp_path / "a", tiny_params_file({**changes, "train": train}), tiny_base)
    output = run.finish()
    rows = run.rows()
    full = [row["update"] for row in rows if row.get("episode/success_last_100_count") == 100]
    assert len(rows) == full[0] + 4 < 50
    assert f"ending at {rows[-1]['environment_steps']} of 6400 environment steps (train.stop_at)" in output
    assert json.loads((run.policy / "vldac.json").read_text())["environment_steps"] == rows[-1]["environment_steps"]
    before = run.result()
    run.finish()  # it has ended: the same command trains no more
    assert run.result() == before


def compared(rows: list[dict[str, Any]]) -> list[dict[str, float]]:
    """Of each update, what depends on the trajectories and the losses; a critic's first steps enlarge rounding."""
    sections = ("episode/", "loss/policy", "rollout/", "critic/return", "policy/entropy", "policy/kl")
    return [{name: value for name, value in row.items() if name.startswith(sections)} for row in rows]


@pytest.mark.slow
def test_any_number_of_ranks_takes_the_same_trajectories_and_a_killed_run_resumes_on_another_number(
    on_two_ranks: OnTwoRanks,
) -> None:
    one, four = on_two_ranks.run("of-1", 1), on_two_ranks.run("of-4", 4)
    one.finish()
    four.finish()
    for run in (on_two_ranks.whole, four, on_two_ranks.resumed(1)):
        for mine, alone in zip(compared(run.rows()), compared(one.rows()), strict=True):
            assert mine == pytest.approx(alone, rel=1e-3, abs=5e-4)
        assert run.episodes() == one.episodes()


@pytest.mark.slow
def test_ranks_that_hold_shards_of_the_weights_sample_and_save_in_step(
    tiny_params_file: Any, tiny_base: Path, tmp_path: Path
) -> None:
    changes = {"train": {"total_steps": 32}}
    outcomes = []
    for stage in (1, 3):
        params = tiny_params_file({**changes, "deepspeed": {"ranks": 2, "zero_stage": stage}})
        run = Run(tmp_path / f"stage-{stage}", params, tiny_base)
        run.finish()
        outcomes.append([row["episode/return"] for row in run.rows() if "episode/return" in row])
    # The same responses were sampled, whatever number of tokens each rank's took.
    assert outcomes[0] == outcomes[1]


@pytest.mark.slow
def test_an_environment_that_does_not_exist_is_one_line(tiny_params_file: Any, tiny_base: Path, tmp_path: Path) -> None:
    params = tiny_params_file({"env": {"id": "GymCards-NumberLin-v0"}})
    command = [sys.executable, "-m", "vldac.train", "--params", str(params), "--base", str(tiny_base)]
    done = subprocess.run(
        [*command, "--run-dir", str(tmp_path / "run"), "--out", str(tmp_path / "policy")],
        cwd=REPOSITORY,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "error: unknown environment 'GymCards-NumberLin-v0'; did you mean GymCards-NumberLine-v0" in done.stderr


@pytest.mark.slow
def test_a_run_folder_that_cannot_be_made_is_one_line(tiny_params_file: Any, tiny_base: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    command = [sys.executable, "-m", "vldac.train", "--params", str(tiny_params_file()), "--base", str(tiny_base)]
    done = subprocess.run(
        [*command, "--run-dir", str(tmp_path / "file" / "run"), "--out", str(tmp_path / "policy")],
        cwd=REPOSITORY,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert len(errors) == 1
    assert str(tmp_path / "file") in errors[0]


# metrics.jsonl


ONE = Runtime(0, 1, torch.device("cpu"))


def test_metrics_after_the_checkpoint_are_dropped_because_they_are_made_again(tmp_path: Path) -> None:
    path = tmp_path / "run" / "metrics.jsonl"
    log = RunLog(path, ONE)
    log.truncate(0)
    for update in (1, 2, 3):
        log.append([{"update": update}])
    with path.open("a") as file:
        file.write('{"update": 4, "ti')  # the line that was being written when the run was killed
    RunLog(path, ONE).truncate(2)
    assert [json.loads(line)["update"] for line in path.read_text().splitlines()] == [1, 2]


def test_time_goes_on_from_the_last_line_that_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"update": 1, "time_s": 1000.0}\n')
    log = RunLog(path, ONE)
    log.truncate(1)
    log.append([{"update": 2}])
    assert json.loads(path.read_text().splitlines()[1])["time_s"] >= 1000.0


def test_only_the_first_rank_writes_metrics(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "metrics.jsonl", Runtime(1, 2, torch.device("cpu")))
    log.truncate(0)
    log.append([{"update": 1}])
    assert not log.path.exists()


def test_a_folder_of_another_run_is_not_continued(tiny_config: Any, tmp_path: Path) -> None:
    base = {"digest": "one"}
    claim(tmp_path / "run", tiny_config(), base, ONE)
    claim(tmp_path / "run", tiny_config({"checkpoint": {"every": 7}}), base, ONE)  # decides no weight
    with pytest.raises(ConfigError, match=r"differs in train\.gamma; choose another --run-dir"):
        claim(tmp_path / "run", tiny_config({"train": {"gamma": 0.5}}), base, ONE)
    with pytest.raises(ConfigError, match=r"differs in base\.digest"):
        claim(tmp_path / "run", tiny_config(), {"digest": "two"}, ONE)


def test_two_processes_cannot_train_in_one_directory(tiny_config: Any, tmp_path: Path) -> None:
    lock = claim(tmp_path / "run", tiny_config(), {"digest": "one"}, ONE)
    assert lock is not None
    code = (
        "import json, sys, torch\n"
        "from pathlib import Path\n"
        "from vldac.config import parse\n"
        "from vldac.distributed import Runtime\n"
        "from vldac.run_log import claim\n"
        "from vldac.utils.errors import report_errors\n"
        "one = Runtime(0, 1, torch.device('cpu'))\n"
        "config, directory = parse(json.loads(sys.argv[1])), Path(sys.argv[2])\n"
        "sys.exit(report_errors(lambda: int(claim(directory, config, {'digest': 'one'}, one) is None)))\n"
    )
    command = [sys.executable, "-c", code, tiny_config().model_dump_json(), str(tmp_path / "run")]

    def other() -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)

    refused = other()
    assert refused.returncode == 1
    assert refused.stderr.startswith(f"error: another process trains in {tmp_path / 'run'}; wait for it or stop it")
    lock.close()
    assert other().returncode == 0


@pytest.mark.parametrize("text", ["", "[]", '{"base":'])
def test_a_damaged_description_of_a_run_is_one_line(tiny_config: Any, tmp_path: Path, text: str) -> None:
    (tmp_path / "run-config.json").write_text(text)
    with pytest.raises(ConfigError, match=r"run-config.json (is damaged|must hold a JSON object).*; choose another"):
        claim(tmp_path, tiny_config(), {}, ONE)


def test_updates_are_counted_up_to_the_first_line_that_is_damaged(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "metrics.jsonl", ONE)
    assert log.whole_updates() == 0
    lines = [json.dumps({"update": n, "time_s": 1.0}) for n in (1, 2, 3)]
    for text, count in (("\n".join(lines), 3), ("x" + "\n".join(lines), 0), ("\n".join([lines[0], lines[2]]), 1)):
        log.path.write_text(text)
        assert log.whole_updates() == count


def test_a_log_with_bytes_that_are_no_text_is_cut_before_them(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "metrics.jsonl", ONE)
    good = json.dumps({"update": 1, "time_s": 1.0}).encode()
    for damage in (b"\xff\xfe", b"[2]"):
        log.path.write_bytes(good + b"\n" + damage + b"\n")
        log.truncate(5)
        assert log.path.read_bytes() == good + b"\n"
    log.sync()


@pytest.mark.slow
def test_a_run_whose_metrics_are_damaged_resumes_before_the_damage_or_not_at_all(
    uninterrupted: Run, long_params: Path, tiny_base: Path, tmp_path: Path
) -> None:
    run = Run(tmp_path / "b", long_params, tiny_base)
    process = run.start()
    wait_for(lambda: len(checkpoint._all(run.checkpoints)) == 2, process)
    kill(process)
    before, newest = checkpoint._all(run.checkpoints)[-2:]
    lines = run.metrics.read_text().splitlines()
    lines[checkpoint.update_of(newest) - 1] = lines[checkpoint.update_of(newest) - 1][:40]
    run.metrics.write_text("\n".join(lines))
    output = run.finish()
    assert f"resuming from update {checkpoint.update_of(before)}" in output
    assert run.result() == uninterrupted.result()
    run.metrics.write_text("damaged" + run.metrics.read_text())
    process = run.start()
    output, _ = process.communicate()
    assert process.returncode == 1
    assert "has lost the metrics of updates that are in" in output
    assert len(checkpoint._all(run.checkpoints)) == 2  # nothing was lost
