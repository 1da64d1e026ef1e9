"""The embedded corpus: deterministic, believable, and its labels are what was planted."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from scipy import signal

from cg_data.corpora.source import Source
from cg_data.corpora.synthetic import edf_bytes, write_corpus
from cg_data.corpora.synthetic.events import plant
from cg_data.corpora.synthetic.subject import Recorded, record
from cg_data.corpora.synthetic.traits import State, make_subject, make_timeline
from cg_data.edf.reader import EdfFile
from cg_data.recording import describe
from cg_data.records import Recording, Segment
from cg_data.segments import segments_of
from cg_data.settings import DataSettings, SyntheticSettings
from cg_data.vocabulary import CHANNEL_INDEX, CHANNELS, LabelKind, Split, Waveform

SUBJECTS = 20
SEED = 7
SETTINGS = DataSettings()


@pytest.fixture(scope="module")
def recorded() -> list[Recorded]:
    return [record(make_subject(number, SEED), 120) for number in range(SUBJECTS)]


@pytest.fixture(scope="module")
def read_back(recorded: list[Recorded]) -> list[tuple[Recording, list[Segment]]]:
    made = []
    for one in recorded:
        edf = EdfFile.from_bytes(edf_bytes(one), f"sub-{one.subject.number:04d}.edf")
        recording = describe(edf, source=Source(uri=""), corpus="synthetic", settings=SETTINGS)
        made.append((recording, list(segments_of(edf, recording))))
    return made


def test_the_same_settings_write_the_same_bytes(tmp_path: Path) -> None:
    settings = SyntheticSettings(subjects=3, minutes_per_subject=0.5, seed=3)
    first, second = (write_corpus(str(tmp_path / name), settings) for name in ("a", "b"))
    assert [Path(uri).read_bytes() for uri in first] == [Path(uri).read_bytes() for uri in second]
    other = write_corpus(str(tmp_path / "c"), settings.model_copy(update={"seed": 4}))
    assert Path(other[0]).read_bytes() != Path(first[0]).read_bytes()


def test_labels_read_back_are_the_planted_truth(recorded: list[Recorded], read_back: list[tuple[Recording, list[Segment]]]) -> None:
    for one, (recording, _) in zip(recorded, read_back, strict=True):
        planted = sorted((t.name.removeprefix("artefact:"), t.channel, round(t.onset_s, 3)) for t in one.truths)
        labels = [label for label in recording.labels if label.kind in (LabelKind.WAVEFORM, LabelKind.ARTEFACT)]
        assert sorted((label.name, label.channel, round(label.onset_s, 3)) for label in labels) == planted


def test_every_waveform_was_looked_for_everywhere(read_back: list[tuple[Recording, list[Segment]]]) -> None:
    for recording, _ in read_back:
        searched = [(x.name, x.channel, x.onset_s, x.duration_s) for x in recording.labels if x.kind == LabelKind.SEARCHED]
        assert sorted(searched) == sorted((waveform.value, "", 0.0, recording.duration_s) for waveform in Waveform)


def test_every_state_lasts_where_it_was_planted(recorded: list[Recorded], read_back: list[tuple[Recording, list[Segment]]]) -> None:
    for one, (recording, _) in zip(recorded, read_back, strict=True):
        stages = [label for label in recording.labels if label.kind == LabelKind.STAGE]
        assert [(s.onset_s, s.onset_s + s.duration_s) for s in stages] == [(start, stop) for start, stop, _ in one.timeline]


def test_subjects_never_cross_splits_and_every_split_has_some(read_back: list[tuple[Recording, list[Segment]]]) -> None:
    assert Counter(recording.split for recording, _ in read_back) == {Split.TRAIN: 14, Split.VALIDATION: 2, Split.TEST: 4}
    assert len({recording.subject for recording, _ in read_back}) == SUBJECTS


def test_opening_the_eyes_blocks_the_posterior_alpha(recorded: list[Recorded]) -> None:
    ratios = []
    for one in recorded:
        power = {state: alpha_power(one, state) for state in (State.EYES_CLOSED, State.EYES_OPEN)}
        if all(value is not None for value in power.values()):
            ratios.append(power[State.EYES_CLOSED] / power[State.EYES_OPEN])  # type: ignore[operator]
    assert len(ratios) >= 5
    assert np.median(ratios) > 4


def alpha_power(one: Recorded, state: State) -> float | None:
    """Power of O1 and O2 within 1 Hz of the subject's rhythm in a state."""
    rate = one.subject.sfreq_hz
    pieces = [one.eeg_uv[-2:, int(a * rate) : int(b * rate)] for a, b, s in one.timeline if s == state]
    if not pieces:
        return None
    frequencies, density = signal.welch(np.concatenate(pieces, axis=1), rate, nperseg=2 * rate)
    return float(density[:, np.abs(frequencies - one.subject.alpha_hz) <= 1].mean())


def test_blinks_are_positive_at_the_frontal_poles_and_absent_behind(recorded: list[Recorded]) -> None:
    events = [e for e in planted(recorded) if Waveform.POSITIVE_SHARP_TRANSIENT in e.waveform]
    assert events
    for event in events:
        assert event.wave_uv[CHANNEL_INDEX["Fp1"]].max() > 50
        assert np.abs(event.wave_uv[CHANNEL_INDEX["O1"]]).max() == 0


def test_lateral_eye_movements_are_opposite_at_the_two_sides(recorded: list[Recorded]) -> None:
    events = [e for e in planted(recorded) if Waveform.POSITIVE_SQUARE_WAVE in e.waveform]
    assert events
    for event in events:
        left, right = event.wave_uv[CHANNEL_INDEX["F7"]].sum(), event.wave_uv[CHANNEL_INDEX["F8"]].sum()
        assert left * right < 0
        positive = "F7" if left > 0 else "F8"
        assert event.waveform[CHANNEL_INDEX[positive]] == Waveform.POSITIVE_SQUARE_WAVE


def test_spindles_have_their_peak_between_11_and_16_hz(recorded: list[Recorded]) -> None:
    for one in recorded:
        for event in planted([one]):
            if Waveform.SLEEP_SPINDLE in event.waveform:
                wave = event.wave_uv[np.abs(event.wave_uv).max(axis=1).argmax()]
                spectrum = np.abs(np.fft.rfft(wave, 4096))
                assert 11 <= np.fft.rfftfreq(4096, 1 / one.subject.sfreq_hz)[spectrum.argmax()] <= 16


def test_generalised_discharges_reach_further_than_focal_ones(recorded: list[Recorded]) -> None:
    reach: dict[bool, list[int]] = {True: [], False: []}
    for one in recorded:
        if one.subject.syndrome is not None:
            for event in planted([one]):
                if {Waveform.SPIKE, Waveform.SHARP_WAVE, Waveform.SPIKE_AND_SLOW_WAVE} & set(event.waveform):
                    heights = np.abs(event.wave_uv).max(axis=1)
                    reach[not one.subject.syndrome.foci].append(int((heights > 0.3 * heights.max()).sum()))
    assert np.median(reach[True]) >= 12 > 8 >= np.median(reach[False])


def planted(recorded: list[Recorded]) -> list:  # type: ignore[type-arg]
    """Events of subjects' traits, drawn anew on a timeline of the same kind."""
    rng = np.random.default_rng(1)
    return [event for one in recorded for event in plant(one.subject, make_timeline(120, rng), rng)]


def test_every_waveform_is_frequent_enough_to_be_learnt(read_back: list[tuple[Recording, list[Segment]]]) -> None:
    segments = [segment for _, of_one in read_back for segment in of_one]
    pages = Counter(name for segment in segments for name in {label.name for label in segment.labels if label.kind == LabelKind.WAVEFORM})
    for waveform in Waveform:
        assert pages[waveform] >= 0.04 * len(segments), waveform
    empty = sum(not any(label.kind == LabelKind.WAVEFORM for label in segment.labels) for segment in segments)
    assert 0.1 <= empty / len(segments) <= 0.45


def test_labels_lie_on_electrodes_and_inside_the_page(read_back: list[tuple[Recording, list[Segment]]]) -> None:
    for _, segments in read_back:
        for segment in segments:
            for label in segment.labels:
                assert label.channel in ("", *CHANNELS)
                assert label.onset_s >= 0
                assert label.onset_s + label.duration_s <= 10 + 1e-6


def test_amplitudes_stay_within_what_scalp_eeg_shows(read_back: list[tuple[Recording, list[Segment]]]) -> None:
    spread = [segment.eeg_uv.std() for _, segments in read_back for segment in segments]
    assert 5 < np.median(spread) < 40
    assert max(np.abs(segment.eeg_uv).max() for _, segments in read_back for segment in segments) < 800
