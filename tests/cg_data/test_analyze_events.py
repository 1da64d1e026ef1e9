"""Cleaning and grouping of events, and what an annotation takes from labels."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
import pytest

from cg_data.analyze.annotate import annotate, annotate_truth, has_finding, present_kinds
from cg_data.analyze.cleaning import (
    ARTEFACTS_OVER,
    COVERED_FRACTION,
    EDGE_REMNANT,
    INSIDE_ARTEFACT,
    INSIDE_LONGER_EVENT,
    ISOLATED,
    ISOLATED_KEPT_FROM,
    LONGER_OVER,
    MASKER_RATIO,
    MISSING_ELECTRODE,
    SUPPORT_S,
    SUPPORTED_BY,
    clean_events,
    drop_edge_remnants,
    group_events,
)
from cg_data.analyze.layout import NEIGHBOURS
from cg_data.records import Event, Label, Segment
from cg_data.rows import ANNOTATION_SCHEMA, annotation_from_row, table_of
from cg_data.vocabulary import CHANNEL_INDEX, CHANNELS, EPILEPTIFORM, EventSource, Eyes, FindingKind, LabelKind, Stage, Waveform
from tests.records_small import event
from tests.signals_small import segment_of

ALL = np.ones(19, dtype=np.bool_)


def segment(*labels: Label) -> Segment:
    eeg_uv = np.random.default_rng(0).normal(0, 10, (19, 2000)).astype(np.float32)
    return dataclasses.replace(segment_of(eeg_uv, labels=labels), start_s=20.0)


def rules(*events: Event) -> dict[str, str]:
    kept, removed = clean_events(events, ALL)
    assert len(kept) + len(removed) == len(events)
    return {r.event.event_id: r.rule for r in removed}


BLINKS = [event(Waveform.POSITIVE_SHARP_TRANSIENT, name, 3.0, 0.4) for name in ("Fp1", "Fp2")]


@pytest.mark.parametrize("waveform", [Waveform.POSITIVE_SQUARE_WAVE, Waveform.NEGATIVE_SQUARE_WAVE, Waveform.HIGH_FREQUENCY_NOISE])
def test_a_spike_inside_an_artefact_of_its_channel_is_removed_under_that_rule(waveform: Waveform) -> None:
    spike = event(Waveform.SPIKE, "F7", 2.2, 0.06)
    assert rules(spike, event(waveform, "F7", 2.0, 1.0)) == {spike.event_id: INSIDE_ARTEFACT}
    assert rules(spike, event(waveform, "F8", 2.0, 1.0)) == {}
    assert rules(spike, event(waveform, "F7", 2.24, 1.0)) == {}


def test_a_sharp_wave_inside_a_blink_goes_and_the_blink_stays() -> None:
    sharp = event(Waveform.SHARP_WAVE, "Fp1", 3.1, 0.1)
    assert rules(sharp, *BLINKS) == {sharp.event_id: INSIDE_ARTEFACT}


def test_a_faint_artefact_does_not_mask_a_certain_discharge() -> None:
    assert rules(event(Waveform.SPIKE, "F7", 2.2, 0.06), event(Waveform.HIGH_FREQUENCY_NOISE, "F7", 2.0, 1.0, 0.2)) == {}


def test_the_spike_of_a_complex_is_part_of_the_complex() -> None:
    spike, complex_ = event(Waveform.SPIKE, "F3", 4.0, 0.06), event(Waveform.SPIKE_AND_SLOW_WAVE, "F3", 4.0, 0.35)
    assert rules(spike, complex_) == {spike.event_id: INSIDE_LONGER_EVENT}


@pytest.mark.parametrize("waveform", [Waveform.SLEEP_SPINDLE, Waveform.K_COMPLEX, Waveform.POSITIVE_SHARP_TRANSIENT])
def test_a_doubtful_wide_field_event_on_one_channel_is_pruned_and_on_two_is_kept(waveform: Waveform) -> None:
    one, two = event(waveform, "C3", 5.0, 0.8, 0.5), event(waveform, "Cz", 5.1, 0.8, 0.5)
    assert rules(one) == {one.event_id: ISOLATED}
    assert rules(one, two) == {}
    assert rules(dataclasses.replace(one, probability=0.95)) == {}


def test_a_doubtful_lateral_eye_movement_needs_its_other_sign_on_the_other_side() -> None:
    left, right = event(Waveform.POSITIVE_SQUARE_WAVE, "F7", 5.0, 0.8, 0.5), event(Waveform.NEGATIVE_SQUARE_WAVE, "F8", 5.0, 0.8, 0.5)
    same = event(Waveform.POSITIVE_SQUARE_WAVE, "F8", 5.0, 0.8, 0.5)
    assert rules(left, right) == {}
    assert rules(left) == {left.event_id: ISOLATED}
    assert rules(left, same) == {left.event_id: ISOLATED, same.event_id: ISOLATED}
    assert rules(dataclasses.replace(left, probability=0.9)) == {}
    without = ALL.copy()
    without[CHANNEL_INDEX["F8"]] = False
    assert clean_events([left], without)[1] == ()


def test_a_doubtful_spike_needs_a_neighbour_at_the_same_time() -> None:
    spike = event(Waveform.SPIKE, "T3", 6.0, 0.05, 0.3)
    assert rules(spike) == {spike.event_id: ISOLATED}
    assert rules(spike, event(Waveform.SHARP_WAVE, "C3", 6.1, 0.1)) == {}
    assert rules(spike, event(Waveform.SHARP_WAVE, "C3", 7.0, 0.1)) == {spike.event_id: ISOLATED}
    assert rules(spike, event(Waveform.SHARP_WAVE, "T4", 6.0, 0.1)) == {spike.event_id: ISOLATED}


def test_a_spike_without_recorded_neighbours_cannot_be_called_isolated() -> None:
    only = np.zeros(19, dtype=np.bool_)
    only[[CHANNEL_INDEX["T3"], CHANNEL_INDEX["T4"]]] = True
    kept, _ = clean_events([event(Waveform.SPIKE, "T3", 6.0, 0.05, 0.3)], only)
    assert len(kept) == 1


def test_the_rest_of_an_event_at_the_page_edge_is_set_aside() -> None:
    rest = [event(Waveform.SLEEP_SPINDLE, name, 0.0, 0.1) for name in ("C3", "Cz")]
    whole = [event(Waveform.SLEEP_SPINDLE, name, 9.2, 0.8) for name in ("C3", "Cz")]
    assert rules(*rest, *whole) == {e.event_id: EDGE_REMNANT for e in rest}


def test_cleaning_does_not_depend_on_the_order_of_events() -> None:
    events = [*BLINKS, event(Waveform.SPIKE, "Fp1", 3.1, 0.05), event(Waveform.SPIKE, "T3", 6.0, 0.05, 0.3)]
    assert clean_events(events, ALL) == clean_events(events[::-1], ALL)


def test_groups_join_channels_and_both_polarities_and_name_the_channel_of_greatest_voltage() -> None:
    eeg_uv = np.zeros((19, 2000), dtype=np.float32)
    eeg_uv[CHANNEL_INDEX["Cz"], 450] = 80
    eeg_uv[CHANNEL_INDEX["C3"], 450] = 30
    events = [
        event(Waveform.SLEEP_SPINDLE, "C3", 2.0, 0.8),
        event(Waveform.SLEEP_SPINDLE, "Cz", 2.1, 0.8),
        event(Waveform.SLEEP_SPINDLE, "Cz", 7.0, 0.8),
        event(Waveform.POSITIVE_SQUARE_WAVE, "F7", 4.0, 1.0),
        event(Waveform.NEGATIVE_SQUARE_WAVE, "F8", 4.0, 1.0),
    ]
    first, eyes, last = group_events(events, eeg_uv)
    assert (first.channels, first.maximum) == (("C3", "Cz"), "Cz")
    assert first.duration_s == pytest.approx(0.9)
    assert (eyes.kind, eyes.channels) == (FindingKind.LATERAL_EYE_MOVEMENT, ("F7", "F8"))
    assert last.channels == ("Cz",)


def end_s(e: Event) -> float:
    return e.onset_s + e.duration_s


def near(a: Event, b: Event) -> bool:
    return a.onset_s <= end_s(b) + SUPPORT_S and b.onset_s <= end_s(a) + SUPPORT_S


def covers(longer: Event, e: Event) -> bool:
    overlap_s = min(end_s(longer), end_s(e)) - max(longer.onset_s, e.onset_s)
    likely = longer.probability >= MASKER_RATIO * e.probability
    return longer.channel == e.channel and longer.duration_s >= e.duration_s and overlap_s >= COVERED_FRACTION * e.duration_s and likely


def slow_isolated_wide(e: Event, events: list[Event], mask: npt.NDArray[np.bool_]) -> str | None:
    paired, other = e.waveform in SUPPORTED_BY, SUPPORTED_BY.get(e.waveform, e.waveform)
    if e.waveform in EPILEPTIFORM or e.probability >= ISOLATED_KEPT_FROM.get(e.waveform, 0.0) or mask.sum() < 2:
        return None
    if paired and not (mask[CHANNEL_INDEX["F7"]] and mask[CHANNEL_INDEX["F8"]]):
        return None
    return None if any(o.channel != e.channel and o.waveform == other and near(o, e) for o in events) else ISOLATED


def slow_covered(e: Event, events: list[Event], mask: npt.NDArray[np.bool_]) -> str | None:
    over = {o.waveform for o in events if o is not e and covers(o, e)}
    if over & ARTEFACTS_OVER.get(e.waveform, frozenset()):
        return INSIDE_ARTEFACT
    return INSIDE_LONGER_EVENT if over & LONGER_OVER.get(e.waveform, frozenset()) else None


def slow_isolated_discharge(e: Event, events: list[Event], mask: npt.NDArray[np.bool_]) -> str | None:
    if e.waveform not in EPILEPTIFORM or e.probability >= ISOLATED_KEPT_FROM[e.waveform]:
        return None
    beside = NEIGHBOURS[CHANNEL_INDEX[e.channel]] & mask
    supported = any(beside[CHANNEL_INDEX[o.channel]] and o.waveform in EPILEPTIFORM and near(o, e) for o in events)
    return ISOLATED if beside.any() and not supported else None


def slow_rules(events: list[Event], mask: npt.NDArray[np.bool_]) -> dict[str, str]:
    """Every event held against every other, in plain loops."""
    kept, removed = drop_edge_remnants(events)
    rules = {r.event.event_id: r.rule for r in removed}
    for step in (slow_isolated_wide, slow_covered, slow_isolated_discharge):
        found = {e.event_id: rule for e in kept if (rule := step(e, kept, mask)) is not None}
        kept = [e for e in kept if e.event_id not in found]
        rules |= found
    return rules


@pytest.mark.parametrize("seed", range(12))
def test_cleaning_by_arrays_equals_cleaning_by_loops(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random(19) < (1.0, 0.9, 0.5, 0.1)[seed % 4]
    names, many = [name for name in CHANNELS if mask[CHANNEL_INDEX[name]]] or ["Cz"], (40, 150, 400)[seed % 3]
    events = []
    for i in range(many):
        onset_s, duration_s = rng.integers(1, [198, 30]) * 0.05  # on a grid, so that events touch exactly and are equally long
        waveform, probability = Waveform(rng.choice(list(Waveform))), float(rng.choice([0.2, 0.4, 0.6, 0.8, 0.9]))
        made = event(waveform, str(rng.choice(names)), onset_s, duration_s, probability)
        events.append(dataclasses.replace(made, event_id=str(i)))
    kept, removed = clean_events(events, mask)
    expected = slow_rules(events, mask)
    assert {r.event.event_id: r.rule for r in removed} == expected
    assert {e.event_id for e in kept} == {e.event_id for e in events} - expected.keys()


def test_an_annotation_keeps_removed_events_with_their_rule_through_parquet() -> None:
    spike = event(Waveform.SPIKE, "Fp1", 3.1, 0.05)
    annotation = annotate(segment(), (spike, *BLINKS), detector_version="d1")
    assert [(r.event.event_id, r.rule) for r in annotation.removed] == [(spike.event_id, INSIDE_ARTEFACT)]
    assert not has_finding(annotation, FindingKind.SPIKE)
    (row,) = table_of([annotation], ANNOTATION_SCHEMA).to_pylist()
    again = annotation_from_row(row)
    assert again.removed[0].rule == INSIDE_ARTEFACT
    assert again.findings == annotation.findings


def test_events_become_one_finding_for_each_kind() -> None:
    events = (event(Waveform.SLEEP_SPINDLE, "C3", 2.0, 0.8, 0.6), event(Waveform.SLEEP_SPINDLE, "Cz", 2.1, 0.8, 0.7))
    (found,) = [f for f in annotate(segment(), events, detector_version="d1").findings if f.kind == FindingKind.SLEEP_SPINDLE]
    assert (found.channels, found.value, found.threshold, found.unit) == (("C3", "Cz"), 0.7, 0.0, "probability")
    assert (found.onset_s, found.duration_s) == (2.0, pytest.approx(0.9))


def mark(kind: LabelKind, name: str, onset_s: float, duration_s: float, channel: str = "") -> Label:
    return Label(kind=kind, name=name, onset_s=onset_s, duration_s=duration_s, channel=channel)


def test_the_state_is_the_one_that_covers_most_of_the_page() -> None:
    labels = (mark(LabelKind.STAGE, "wake", 0, 4), mark(LabelKind.STAGE, "n2", 4, 6), mark(LabelKind.EYES, "closed", 0, 4))
    annotation = annotate(segment(*labels), (), detector_version="d1")
    assert (annotation.stage, annotation.eyes, annotation.seizure) == (Stage.N2, Eyes.UNKNOWN, False)
    annotation = annotate(segment(mark(LabelKind.SEIZURE, "seizure", 2, 8)), (), detector_version="d1")
    assert (annotation.stage, annotation.seizure) == (Stage.UNKNOWN, True)


def test_the_truth_takes_marks_as_they_are() -> None:
    labels = (
        mark(LabelKind.WAVEFORM, "spike", 3.1, 0.06, "T3"),
        mark(LabelKind.WAVEFORM, "high_frequency_noise", 3.0, 2.0, "T3"),
        mark(LabelKind.WAVEFORM, "sleep_spindle", 0.0, 0.05, "Cz"),
        mark(LabelKind.ARTEFACT, "flat_channel", 0.0, 10.0, "O2"),
    )
    truth = annotate_truth(segment(*labels))
    assert {e.source for e in truth.events} == {EventSource.READER}
    assert {FindingKind.SPIKE, FindingKind.MUSCLE, FindingKind.FLAT_CHANNEL} <= present_kinds(truth)
    assert [r.rule for r in truth.removed] == [EDGE_REMNANT]
    assert truth == annotate_truth(segment(*labels))


def test_what_was_looked_for_is_neither_event_nor_finding() -> None:
    looked = tuple(mark(LabelKind.SEARCHED, waveform, 0.0, 10.0) for waveform in Waveform)
    spike = mark(LabelKind.WAVEFORM, "spike", 3.1, 0.06, "T3")
    assert annotate_truth(segment(spike, *looked)) == annotate_truth(segment(spike))
    assert annotate(segment(spike, *looked), (), detector_version="d1") == annotate(segment(spike), (), detector_version="d1")


def test_a_mark_on_a_missing_electrode_becomes_neither_event_nor_finding() -> None:
    mask = ALL.copy()
    mask[[CHANNEL_INDEX["T3"], CHANNEL_INDEX["O2"]]] = False
    labels = (
        mark(LabelKind.WAVEFORM, "spike", 3.1, 0.06, "T3"),
        mark(LabelKind.WAVEFORM, "sharp_wave", 5.1, 0.1, "C3"),
        mark(LabelKind.ARTEFACT, "electrode_pop", 2.0, 1.0, "O2"),
        mark(LabelKind.ARTEFACT, "muscle", 4.0, 1.0),
    )
    truth = annotate_truth(dataclasses.replace(segment(*labels), mask=mask))
    assert [(e.waveform, e.channel) for e in truth.events] == [(Waveform.SHARP_WAVE, "C3")]
    assert [(r.event.channel, r.rule) for r in truth.removed] == [("T3", MISSING_ELECTRODE)]
    assert present_kinds(truth).isdisjoint({FindingKind.SPIKE, FindingKind.ELECTRODE_POP})
    (muscle,) = [f for f in truth.findings if f.kind == FindingKind.MUSCLE]
    assert muscle.channels == tuple(name for name in CHANNELS if name not in {"T3", "O2"})
    shown = annotate_truth(segment(*labels))
    assert {e.channel for e in shown.events} == {"T3", "C3"}
    assert shown.removed == ()
