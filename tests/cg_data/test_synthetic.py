"""The embedded corpus: deterministic, believable, and its labels are what was planted."""

from __future__ import annotations

import dataclasses
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from scipy import signal

from cg_data.corpora.source import Source
from cg_data.corpora.synthetic import edf_bytes, write_corpus
from cg_data.corpora.synthetic.background import make_background
from cg_data.corpora.synthetic.discharges import make_discharges
from cg_data.corpora.synthetic.events import plant
from cg_data.corpora.synthetic.hookup import shown_matrix
from cg_data.corpora.synthetic.planted import SEEN_SHARE, Planted
from cg_data.corpora.synthetic.subject import Recorded, record
from cg_data.corpora.synthetic.traits import State, Variant, make_subject, make_timeline
from cg_data.corpora.synthetic.variants import plant_variants
from cg_data.corpora.synthetic.visibility import SEEN_UV, Truth, backdrop_of, labels_of
from cg_data.edf.reader import EdfFile
from cg_data.recording import describe
from cg_data.records import Recording, Segment
from cg_data.segments import segments_of
from cg_data.settings import DataSettings, SyntheticSettings
from cg_data.vocabulary import CHANNEL_INDEX, CHANNELS, EPILEPTIFORM, LabelKind, Split, Waveform

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


@pytest.mark.parametrize("minutes", [0.01, 0.55, 1.51])
def test_a_length_that_is_no_whole_number_of_pages_is_refused(minutes: float) -> None:
    with pytest.raises(ValueError, match="no whole number of pages of 10 seconds"):
        SyntheticSettings(minutes_per_subject=minutes)


def test_labels_read_back_are_the_planted_truth(recorded: list[Recorded], read_back: list[tuple[Recording, list[Segment]]]) -> None:
    for one, (recording, _) in zip(recorded, read_back, strict=True):
        planted = sorted((t.name, t.channel, round(t.onset_s, 3)) for t in one.truths)
        prefix = {LabelKind.WAVEFORM: "", LabelKind.ARTEFACT: "artefact:", LabelKind.UNSURE: "unsure:"}
        labels = [label for label in recording.labels if label.kind in prefix]
        assert sorted((prefix[label.kind] + label.name, label.channel, round(label.onset_s, 3)) for label in labels) == planted


def test_near_the_threshold_of_being_marked_nobody_is_sure(recorded: list[Recorded]) -> None:
    names = Counter(t.name for one in recorded for t in one.truths)
    for waveform in Waveform:
        assert names[f"unsure:{waveform}"] <= 1.5 * names[waveform], waveform
    assert sum(names[f"unsure:{waveform}"] for waveform in Waveform) > 0.1 * sum(names[waveform] for waveform in Waveform)


def test_every_waveform_was_looked_for_everywhere(read_back: list[tuple[Recording, list[Segment]]]) -> None:
    for recording, _ in read_back:
        searched = [(x.name, x.channel, x.onset_s, x.duration_s) for x in recording.labels if x.kind == LabelKind.SEARCHED]
        assert sorted(searched) == sorted((waveform.value, "", 0.0, recording.duration_s) for waveform in Waveform)


def test_every_state_lasts_where_it_was_planted(recorded: list[Recorded], read_back: list[tuple[Recording, list[Segment]]]) -> None:
    for one, (recording, _) in zip(recorded, read_back, strict=True):
        stages = [label for label in recording.labels if label.kind == LabelKind.STAGE]
        assert [(s.onset_s, s.onset_s + s.duration_s) for s in stages] == [(start, stop) for start, stop, _ in one.timeline]


def test_subjects_never_cross_splits_and_every_split_has_some(read_back: list[tuple[Recording, list[Segment]]]) -> None:
    assert Counter(recording.split for recording, _ in read_back) == {Split.TRAIN: 12, Split.VALIDATION: 4, Split.TEST: 4}
    assert len({recording.subject for recording, _ in read_back}) == SUBJECTS


def test_opening_the_eyes_blocks_the_posterior_alpha(recorded: list[Recorded]) -> None:
    ratios = []
    for one in recorded:
        power = {state: alpha_power(one, state) for state in (State.EYES_CLOSED, State.EYES_OPEN)}
        if all(value is not None for value in power.values()):
            ratios.append(power[State.EYES_CLOSED] / power[State.EYES_OPEN])  # type: ignore[operator]
    assert len(ratios) >= 5
    assert np.median(ratios) > 4


def test_bursty_alpha_stops_again_and_again() -> None:
    subject = dataclasses.replace(make_subject(1, SEED), alpha_uv=60.0, background_uv=1.0, mu_uv=0.0, alpha_width_hz=0.1)
    weakest = {}
    for bursty in (False, True):
        one = dataclasses.replace(subject, alpha_is_bursty=bursty)
        eeg_uv = make_background(one, [(0.0, 120.0, State.EYES_CLOSED)], np.random.default_rng(0))[CHANNEL_INDEX["O1"]]
        band = signal.butter(4, [one.alpha_hz - 2, one.alpha_hz + 2], "bandpass", fs=one.sfreq_hz, output="sos")
        level_uv = np.abs(signal.hilbert(signal.sosfiltfilt(band, eeg_uv)))
        weakest[bursty] = np.quantile(level_uv, 0.25) / np.quantile(level_uv, 0.9)
    assert weakest[True] < 0.5 * weakest[False]


def alpha_power(one: Recorded, state: State) -> float | None:
    """Power of O1 and O2 within 1 Hz of the subject's rhythm in a state."""
    rate = one.subject.sfreq_hz
    pieces = [one.eeg_uv[-2:, int(a * rate) : int(b * rate)] for a, b, s in one.timeline if s == state]
    if not pieces:
        return None
    frequencies, density = signal.welch(np.concatenate(pieces, axis=1), rate, nperseg=2 * rate)
    return float(density[:, np.abs(frequencies - one.subject.alpha_hz) <= 1].mean())


def test_blinks_are_positive_at_the_frontal_poles_and_absent_behind(recorded: list[Recorded]) -> None:
    events = named(recorded, Waveform.POSITIVE_SHARP_TRANSIENT)
    assert len(events) > 50
    for _, event in events:
        height_uv = event.wave_uv[CHANNEL_INDEX["Fp1"]].max()
        assert height_uv > 20
        assert np.abs(event.wave_uv[CHANNEL_INDEX["O1"]]).max() == 0
        assert event.wave_uv[CHANNEL_INDEX["F3"]].max() < 0.4 * height_uv


def test_lateral_eye_movements_are_opposite_at_the_two_sides(recorded: list[Recorded]) -> None:
    marks = labelled(recorded, Waveform.POSITIVE_SQUARE_WAVE, Waveform.NEGATIVE_SQUARE_WAVE)
    assert len(marks) > 20
    for one, event, truths in marks:
        left = event.wave_uv[CHANNEL_INDEX["F7"]].sum()
        assert left * event.wave_uv[CHANNEL_INDEX["F8"]].sum() < 0
        if len(one.subject.electrodes) >= 12:
            for truth in truths:
                if truth.channel in ("F7", "F8"):
                    is_positive = (left > 0) == (truth.channel == "F7")
                    assert truth.name == (Waveform.POSITIVE_SQUARE_WAVE if is_positive else Waveform.NEGATIVE_SQUARE_WAVE)


def test_spindles_have_their_peak_between_10_and_16_hz(recorded: list[Recorded]) -> None:
    events = named(recorded, Waveform.SLEEP_SPINDLE)
    assert len(events) > 50
    for one, event in events:
        wave = np.diff(event.wave_uv[np.abs(event.wave_uv).max(axis=1).argmax()], 2)
        spectrum = np.abs(np.fft.rfft(wave, 4096))
        assert 10.3 <= np.fft.rfftfreq(4096, 1 / one.subject.sfreq_hz)[spectrum.argmax()] <= 16


def test_generalised_discharges_reach_further_than_focal_ones(recorded: list[Recorded]) -> None:
    reach: dict[bool, list[int]] = {True: [], False: []}
    for one, event in named(recorded, *EPILEPTIFORM):
        assert one.subject.syndrome is not None
        heights = np.abs(event.wave_uv).max(axis=1)
        reach[not one.subject.syndrome.foci].append(int((heights > 0.3 * heights.max()).sum()))
    assert np.median(reach[True]) >= 12 > 8 >= np.median(reach[False])


def test_most_discharges_are_negative_at_their_maximum(recorded: list[Recorded]) -> None:
    events = named(recorded, *EPILEPTIFORM)
    negative = [event.wave_uv.min() < -event.wave_uv.max() for _, event in events]
    assert np.mean(negative) > 0.9


def test_marks_last_as_long_as_their_class_is_defined_to(recorded: list[Recorded]) -> None:
    lasting = {
        Waveform.SPIKE: (0.015, 0.07),
        Waveform.SHARP_WAVE: (0.07, 0.2),
        Waveform.SPIKE_AND_SLOW_WAVE: (0.14, 0.75),
        Waveform.K_COMPLEX: (0.5, 1.5),
        Waveform.SLEEP_SPINDLE: (0.4, 2.0),
        Waveform.POSITIVE_SHARP_TRANSIENT: (0.1, 0.6),
    }
    for waveform, (shortest_s, longest_s) in lasting.items():
        durations_s = [truth.duration_s for one in recorded for truth in one.truths if truth.name == waveform]
        assert len(durations_s) > 30, waveform
        assert shortest_s <= min(durations_s) <= max(durations_s) <= longest_s, waveform


def test_a_marked_discharge_stands_out_of_its_background(recorded: list[Recorded]) -> None:
    for one, event, truths in labelled(recorded, Waveform.SPIKE, Waveform.SHARP_WAVE):
        first, stop = event.core
        shown = shown_matrix(one.subject.reference, one.subject.electrodes) @ event.wave_uv[:, first:stop]
        heights = [np.abs(shown[CHANNEL_INDEX[truth.channel]]).max() for truth in truths]
        assert min(heights, default=SEEN_UV) >= 0.9 * SEEN_UV
        assert min(heights, default=1.0) >= 0.9 * SEEN_SHARE * max(heights, default=0.0)


def test_runs_of_generalised_complexes_keep_to_their_frequency_and_slow_down() -> None:
    subject = next(s for s in map(partial(make_subject, seed=SEED), range(200)) if s.syndrome is not None and s.syndrome.name == "absence")
    rng, rates_hz = np.random.default_rng(0), []
    for _ in range(100):
        events = make_discharges(subject, subject.syndrome, (0.0, 10.0), 30.0, rng)
        intervals_s = np.diff([event.start / subject.sfreq_hz for event in events])
        if len(events) >= 9 and intervals_s.max() < 0.6 and (np.diff(intervals_s) > -0.012).all():
            rates_hz.append((1 / intervals_s[0], 1 / intervals_s[-1]))
    assert len(rates_hz) > 10
    assert all(2.0 <= last <= first * 1.03 <= 4.3 for first, last in rates_hz)


def test_complexes_of_a_run_do_not_run_into_each_other(recorded: list[Recorded]) -> None:
    for one in recorded:
        ends: dict[str, float] = {}
        for truth in one.truths:
            if truth.name == Waveform.SPIKE_AND_SLOW_WAVE:
                assert truth.onset_s >= ends.get(truth.channel, 0.0) - 0.02
                ends[truth.channel] = truth.onset_s + truth.duration_s


def test_variants_have_no_name_and_every_one_is_planted() -> None:
    rng, seen = np.random.default_rng(3), Counter[str]()
    for number in range(60):
        subject = make_subject(number, SEED)
        assert all(event.waveform is None and event.mirrored is None for event in plant_variants(subject, make_timeline(60, rng), rng))
        seen.update(subject.variants)
    assert set(seen) == set(Variant)


def test_vertex_waves_are_too_short_for_k_complexes() -> None:
    subject = dataclasses.replace(make_subject(1, SEED), variants=frozenset({Variant.VERTEX_WAVES}))
    events = plant_variants(subject, [(0.0, 600.0, State.N2)], np.random.default_rng(0))
    assert len(events) > 20
    assert max(event.wave_uv.shape[1] for event in events) / subject.sfreq_hz < 0.5


def test_the_eye_muscles_spike_at_both_ends_of_a_gaze_and_nobody_marks_it() -> None:
    subject = dataclasses.replace(make_subject(1, SEED), variants=frozenset({Variant.SACCADIC_SPIKES}), syndrome=None)
    events = plant(subject, [(0.0, 600.0, State.EYES_OPEN)], np.random.default_rng(0))
    gazes = [event for event in events if event.waveform is Waveform.POSITIVE_SQUARE_WAVE]
    spikes = [event for event in events if event.waveform is None]
    assert len(gazes) > 20
    assert len(spikes) == 2 * len(gazes)
    assert max(event.wave_uv.shape[1] for event in spikes) / subject.sfreq_hz < 0.06
    assert {int(np.abs(event.wave_uv).max(axis=1).argmax()) for event in spikes} == {CHANNEL_INDEX["F7"], CHANNEL_INDEX["F8"]}


def test_jolts_swing_each_electrode_on_its_own() -> None:
    subject = dataclasses.replace(make_subject(1, SEED), variants=frozenset({Variant.JOLTS}))
    events = plant_variants(subject, [(0.0, 2000.0, State.EYES_OPEN)], np.random.default_rng(0))
    struck = [event.wave_uv[np.abs(event.wave_uv).max(axis=1) > 0] for event in events]
    assert {len(rows) for rows in struck} == {1, 2, 3, 4}
    alike = [abs(np.corrcoef(rows[:2])[0, 1]) for rows in struck if len(rows) > 1]
    assert np.mean(alike) < 0.5


def test_nothing_is_marked_on_an_electrode_that_is_not_recorded() -> None:
    subjects = [s for s in map(partial(make_subject, seed=SEED), range(120)) if len(s.electrodes) < len(CHANNELS)]
    assert len(subjects) > 6
    assert min(len(s.electrodes) for s in subjects) <= 4
    for subject in subjects[:5]:
        one = record(subject, 30)
        edf = EdfFile.from_bytes(edf_bytes(one), "a.edf")
        assert describe(edf, source=Source(uri=""), corpus="synthetic", settings=SETTINGS).electrodes == subject.electrodes
        assert {truth.channel for truth in one.truths} <= set(subject.electrodes)


def test_wide_awake_alpha_is_no_spindle_and_reaches_forwards_in_some() -> None:
    closed = [(0.0, 60.0, State.EYES_CLOSED)]
    anterior = []
    for number in range(20):
        subject, rng = make_subject(number, SEED), np.random.default_rng(number)
        assert not [event for event in plant(subject, closed, rng) if event.waveform is Waveform.SLEEP_SPINDLE]
        eeg_uv = make_background(subject, closed, rng)
        frequencies, density = signal.welch(eeg_uv, subject.sfreq_hz, nperseg=2 * subject.sfreq_hz)
        power = density[:, np.abs(frequencies - subject.alpha_hz) <= 1].mean(axis=1)
        anterior.append(power[CHANNEL_INDEX["Fz"]] / power[CHANNEL_INDEX["O1"]])
    assert max(anterior) > 0.2
    assert min(anterior) < 0.05


def named(recorded: list[Recorded], *waveforms: Waveform) -> list[tuple[Recorded, Planted]]:
    """Events of subjects' traits, drawn anew on a timeline of the same kind."""
    rng = np.random.default_rng(1)
    drawn = [(one, event) for one in recorded for event in plant(one.subject, make_timeline(120, rng), rng)]
    return [(one, event) for one, event in drawn if event.waveform in waveforms]


def labelled(recorded: list[Recorded], *waveforms: Waveform) -> list[tuple[Recorded, Planted, list[Truth]]]:
    """Events drawn anew with the marks of which a reader is sure that they get on a background of the subject's."""
    found = []
    for one in recorded[:10]:
        rng = np.random.default_rng(one.subject.number)
        timeline = make_timeline(60, rng)
        matrix = shown_matrix(one.subject.reference, one.subject.electrodes)
        backdrop = backdrop_of(make_background(one.subject, timeline, rng), matrix, one.subject.sfreq_hz)
        events = [event for event in plant(one.subject, timeline, rng) if event.waveform in waveforms]
        found += [(one, event, [t for t in labels_of(event, backdrop, backdrop) if not t.name.startswith("unsure:")]) for event in events]
    return found


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


def test_what_muscle_noise_covers_is_marked_by_nobody_who_is_sure() -> None:
    subject = next(s for s in map(partial(make_subject, seed=SEED), range(99)) if s.syndrome is not None and len(s.electrodes) == 19)
    rng = np.random.default_rng(0)
    timeline = [(0.0, 60.0, State.EYES_CLOSED)]
    background_uv = make_background(subject, timeline, rng)
    matrix = shown_matrix(subject.reference, subject.electrodes)
    quiet = backdrop_of(background_uv, matrix, subject.sfreq_hz)
    loud = backdrop_of(background_uv + rng.normal(0, 300, background_uv.shape), matrix, subject.sfreq_hz)
    events = [event for event in plant(subject, timeline, rng) if event.waveform in EPILEPTIFORM]
    seen = [truth.name for event in events for truth in labels_of(event, quiet, quiet)]
    covered = [truth.name for event in events for truth in labels_of(event, quiet, loud)]
    assert len(seen) == len(covered)
    assert sum(not name.startswith("unsure:") for name in seen) > 10
    assert all(name.startswith("unsure:") for name in covered)
