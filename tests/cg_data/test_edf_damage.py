"""Bytes lost, added or damaged inside a recording: noticed where anything gives them away, and sound recordings stay sound."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from cg_data.edf.header import parse_header
from cg_data.edf.reader import EdfFile
from cg_data.errors import EdfError
from tests.cg_data.edf_bytes import Spec, digital_signal, make, note, patched, signal_field

LONG = Spec(n_records=40)
SOUND = make(LONG)
SOUND_PLUS = make(Spec(plus="EDF+C", notes=(note(3.5, 2, "Eyes closed"),)))


def reason_of(data: bytes) -> str:
    with pytest.raises(EdfError) as caught:
        EdfFile.from_bytes(data, "x.edf").check(range(19))
    return caught.value.reason


def shifted(data: bytes, at: int, change: int) -> bytes:
    return data[:at] + bytes(max(change, 0)) + data[at + max(-change, 0) :]


@pytest.mark.parametrize("same_size", [False, True])
def test_line_ends_changed_by_a_text_mode_transfer_are_noticed(same_size: bool) -> None:
    damaged = SOUND.replace(b"\n", b"\r\n")
    assert reason_of(damaged[: len(SOUND)] if same_size else damaged) == "data.line_ends"


@pytest.mark.parametrize("change", [1, 2, -1, -38])
def test_bytes_lost_or_added_inside_an_edf_plus_file_are_noticed_by_its_record_times(change: int) -> None:
    assert reason_of(shifted(SOUND_PLUS, 256 * 21 + 5 * 7720 + 1000, change)) == "records.shifted"


@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("change", [2, 4, 38, 300, -2, -4, -38, -300])
def test_an_even_number_of_bytes_lost_or_added_in_plain_edf_is_noticed_at_the_seams(change: int, cut: bool) -> None:
    damaged = shifted(SOUND, 256 * 20 + 15 * 7600 + 1000, change)
    assert reason_of((damaged + bytes(300))[: len(SOUND)] if cut else damaged) == "data.misaligned"


@pytest.mark.parametrize("change", [1, -1, 301])
def test_an_odd_number_of_bytes_in_plain_edf_is_noticed_as_noise(change: int) -> None:
    loud = make(LONG, np.clip(digital_signal(LONG).astype(int) * 9, -32768, 32767).astype(np.int16))
    assert reason_of(shifted(loud, 256 * 20 + 15 * 7600 + 1000, change)) == "data.misaligned"


@pytest.mark.parametrize("value", [b"199", b"201", b"300"])
def test_a_wrong_number_of_samples_of_one_signal_is_noticed_at_the_seams(value: bytes) -> None:
    assert reason_of(patched(SOUND, signal_field(19, "samples", 3), value, 8)) == "data.misaligned"


def test_a_shift_by_whole_signals_shows_only_in_the_size_and_that_is_flagged() -> None:
    edf = EdfFile.from_bytes(patched(SOUND, signal_field(19, "samples", 3), b"400", 8), "x.edf")
    assert edf.flags == ("records.fewer_than_header",)


def test_the_real_file_that_a_text_mode_transfer_damaged_is_refused(real_eeg: Path) -> None:
    path = real_eeg / "broken" / "eegmmi_s001r01_crlf_damaged.edf"
    assert reason_of(path.read_bytes()) == "data.line_ends"
    with pytest.raises(EdfError):
        EdfFile.open(str(path))


HUM = ("iiic_LPD_sample1.edf", "iiic_LRDA_sample1.edf", "iiic_Other_sample1.edf")
"""Recordings whose signals are mostly one and the same mains hum: their seams look alike wherever they are."""


def test_shifts_in_real_recordings_are_noticed_and_their_sound_twins_are_not(real_eeg: Path) -> None:
    noticed, tried = 0, 0
    for path in sorted(real_eeg.glob("*.edf")):
        data = path.read_bytes()
        header = parse_header(data, path.name)
        if len(header.signals) < 15 or path.name in HUM:
            continue
        EdfFile.from_bytes(data, path.name)
        middle = header.header_bytes + len(data) // 2 // header.record_bytes * header.record_bytes + 222
        for change in (2, 16, 222, -2, -16, -222):
            tried += 1
            try:
                EdfFile.from_bytes(shifted(data, middle, change), path.name)
            except EdfError as error:
                noticed += error.reason in {"data.misaligned", "records.shifted"}
    assert (noticed, tried) == (60, 60)


def simulated(kind: str) -> npt.NDArray[np.int16]:
    rng = np.random.default_rng(5)
    n = 300 * 200
    t = np.arange(n) / 200
    white = rng.normal(size=(19, n))
    if kind == "white noise":
        eeg = 300 * white
    elif kind == "mains hum":
        eeg = 20 * white + rng.lognormal(0, 0.5, size=(19, 1)) * 2000 * np.sin(2 * np.pi * 50 * t + 1.1)
    elif kind == "equal signals":
        eeg = np.cumsum(white[:1], axis=1) * 5 + 3 * white
    elif kind == "flat":
        eeg = np.rint(0.3 * white)
    else:  # a click at every full second, in all signals
        eeg = 100 * white + 3000 * (np.arange(n) % 200 == 0)
    return np.clip(eeg, -32768, 32767).astype(np.int16)


@pytest.mark.parametrize("kind", ["white noise", "mains hum", "equal signals", "flat", "clicks"])
def test_odd_but_sound_signals_are_not_taken_for_shifted_ones(kind: str) -> None:
    spec = Spec(n_records=300)
    assert EdfFile.from_bytes(make(spec, simulated(kind)), "x.edf").runs_s == ((0.0, 300.0),)
