"""The posterior dominant rhythm and its reactivity: planted rhythms of known frequency, side and height, and real ones."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from cg_data.analyze.annotate import annotate
from cg_data.analyze.posterior import REACTIVE_RATIO, recording_reactivity
from cg_data.records import Label, PosteriorRhythm
from cg_data.rows import ANNOTATION_SCHEMA, annotation_from_row, table_of
from cg_data.vocabulary import Eyes, LabelKind
from tests.cg_data.planted_signals import Course, Uv, band_noise, labelled, planted, real_pages
from tests.signals_small import TIME_S, pink_uv, segment_of

BACK = {"O1": 1.0, "O2": 1.0, "P3": 0.7, "P4": 0.7, "Pz": 0.7, "T5": 0.4, "T6": 0.4}
WAKE = (labelled(LabelKind.STAGE, "wake"),)


def rhythm(hz: float, height_uv: float = 30.0, seed: int = 1) -> Course:
    """A narrow-band rhythm: its phase wanders."""
    phase = np.cumsum(np.random.default_rng(seed).normal(size=2000)) * 0.03
    return height_uv * np.sin(2 * np.pi * hz * TIME_S + phase)


def posterior(eeg_uv: Uv, labels: tuple[Label, ...] = ()) -> PosteriorRhythm | None:
    return annotate(segment_of(eeg_uv, labels=labels), (), detector_version="d1").posterior


@pytest.mark.parametrize("hz", [8.4, 9.3, 10.6, 12.2])
def test_a_rhythm_at_the_back_has_its_frequency_on_both_sides_and_its_height(hz: float) -> None:
    found = posterior(planted(pink_uv(rms_uv=4.0), (BACK, rhythm(hz))))
    assert found is not None
    assert (found.frequency_hz, found.left_hz, found.right_hz) == (pytest.approx(hz, abs=0.3),) * 3
    assert found.symmetric is True
    assert found.amplitude_uv == pytest.approx(0.7 * 30, rel=0.35)
    assert found.reactivity is None


def test_sides_more_than_a_hertz_apart_are_asymmetric() -> None:
    left, right = {"O1": 1.0, "P3": 0.8}, {"O2": 1.0, "P4": 0.8}
    found = posterior(planted(pink_uv(rms_uv=4.0), (left, rhythm(9.0)), (right, rhythm(11.5, seed=2))))
    assert found is not None
    assert (found.left_hz, found.right_hz) == (pytest.approx(9.0, abs=0.3), pytest.approx(11.5, abs=0.3))
    assert found.symmetric is False


def test_a_side_without_the_rhythm_has_none_and_symmetry_is_unknown() -> None:
    found = posterior(planted(pink_uv(rms_uv=4.0), ({"O1": 1.0, "P3": 0.8, "Pz": 0.5}, rhythm(10.0))))
    assert found is not None
    assert found.left_uv is not None
    assert found.right_uv is not None
    assert found.left_uv > 2 * found.right_uv
    assert found.symmetric is None or found.right_hz is not None


def test_a_rhythm_below_eight_hertz_is_taken_for_one_only_where_a_label_says_awake() -> None:
    eeg_uv = planted(pink_uv(rms_uv=4.0), (BACK, rhythm(6.8)))
    assert posterior(eeg_uv) is None
    found = posterior(eeg_uv, WAKE)
    assert found is not None
    assert found.frequency_hz == pytest.approx(6.8, abs=0.3)


@pytest.mark.parametrize("stage", ["n1", "n2", "n3", "rem"])
def test_sleep_has_no_posterior_dominant_rhythm(stage: str) -> None:
    assert posterior(planted(pink_uv(rms_uv=4.0), (BACK, rhythm(10.0))), (labelled(LabelKind.STAGE, stage),)) is None


@pytest.mark.parametrize("seed", range(6))
def test_noise_and_beta_and_frontal_rhythms_have_none(seed: int) -> None:
    front = {"Fp1": 1.0, "Fp2": 1.0, "F3": 0.8, "F4": 0.8, "Fz": 0.8}
    assert posterior(pink_uv(seed)) is None
    assert posterior(planted(pink_uv(seed, rms_uv=4.0), (BACK, band_noise(16, 25, 10.0, seed)))) is None
    assert posterior(planted(pink_uv(seed, rms_uv=4.0), (front, rhythm(10.0)))) is None


def eyes(*parts: tuple[Eyes, float, float]) -> tuple[Label, ...]:
    return tuple(labelled(LabelKind.EYES, name, onset_s, duration_s) for name, onset_s, duration_s in parts)


def test_a_page_on_which_the_eyes_open_shows_the_loss_of_alpha_power() -> None:
    course = np.where(TIME_S < 5, 1.0, 0.5) * rhythm(10.0)
    labels = eyes((Eyes.CLOSED, 0.0, 5.0), (Eyes.OPEN, 5.0, 5.0))
    found = posterior(planted(pink_uv(rms_uv=2.0), (BACK, course)), labels)
    assert found is not None
    assert found.reactivity == pytest.approx(4.0, rel=0.15)  # half of the amplitude is a quarter of the power
    assert found.reactivity >= REACTIVE_RATIO


def test_a_rhythm_that_stays_is_not_reactive_and_a_short_stretch_says_nothing() -> None:
    eeg_uv = planted(pink_uv(rms_uv=2.0), (BACK, rhythm(10.0)))
    steady = posterior(eeg_uv, eyes((Eyes.CLOSED, 0.0, 5.0), (Eyes.OPEN, 5.0, 5.0)))
    short = posterior(eeg_uv, eyes((Eyes.CLOSED, 0.0, 8.5), (Eyes.OPEN, 8.5, 1.5)))
    assert steady is not None
    assert short is not None
    assert steady.reactivity == pytest.approx(1.0, abs=0.25)
    assert short.reactivity is None


def test_a_rhythm_survives_parquet() -> None:
    annotation = annotate(segment_of(planted(pink_uv(rms_uv=4.0), (BACK, rhythm(10.0)))), (), detector_version="d1")
    (row,) = table_of([annotation], ANNOTATION_SCHEMA).to_pylist()
    assert annotation_from_row(row).posterior == annotation.posterior is not None


def test_a_real_rhythm_is_reactive_over_its_recordings(real_eeg: Path) -> None:
    annotations = []
    for state, name in ((Eyes.CLOSED, "eegmmi_s001r02_eyes_closed.edf"), (Eyes.OPEN, "eegmmi_s001r01_eyes_open.edf")):
        for page in real_pages(real_eeg / name):
            page = dataclasses.replace(page, labels=eyes((state, 0.0, 10.0)))
            annotations.append(annotate(page, (), detector_version="d1"))
    ratio = recording_reactivity(annotations)
    assert ratio is not None
    assert ratio > REACTIVE_RATIO
    assert recording_reactivity(a for a in annotations if a.eyes == Eyes.CLOSED) is None
