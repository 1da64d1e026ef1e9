"""What the rules say of real recordings, measured by the analysers: all of it is borne out, and discharges are told as a reader would."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from cg_data.analyze.annotate import annotate
from cg_data.instruct.captions import caption
from cg_data.instruct.check import grounded_sample, turns_of
from cg_data.instruct.descriptions import description
from cg_data.instruct.facts import Facts, facts_of
from cg_data.instruct.samples import samples_of
from cg_data.records import Event, Segment
from cg_data.settings import InstructSettings
from cg_data.vocabulary import CHANNELS, Waveform
from tests.cg_data.planted_signals import real_pages
from tests.cg_data.test_analyze_dipoles import marked

SETTINGS = InstructSettings(binaries=9, opens=9, mcqs=2, complex_mcqs=2, descriptions=2, details=12)
RECORDINGS = ("eegmmi_s001r02_eyes_closed.edf", "iiic_GPD_sample1.edf", "iiic_LRDA_sample1.edf", "epviz_demo.edf", "microstates_rest.edf")
PER_RECORDING = 4
LATERALISED = marked([1.15, 2.2, 3.5, 4.72, 6.05, 7.3, 8.55, 9.7], ("C4", "P4", "T6"), Waveform.SHARP_WAVE, 0.2)
ICTAL = marked(
    [2.2, 2.5, 2.8, 3.1, 3.42, 3.75, 4.07],
    ("Fp1", "Fp2", "F3", "Fz", "F4", "C3", "Cz", "C4", "O1", "O2"),
    Waveform.SPIKE_AND_SLOW_WAVE,
    0.3,
)


def drawn_events(segment: Segment, seed: str) -> tuple[Event, ...]:
    """Events as a detector might give them, anywhere on the page: what is measured around them is real."""
    rng = random.Random(seed)
    there = [name for name, exists in zip(CHANNELS, segment.mask, strict=True) if exists]
    found = [
        event
        for waveform in rng.sample(list(Waveform), 3)
        for event in marked([rng.uniform(0.5, 9)], tuple(rng.sample(there, min(3, len(there)))), waveform, 0.3)
    ]
    return tuple(found)


@pytest.mark.parametrize("name", RECORDINGS)
def test_all_that_is_said_of_a_real_page_is_borne_out(real_eeg: Path, name: str) -> None:
    segments = real_pages(real_eeg / name)[:PER_RECORDING]
    said = 0
    for number, segment in enumerate(segments):
        for events in ((), drawn_events(segment, f"{name}{number}")):
            annotation = annotate(segment, events, detector_version="d")
            facts = facts_of(segment, annotation)
            for sample in samples_of(segment, annotation, settings=SETTINGS, prevalence={}):
                bad = [v.sentence for turn in turns_of(sample, facts) for v in turn.grounded.verdicts if not v.stands]
                assert bad == [], sample.messages
                assert grounded_sample(sample, facts) is sample
                said += 1
    assert said > 30 * len(segments)


def facts_at(path: Path, number: int, events: list[Event]) -> Facts:
    segment = real_pages(path)[number]
    return facts_of(segment, annotate(segment, tuple(events), detector_version="d"))


def test_lateralised_discharges_are_told_with_side_maximum_and_reversal(real_eeg: Path) -> None:
    facts = facts_at(real_eeg / "iiic_LPD_sample1.edf", 2, LATERALISED)
    text = caption(facts).text
    assert "Epileptiform discharges: right " in text
    at = text.split("maximum at ")[1].split(",")[0]
    assert at in {"P4", "T6"}
    assert f"phase reversal at {at}" in text
    assert "µV" in description(facts, random.Random(0)).text


def test_spikes_and_waves_of_a_seizure_are_told_with_their_rate(real_eeg: Path) -> None:
    text = caption(facts_at(real_eeg / "iiic_SZ_sample1.edf", 2, ICTAL)).text
    rate = float(text.split("generalised ")[1].split(" Hz spike-and-slow-wave complexes")[0])
    assert 2.9 < rate < 3.6
    assert "surface-negative" in text
