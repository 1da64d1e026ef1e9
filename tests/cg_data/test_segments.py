"""Segments are whole, aligned, reproducible and within one run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cg_data.corpora.source import Source
from cg_data.edf.reader import EdfFile
from cg_data.recording import describe
from cg_data.records import SEGMENT_SCHEMA, Segment, table_of
from cg_data.segments import count_segments, segments_of, to_average
from cg_data.settings import DataSettings
from cg_data.vocabulary import CHANNEL_INDEX, LabelKind
from tests.cg_data.edf_bytes import Spec, digital_signal, make, note

SETTINGS = DataSettings()


def segmented(data: bytes, start: int = 0, stop: int | None = None, settings: DataSettings = SETTINGS) -> list[Segment]:
    edf = EdfFile.from_bytes(data, "x.edf")
    recording = describe(edf, source=Source(uri="x.edf"), corpus="edf", settings=settings)
    segments = list(segments_of(edf, recording, settings=settings, start=start, stop=stop))
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
