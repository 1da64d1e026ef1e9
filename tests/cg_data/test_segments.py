"""Segments are whole, aligned, reproducible and within one run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import pytest

from cg_data.corpora.source import Source
from cg_data.edf.reader import EdfFile
from cg_data.electrodes import parse_derivation
from cg_data.recording import describe
from cg_data.records import Label, Segment
from cg_data.rows import SEGMENT_SCHEMA, table_of
from cg_data.segments import count_segments, labels_of_windows, segments_of, to_average
from cg_data.settings import DataSettings
from cg_data.signal import clean
from cg_data.signal_file import SignalFile
from cg_data.vocabulary import CHANNEL_INDEX, CHANNELS, LabelKind, Montage
from tests.cg_data.edf_bytes import Spec, digital_signal, make, note
from tests.cg_data.test_electrodes import CHB_MIT

SETTINGS = DataSettings()


def segmented(data: bytes, start: int = 0, stop: int | None = None, settings: DataSettings = SETTINGS) -> list[Segment]:
    edf = EdfFile.from_bytes(data, "x.edf")
    recording = describe(edf, source=Source(uri="x.edf"), corpus="edf", settings=settings)
    segments = list(segments_of(edf, recording, start=start, stop=stop))
    if stop is None and start == 0:
        assert len(segments) == count_segments(recording)
    return segments


def test_segments_are_ten_seconds_of_nineteen_channels_against_their_average() -> None:
    segments = segmented(make(Spec(n_records=35, sfreq_hz=256)))
    assert [s.start_s for s in segments] == [0.0, 10.0, 20.0]
    for segment in segments:
        assert segment.eeg_steps.shape == (19, 2000)
        assert segment.eeg_steps.dtype == np.int16
        assert segment.mask.all()
        assert segment.montage == "average"
        assert np.abs(segment.eeg_uv.mean(axis=0)).max() < 0.1
    assert table_of(segments, SEGMENT_SCHEMA).num_rows == 3


@pytest.mark.parametrize(("start", "stop"), [(0, 1), (3, 9), (5, 7), (6, 12), (13, 15), (15, 99), (4, 4)])
def test_a_part_equals_the_same_part_of_the_whole(start: int, stop: int) -> None:
    starts = [float(k if k < 95 else k + 1000.5) for k in range(170)]
    data = make(Spec(plus="EDF+D", starts_s=starts, n_records=170, sfreq_hz=160))
    whole, part = segmented(data), segmented(data, start, stop)
    assert [s.segment_id for s in part] == [s.segment_id for s in whole[start:stop]]
    for one, other in zip(part, whole[start:stop], strict=True):
        np.testing.assert_array_equal(one.eeg_steps, other.eeg_steps)


def test_a_segment_never_crosses_a_gap() -> None:
    starts = [float(k if k < 25 else k + 3.25) for k in range(50)]
    segments = segmented(make(Spec(plus="EDF+D", starts_s=starts, n_records=50)))
    assert [s.start_s for s in segments] == [0.0, 10.0, 28.25, 38.25]


def test_the_signal_behind_a_gap_does_not_touch_the_one_before_it() -> None:
    spec = Spec(plus="EDF+D", starts_s=[float(k if k < 20 else k + 7) for k in range(40)], n_records=40)
    digital = digital_signal(spec)
    louder = digital.copy()
    louder[:, 4000:] *= 4
    for one, other in zip(segmented(make(spec, digital))[:2], segmented(make(spec, louder))[:2], strict=True):
        np.testing.assert_array_equal(one.eeg_steps, other.eeg_steps)


def test_labels_are_clipped_to_their_segment() -> None:
    notes = [note(8, 5, "Eyes closed"), note(19.9, 0.5, "spike@@EEG C3-REF"), note(20, 3, "seizure")]
    segments = segmented(make(Spec(plus="EDF+C", notes=notes, n_records=30)))
    found = [[(x.kind, round(x.onset_s, 3), round(x.duration_s, 3), x.channel) for x in s.labels] for s in segments]
    assert found == [
        [(LabelKind.EYES, 8.0, 2.0, "")],
        [(LabelKind.EYES, 0.0, 3.0, ""), (LabelKind.WAVEFORM, 9.9, 0.1, "C3")],
        [(LabelKind.WAVEFORM, 0.0, 0.4, "C3"), (LabelKind.SEIZURE, 0.0, 3.0, "")],
    ]


def test_a_flat_electrode_stays_flat_beside_the_average() -> None:
    spec = Spec(n_records=20)
    digital = digital_signal(spec)
    t3 = CHANNEL_INDEX["T3"]
    digital[t3, 1000:1800] = 7
    segment = segmented(make(spec, digital))[0]
    assert segment.eeg_uv[t3, 1300:1500].std() < 1.0
    assert segment.eeg_uv[t3, :900].std() > 5.0


def test_one_wild_electrode_does_not_spread_over_the_others() -> None:
    rng = np.random.default_rng(1)
    eeg_uv = rng.normal(size=(19, 2000)).astype(np.float32) * 20
    wild = eeg_uv.copy()
    wild[4] += 1500 * np.sin(np.arange(2000) / 30).astype(np.float32)
    flat = np.zeros((19, 10), dtype=np.bool_)
    others = np.arange(19) != 4
    assert np.abs(to_average(wild, flat)[others] - to_average(eeg_uv, flat)[others]).max() < 10


def test_rows_of_missing_electrodes_are_zero_and_masked() -> None:
    labels = [name for name in CHANNELS if name not in ("T3", "Pz")]
    segment = segmented(make(Spec(labels=labels)))[0]
    assert [name for name, there in zip(CHANNELS, segment.mask, strict=True) if not there] == ["T3", "Pz"]
    assert not segment.eeg_steps[~segment.mask].any()
    assert (segment.eeg_uv[segment.mask].std(axis=1) > 5).all()
    assert np.abs(segment.eeg_uv[segment.mask].mean(axis=0)).max() < 0.1


def test_a_few_electrodes_are_stored_against_their_own_reference() -> None:
    spec = Spec(labels=["C3", "C4", "O1", "O2"], n_records=20)
    few, settings = segmented(make(spec)), DataSettings(montage=Montage.RECORDED)
    assert [segment.montage for segment in few] == ["recorded", "recorded"]
    rows = [CHANNEL_INDEX[name] for name in spec.labels]
    clean_uv = clean((digital_signal(spec) * np.float32(0.1)).astype(np.float32), 200.0, None)
    np.testing.assert_allclose(np.concatenate([s.eeg_uv[rows] for s in few], axis=1), clean_uv, atol=0.06)
    assert [s.segment_id for s in segmented(make(spec), settings=settings)] == [s.segment_id for s in few]


def test_bipolar_signals_give_the_segments_of_the_potentials_behind_them() -> None:
    """The derivations of CHB-MIT against the same electrodes recorded against a common reference."""
    names = [*(name for name in CHANNELS if name not in ("Fz", "Cz", "Pz")), "FT9", "FT10"]
    whole = Spec(labels=names, n_records=30)
    steps = digital_signal(whole) // 4
    pairs = [pair for label in CHB_MIT[:16] + CHB_MIT[18:] if (pair := parse_derivation(label)) is not None]
    differences = np.stack([steps[names.index(plus)] - steps[names.index(minus)] for plus, minus in pairs]).astype(np.int16)
    bipolar = Spec(labels=[f"{plus}-{minus}" for plus, minus in pairs], n_records=30)
    for one, other in zip(segmented(make(bipolar, differences)), segmented(make(whole, steps)), strict=True):
        assert one.flags == ("montage.from_bipolar", "montage.duplicate_channel")
        assert other.flags == ()
        np.testing.assert_array_equal(one.mask, other.mask)
        assert one.mask.sum() == 16
        assert np.abs(one.eeg_steps.astype(int) - other.eeg_steps).max() <= 1


def test_linked_ears_are_subtracted_where_they_were_recorded() -> None:
    spec = Spec(labels=[*CHANNELS, "A1", "A2"])
    segment = segmented(make(spec), settings=DataSettings(montage=Montage.LINKED_EARS))[0]
    as_recorded = clean((digital_signal(spec) * np.float32(0.1)).astype(np.float32), 200.0, None)[:, :2000]
    assert segment.montage == "linked_ears"
    np.testing.assert_allclose(segment.eeg_uv, as_recorded[:19] - as_recorded[19:].mean(axis=0), atol=0.06)


def test_an_ear_that_is_flat_is_flagged_where_it_is() -> None:
    spec = Spec(labels=[*CHANNELS, "A1", "A2"], n_records=30)
    digital = digital_signal(spec)
    digital[20, 2100:2400] = 5
    segments = segmented(make(spec, digital), settings=DataSettings(montage=Montage.LINKED_EARS))
    assert [segment.flags for segment in segments] == [(), ("montage.ear_flat",), ()]


def test_work_grows_with_the_windows_asked_for_and_not_with_the_recording() -> None:
    edf = EdfFile.from_bytes(make(Spec(n_records=3600)), "x.edf")
    recording = describe(edf, source=Source(uri="x.edf"), corpus="edf", settings=SETTINGS)
    spy = Spy(edf)
    assert len(list(segments_of(cast(SignalFile, spy), recording, start=200, stop=212))) == 12
    assert spy.read_s == 3 * 80  # three blocks with their context


class Spy:
    """Counts the seconds that are read; whatever else of the file is asked for is an error."""

    def __init__(self, file: EdfFile) -> None:
        self._file, self.read_s = file, 0.0

    def read_uv(self, signals: Sequence[int], start_s: float, stop_s: float) -> npt.NDArray[np.float32]:
        self.read_s += stop_s - start_s
        return self._file.read_uv(signals, start_s, stop_s)


def test_the_labels_of_windows_are_those_that_overlap_them() -> None:
    """Against a look at every label for every window."""
    rng = np.random.default_rng(2)
    onsets_s = np.concatenate([rng.uniform(0, 300, 200), 10.3 + 10 * np.arange(20)])
    durations_s = np.concatenate([rng.exponential(8, 200) * rng.integers(0, 2, 200), 10.0 * np.ones(20)])
    marks = [
        Label(kind=LabelKind.WAVEFORM, name="spike", onset_s=float(a), duration_s=float(d))
        for a, d in zip(onsets_s, durations_s, strict=True)
    ]
    slow = {}
    for window in range(4, 21):
        low, high = 10.3 + window * 10, 10.3 + window * 10 + 10
        inside = [m for m in marks if m.onset_s < high and (m.onset_s + m.duration_s > low or m.onset_s >= low)]
        slow |= {window: inside} if inside else {}
    assert labels_of_windows(marks, 10.3, range(4, 21)) == slow


def test_all_electrodes_flat_is_zero_and_no_error() -> None:
    segment = segmented(make(Spec(), np.zeros((19, 2400), np.int16)))[0]
    assert not segment.eeg_steps.any()


def test_a_sample_beyond_int16_is_saturated_and_flagged() -> None:
    spec = Spec(n_records=20, physical=("-32768", "32767"))
    digital = digital_signal(spec)
    digital[0, 500:520] = 20000
    first, second = segmented(make(spec, digital))
    assert first.flags == ("clipped",)
    assert first.eeg_steps.max() == 32767
    assert second.flags == ()


def test_the_notch_is_found_or_configured_and_recorded() -> None:
    spec = Spec(n_records=20)
    digital = digital_signal(spec) + np.rint(200 * np.sin(2 * np.pi * 50 * np.arange(4000) / 200) * np.arange(19)[:, None] / 19).astype(
        np.int16
    )
    auto, none = (segmented(make(spec, digital), settings=DataSettings(mains_hz=mains))[0] for mains in ("auto", "none"))
    assert auto.filter_version == f"{none.filter_version}+notch-50"
    assert auto.segment_id != none.segment_id
    assert np.abs(np.fft.rfft(auto.eeg_uv[18])[500]) < 0.05 * np.abs(np.fft.rfft(none.eeg_uv[18])[500])


def test_alpha_of_closed_eyes_is_posterior(real_eeg: Path) -> None:
    """An error of polarity, order of channels or rate would show here."""
    segments = segmented((real_eeg / "eegmmi_s001r02_eyes_closed.edf").read_bytes())
    power = np.mean([np.abs(np.fft.rfft(s.eeg_uv * np.hanning(2000), axis=1)) ** 2 for s in segments], axis=0)
    o1, hz = power[CHANNEL_INDEX["O1"]], np.fft.rfftfreq(2000, 1 / 200)
    assert 8 <= hz[(hz > 5) & (hz < 15)][o1[(hz > 5) & (hz < 15)].argmax()] <= 13
    alpha = power[:, (hz >= 8) & (hz < 13)].sum(axis=1)
    assert alpha[CHANNEL_INDEX["O1"]] > 2 * alpha[CHANNEL_INDEX["C3"]]
