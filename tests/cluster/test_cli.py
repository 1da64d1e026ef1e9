"""A user's mistake is one clear sentence and exit code 2, never a traceback."""

from __future__ import annotations

import json
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from cg_data.errors import EdfError, StorageError
from cluster import cli
from tests.cg_data.corpus_trees import tusz_v2
from tests.cg_data.edf_bytes import Spec, make, note


def cg(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *args: str) -> tuple[int, str, str]:
    """Exit code, output and errors of one command."""
    monkeypatch.setattr(sys, "argv", ["cg", *args])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    said = capsys.readouterr()
    return int(stopped.value.code or 0), said.out, said.err


def refuses(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *args: str) -> str:
    """The one sentence with which a command is refused."""
    code, _, err = cg(capsys, monkeypatch, *args)
    assert code == 2
    assert err.startswith("cg: ")
    assert "Traceback" not in err
    assert len(err.splitlines()) == 1
    return err


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


def test_an_unknown_preset(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert "did you mean tiny" in refuses(capsys, monkeypatch, "run", "--preset", "tinny")


@pytest.mark.parametrize("command", [("eval", "detector"), ("data", "verify")])
def test_options_that_would_not_reach_the_command_are_refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: tuple[str, str]
) -> None:
    group, name = command
    said = refuses(capsys, monkeypatch, group, "--run", str(tmp_path / "run"), name)
    assert f"{group}: options stand after the command, as in `cg {group} {name} --run FOLDER`" in said


def test_an_unknown_key(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert "did you mean subjects" in refuses(capsys, monkeypatch, "run", "--set", "data.synthetic.subject=5")


def test_a_folder_that_is_not_there(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert "nowhere" in refuses(capsys, monkeypatch, "run", "--edf", "nowhere")


def test_an_empty_folder(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "empty" in refuses(capsys, monkeypatch, "run", "--edf", "empty")


def test_a_folder_without_edf_files(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "notes.txt").write_text("no EEG here")
    assert "texts" in refuses(capsys, monkeypatch, "run", "--edf", "texts")


def test_an_unknown_corpus(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert "did you mean tusz" in refuses(capsys, monkeypatch, "data", "inspect", "tuzs", ".")


def test_a_corpus_that_is_not_there(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert "nowhere: no such folder" in refuses(capsys, monkeypatch, "data", "inspect", "tusz", "nowhere")


def test_a_corpus_is_inspected_without_a_run_folder(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    corpus = tusz_v2(tmp_path / "corpus")
    (corpus / "edf" / "train" / "[odd].edf").write_bytes(b"0")
    code, out, _ = cg(capsys, monkeypatch, "data", "inspect", "TUSZ", str(corpus))
    assert code == 0
    assert "6 files: 5 can be used (3 subjects, 5.0 min), 1 would be refused." in out
    for row in ("validation │     2 │        1 │ 2.0 min", "19 of 19", "seizure    │ cpsz    │     5", "split.subject_in_two", "[odd].edf"):
        assert row in out
    assert not (tmp_path / "runs").exists()


RATES = {
    "machine": "a test", "segment_pages_per_core_s": 100, "analyse_pages_per_core_s": 50, "instruct_pages_per_core_s": 200,
    "detect_pages_per_device_s": 25, "segment_bytes": 50000, "annotation_bytes": 1000, "samples_bytes": 90000,
}  # fmt: skip


def test_a_corpus_is_planned_with_rates_of_another_machine(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    corpus = tusz_v2(tmp_path / "corpus")
    rates = tmp_path / "rates.json"
    rates.write_text(json.dumps(RATES))
    code, out, _ = cg(capsys, monkeypatch, "data", "plan", "tusz", str(corpus), "--nodes", "2", "--cores", "8", "--rates", str(rates))
    assert code == 0
    assert "0.1 hours, 30 pages, on 2 x 8 cores" in out
    assert "Assumed: rates of a test" in out
    assert "without a GPU" in refuses(capsys, monkeypatch, "data", "plan", "tusz", str(corpus), "--gpus", "1", "--rates", str(rates))
    rates.write_text(json.dumps(RATES | {"segment_bytes": -1}))
    assert "segment_bytes" in refuses(capsys, monkeypatch, "data", "plan", "tusz", str(corpus), "--rates", str(rates))


def test_clean_copies_need_a_secret_and_name_what_they_cannot_clean(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "eeg").mkdir()
    (tmp_path / "eeg" / "good.edf").write_bytes(make(Spec(plus="EDF+C", notes=(note(1.0, 2.0, "Eyes closed"), note(3.0, 0.0, "Jane")))))
    monkeypatch.delenv("CG_SUBJECT_SALT", raising=False)
    assert "CG_SUBJECT_SALT" in refuses(capsys, monkeypatch, "data", "deidentify", str(tmp_path / "eeg"), str(tmp_path / "clean"))
    monkeypatch.setenv("CG_SUBJECT_SALT", "a secret")
    (tmp_path / "eeg" / "bad.edf").write_bytes(b"Dear colleague")
    code, out, _ = cg(capsys, monkeypatch, "data", "deidentify", str(tmp_path / "eeg"), str(tmp_path / "clean"))
    assert code == 1
    assert "1 clean copies" in out
    assert "1 notes kept, 1 left out" in out
    assert "bad.edf" in out


def test_there_is_nothing_to_verify_yet(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no shards here yet" in refuses(capsys, monkeypatch, "data", "verify", "--run", "nowhere")


def test_a_cluster_that_is_not_there(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    sets = (
        "--set",
        f"cluster.address=127.0.0.1:{port}",
        "--set",
        "data.synthetic.subjects=3",
        "--set",
        "data.synthetic.minutes_per_subject=0.5",
    )
    assert "nobody answers" in refuses(capsys, monkeypatch, "run", *sets)


def test_a_ray_client_address_is_explained(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "ray://10.0.0.5:10001")
    sets = ("--set", "data.synthetic.subjects=3", "--set", "data.synthetic.minutes_per_subject=0.5")
    assert "ray job submit" in refuses(capsys, monkeypatch, "run", *sets)


def test_serving_before_there_is_a_champion(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no champion to serve" in refuses(capsys, monkeypatch, "serve")


@pytest.mark.parametrize("command", ["serve", "eval"])
def test_the_token_is_set_before_anything_imports_ray(command: str, tmp_path: Path) -> None:
    """Ray reads its authentication mode when it is imported; set later, the driver cannot join its own cluster."""
    script = f"""
import sys
from cluster import cli, options
prepare = cli.prepare_environment
def checked(*args, **kwargs):
    print("ray" in sys.modules)
    prepare(*args, **kwargs)
cli.prepare_environment = options.prepare_environment = checked
sys.argv = ["cg", "{command}"]
cli.main()
"""
    said = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (said.returncode, said.stdout) == (2, "False\n")


def test_a_step_out_of_order_says_what_to_run_first(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert "`cg data corpus`" in refuses(capsys, monkeypatch, "data", "segments")


def test_a_mistake_is_found_inside_what_ray_wraps_around_it() -> None:
    class WrappedError(Exception):
        def __init__(self, cause: Exception) -> None:
            self.cause = cause

    mistake = EdfError("header.n_signals", "a.edf: n_signals = 0; at least 1 is needed.")
    outer = RuntimeError("training failed")
    outer.__cause__ = WrappedError(mistake)
    assert cli.user_error_in(outer) is mistake


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), sqlite3.OperationalError("database or disk is full")])
def test_a_full_disk_anywhere_is_said_in_a_sentence(error: Exception) -> None:
    assert isinstance(cli.user_error_in(error), StorageError)


def test_a_bug_keeps_its_traceback() -> None:
    assert cli.user_error_in(ValueError("a bug")) is None


@pytest.mark.parametrize("command", [[], ["run"], ["data"], ["train"], ["train", "stage2"], ["eval"], ["serve"], ["doctor"]])
def test_every_command_has_a_help_text(command: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, _ = cg(capsys, monkeypatch, *command, "--help")
    assert code == 0
    assert "Usage: cg" in out
