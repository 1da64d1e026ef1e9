"""The reader gives the samples of a sound file and refuses a damaged one with a reason."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from cg_data.edf.reader import EdfFile
from cg_data.errors import EdfError, StorageError
from tests.cg_data.edf_bytes import Spec, digital_signal, make, note, patched

SPEC = Spec()
PLUS = Spec(plus="EDF+C", notes=(note(3.5, 2, "Eyes closed"), note(1, 0, "Sleep stage W")))
SOUND = make(SPEC)
SOUND_PLUS = make(PLUS)


def reason_of(data: bytes) -> str:
    with pytest.raises(EdfError) as caught:
        EdfFile.from_bytes(data, "x.edf")
    assert str(caught.value).startswith("x.edf: ")
    return caught.value.reason


def test_samples_are_microvolts_to_the_digital_step() -> None:
    edf = EdfFile.from_bytes(SOUND, "x.edf")
    expected = digital_signal(SPEC)[:, 300:1900] * 0.1
    np.testing.assert_allclose(edf.read_uv(range(19), 1.5, 9.5), expected, atol=2e-4)
    assert edf.sha256 == hashlib.sha256(SOUND).hexdigest()
    assert edf.flags == ()


@pytest.mark.parametrize(("unit", "factor"), [(b"uV", 1), (b"\xb5V", 1), ("μV".encode(), 1), (b"mV", 1e3), (b"V", 1e6), (b"nV", 1e-3)])
def test_every_unit_of_voltage_becomes_microvolts(unit: bytes, factor: float) -> None:
    edf = EdfFile.from_bytes(make(Spec(unit=unit)), "x.edf")
    np.testing.assert_allclose(edf.read_uv([0], 0, 1)[0], digital_signal(SPEC)[0, :200] * 0.1 * factor, rtol=1e-5, atol=2e-4 * factor)


def test_a_decimal_comma_is_a_decimal_point() -> None:
    edf = EdfFile.from_bytes(make(Spec(physical=("-3276,8", "3276,7"))), "x.edf")
    np.testing.assert_array_equal(edf.read_uv([4], 0, 12), EdfFile.from_bytes(SOUND, "x.edf").read_uv([4], 0, 12))


def test_inverted_physical_range_inverts_the_signal() -> None:
    inverted = EdfFile.from_bytes(make(Spec(physical=("3276.7", "-3276.8"))), "x.edf")
    np.testing.assert_allclose(inverted.read_uv([0], 0, 2), -EdfFile.from_bytes(SOUND, "x.edf").read_uv([0], 0, 2) - 0.1, atol=1e-3)


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (Spec(unit=b"%"), "signal.unit"),
        (Spec(unit=b""), "signal.unit"),
        (Spec(digital=("32767", "-32768")), "signal.digital_range"),
        (Spec(digital=("5", "5")), "signal.digital_range"),
        (Spec(physical=("7", "7")), "signal.physical_range"),
        (Spec(physical=("nan", "7")), "signal.physical_range"),
    ],
)
def test_a_signal_without_a_scale_is_refused_when_it_is_read(spec: Spec, reason: str) -> None:
    edf = EdfFile.from_bytes(make(spec), "x.edf")
    with pytest.raises(EdfError) as caught:
        edf.read_uv([0], 0, 1)
    assert caught.value.reason == reason


# Offsets of the fixed header: 184 header bytes, 236 records, 244 duration, 252 signals; samples per record stand 216 bytes a signal in.
SAMPLES_AT = 256 + 216 * 19


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "file.empty"),
        (SOUND[:100], "file.header_cut"),
        (SOUND[:3000], "file.header_cut"),
        (SOUND[: 256 * 20], "data.none"),
        (b"\xffBIOSEMI" + SOUND[8:], "format.bdf"),
        (patched(SOUND, 192, b"24BIT", 44), "format.bdf"),
        (b"\x1f\x8b\x08" + bytes(500), "format.gzip"),
        (b"%PDF-1.4 and so on", "format.unknown"),
        (bytes(4096), "format.unknown"),
        (patched(SOUND, 184, b"5376", 8), "header.bytes"),
        (patched(SOUND, 184, b"0", 8), "header.bytes"),
        (patched(SOUND, 252, b"9999", 4), "header.n_signals"),
        (patched(SOUND, 252, b"0", 4), "header.n_signals"),
        (patched(SOUND, 252, b"-5", 4), "header.n_signals"),
        (patched(SOUND, 236, b"abc", 8), "header.n_records"),
        (patched(SOUND, 236, b"-7", 8), "header.n_records"),
        (patched(SOUND, 244, b"0", 8), "header.record_duration"),
        (patched(SOUND, 244, b"nan", 8), "header.record_duration"),
        (patched(SOUND, 244, b"1e-9", 8), "header.record_duration"),
        (patched(SOUND, SAMPLES_AT, b"0", 8), "header.samples_per_record"),
        (patched(SOUND, SAMPLES_AT, b"-256", 8), "header.samples_per_record"),
        (patched(SOUND, SAMPLES_AT, b"99999999", 8), "header.samples_per_record"),
        (SOUND.replace(b"\n", b"\r\n"), "data.line_ends"),
        (SOUND.replace(b"\n", b"\r\n")[: len(SOUND)], "data.line_ends"),
    ],
)
def test_a_damaged_file_is_refused_with_its_reason(data: bytes, reason: str) -> None:
    assert reason_of(data) == reason


@pytest.mark.parametrize(
    ("data", "records", "flag"),
    [
        (SOUND[: 256 * 20 + 7600 * 5 + 99], 5, "records.fewer_than_header"),
        (patched(SOUND, 236, b"-1", 8), 12, "records.unclosed"),
        (patched(SOUND, 236, b"10000000", 8), 12, "records.fewer_than_header"),
        (SOUND + bytes(777), 12, "data.trailing_bytes"),
    ],
)
def test_what_is_accepted_with_a_note_is_flagged(data: bytes, records: int, flag: str) -> None:
    edf = EdfFile.from_bytes(data, "x.edf")
    assert edf.flags == (flag,)
    assert edf.runs_s == ((0.0, float(records)),)
    np.testing.assert_array_equal(edf.read_uv(range(19), 0, records), EdfFile.from_bytes(SOUND, "x.edf").read_uv(range(19), 0, records))


def test_annotations_count_from_the_first_record() -> None:
    starts = [0.25 + k for k in range(12)]
    spec = Spec(plus="EDF+C", starts_s=starts, notes=PLUS.notes)
    notes = EdfFile.from_bytes(make(spec), "x.edf").annotations
    assert [(n.onset_s, n.duration_s, n.text) for n in notes] == [(0.75, 0.0, "Sleep stage W"), (3.25, 2.0, "Eyes closed")]


def test_unreadable_notes_cost_the_notes_and_not_the_signal() -> None:
    damaged = SOUND_PLUS.replace(note(3.5, 2, "Eyes closed"), b"\x01" * len(note(3.5, 2, "Eyes closed")))
    edf = EdfFile.from_bytes(damaged, "x.edf")
    assert edf.flags == ("annotations.unreadable",)
    assert edf.annotations == ()
    np.testing.assert_array_equal(edf.read_uv([7], 0, 12), EdfFile.from_bytes(SOUND_PLUS, "x.edf").read_uv([7], 0, 12))


@pytest.mark.parametrize("plus", ["EDF+D", "EDF+C"])
def test_a_gap_splits_the_recording_into_runs(plus: str) -> None:
    starts = [float(k if k < 5 else k + 100) for k in range(12)]
    edf = EdfFile.from_bytes(make(Spec(plus=plus, starts_s=starts)), "x.edf")
    assert edf.runs_s == ((0.0, 5.0), (105.0, 112.0))
    assert edf.flags == (() if plus == "EDF+D" else ("records.gap_in_edf_plus_c",))
    np.testing.assert_allclose(edf.read_uv([2], 106, 108)[0], digital_signal(SPEC)[2, 1200:1600] * 0.1, atol=2e-4)
    with pytest.raises(ValueError, match="not within one contiguous run"):
        edf.read_uv([2], 4, 106)


def test_records_that_go_back_in_time_are_refused() -> None:
    starts = [0.0, 1.0, 2.0, 1.5, *range(4, 12)]
    assert reason_of(make(Spec(plus="EDF+C", starts_s=starts))) == "records.not_increasing"


def test_a_discontinuous_file_without_record_times_is_refused() -> None:
    assert reason_of(make(Spec(plus="EDF+D")).replace(b"+7\x14\x14", b"????")) == "records.start_unreadable"


@pytest.mark.parametrize("change", [1, 2, -1, -38])
def test_bytes_lost_or_added_inside_an_edf_plus_file_are_noticed(change: int) -> None:
    middle = 256 * 21 + 5 * 7720 + 1000
    shifted = SOUND_PLUS[:middle] + bytes(max(change, 0)) + SOUND_PLUS[middle + max(-change, 0) :]
    assert reason_of(shifted) == "records.shifted"


def test_a_path_and_its_bytes_read_alike(tmp_path: Path) -> None:
    path = tmp_path / "a b.edf"
    path.write_bytes(SOUND_PLUS)
    for uri in (str(path), path.as_uri()):
        edf = EdfFile.open(uri)
        assert edf.name == "a b.edf"
        np.testing.assert_array_equal(edf.read_uv([0, 18], 2, 7), EdfFile.from_bytes(SOUND_PLUS, "b").read_uv([0, 18], 2, 7))


def test_an_absent_or_empty_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"gone\.edf: cannot be read"):
        EdfFile.open(str(tmp_path / "gone.edf"))
    (tmp_path / "empty.edf").touch()
    with pytest.raises(EdfError) as caught:
        EdfFile.open(str(tmp_path / "empty.edf"))
    assert caught.value.reason == "file.empty"


def test_real_recordings_read_as_pyedflib_reads_them(real_eeg: Path) -> None:
    pyedflib = pytest.importorskip("pyedflib")
    compared = 0
    for path in sorted(real_eeg.glob("*.edf")):
        edf = EdfFile.open(str(path))
        with pyedflib.EdfReader(str(path)) as oracle:
            # pyedflib leaves the annotation signals out of its numbering.
            signals = [i for i, s in enumerate(edf.header.signals) if not s.is_annotations]
            for theirs, ours in enumerate(signals):
                if edf.header.signals[ours].unit.lower() == "uv":
                    expected = oracle.readSignal(theirs)
                    scale = max(1.0, float(np.abs(expected).max()))
                    np.testing.assert_allclose(edf.read_uv([ours], *edf.runs_s[0])[0], expected, atol=2e-7 * scale)
                    compared += 1
    assert compared > 300


def test_the_real_file_that_a_text_mode_transfer_damaged_is_refused(real_eeg: Path) -> None:
    path = real_eeg / "broken" / "eegmmi_s001r01_crlf_damaged.edf"
    assert reason_of(path.read_bytes()) == "data.line_ends"
    with pytest.raises(EdfError):
        EdfFile.open(str(path))
