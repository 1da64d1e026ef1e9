"""What is known of a page: exact marks, coarse ones, and where what is not marked is absent; nothing that was not looked for."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cg_data.corpora import CORPORA, CorpusName
from cg_data.corpora.source import Source
from cg_data.corpora.synthetic import edf_bytes
from cg_data.corpora.synthetic.subject import record
from cg_data.corpora.synthetic.traits import make_subject
from cg_data.detect.boxes import marks_of_labels
from cg_data.detect.references import (
    WAVEFORMS_OF_LABEL,
    Region,
    agreed_marks,
    known_cells,
    known_events,
    references_of,
)
from cg_data.edf.reader import EdfFile
from cg_data.recording import describe
from cg_data.records import Label, Segment
from cg_data.segments import segments_of
from cg_data.settings import DataSettings
from cg_data.vocabulary import (
    CHANNEL_INDEX,
    CHANNELS,
    EPILEPTIFORM,
    LABEL_NAMES,
    N_CHANNELS,
    SEGMENT_SAMPLES,
    WAVEFORM_INDEX,
    WAVEFORMS,
    LabelKind,
    Waveform,
)
from tests.cg_data import corpus_trees as trees
from tests.records_small import event
from tests.signals_small import segment_of

MIN_BOX_S = 0.15
SPIKE, SPINDLE = WAVEFORM_INDEX[Waveform.SPIKE], WAVEFORM_INDEX[Waveform.SLEEP_SPINDLE]
EYES = {"positive_sharp_transient", "positive_square_wave", "negative_square_wave"}


def label(name: str, onset_s: float, duration_s: float, channel: str = "C3", kind: str = "waveform", reader: str = "") -> Label:
    return Label(kind=LabelKind(kind), name=name, onset_s=onset_s, duration_s=duration_s, channel=channel, reader=reader)


def searched(name: str, channel: str = "", onset_s: float = 0.0, duration_s: float = 10.0) -> Label:
    return label(name, onset_s, duration_s, channel, "searched")


def page(*labels: Label, missing: tuple[str, ...] = (), corpus: str = "folder") -> Segment:
    mask = np.array([name not in missing for name in CHANNELS])
    return dataclasses.replace(segment_of(np.zeros((N_CHANNELS, SEGMENT_SAMPLES), dtype=np.float32), mask, labels), corpus=corpus)


def pages_of(corpus: CorpusName, root: Path, name: str) -> list[Segment]:
    """Segments of one recording of a tree, with its labels."""
    source, labels = trees.read(corpus, root, name)
    file = EdfFile.open(source.uri)
    settings = DataSettings(mains_hz="none", min_electrodes=2)
    return list(segments_of(file, describe(file, source=source, corpus=corpus, settings=settings, labels=labels.labels)))


def told(region: Region) -> tuple[set[str], float, float, set[str]]:
    """Channels, start, stop and waveforms of a region."""
    channels = {CHANNELS[i] for i in np.flatnonzero(region.rows)}
    return channels, round(region.start_s, 3), round(region.stop_s, 3), {WAVEFORMS[i] for i in np.flatnonzero(region.waveforms)}


def is_known(segment: Segment, channel: str, at_s: float) -> set[str]:
    """Waveforms of which all is known at a place."""
    known = references_of(segment, min_box_s=MIN_BOX_S).known
    return {WAVEFORMS[i] for i in np.flatnonzero(known_cells(known, np.array([at_s]), np.array([CHANNEL_INDEX[channel]]))[0])}


# The table.


def test_the_table_has_every_pattern_artefact_and_code_and_nothing_else() -> None:
    kinds = (LabelKind.PATTERN, LabelKind.ARTEFACT, LabelKind.ARTEFACT_CODE)
    assert set(WAVEFORMS_OF_LABEL) == {(kind, name) for kind in kinds for name in LABEL_NAMES[kind]}


@pytest.mark.parametrize(
    ("kind", "name", "sets"),
    [
        ("pattern", "spsw", [EPILEPTIFORM]),
        ("pattern", "gped", [EPILEPTIFORM]),
        ("pattern", "slow", []),
        ("artefact", "blink", [{"positive_sharp_transient"}]),
        ("artefact", "electrode_pop", []),
        ("artefact", "flat_channel", []),
        ("artefact_code", "artf", []),
        ("artefact_code", "eyem", [EYES]),
        ("artefact_code", "eyem_musc", [EYES, {"high_frequency_noise"}]),
        ("artefact_code", "eyem_elec", [EYES]),
        ("artefact_code", "chew_shiv", [{"high_frequency_noise"}]),
    ],
)
def test_a_label_says_which_waveforms_it_may_be(kind: str, name: str, sets: list[set[str]]) -> None:
    assert list(WAVEFORMS_OF_LABEL[LabelKind(kind), name]) == sets


# Whole corpora.


def test_of_the_synthetic_corpus_all_is_known_but_where_nobody_is_sure_and_the_marks_are_its_truth() -> None:
    edf = EdfFile.from_bytes(edf_bytes(record(make_subject(4, 7), 60)), "sub-0004.edf")
    recording = describe(edf, source=Source(uri=""), corpus="synthetic", settings=DataSettings())
    segments = list(segments_of(edf, recording))
    n_marks = 0
    for segment in segments:
        references = references_of(segment, min_box_s=MIN_BOX_S)
        np.testing.assert_array_equal(references.marks, marks_of_labels(segment.labels, segment.mask, MIN_BOX_S))
        n_marks += len(references.marks)
        assert references.coarse == ()
        sure = dataclasses.replace(segment, labels=tuple(x for x in segment.labels if x.kind is not LabelKind.UNSURE))
        (known,) = map(told, references_of(sure, min_box_s=MIN_BOX_S).known)
        assert known == (set(CHANNELS), 0.0, 10.0, set(WAVEFORMS))
        for unsure in (x for x in segment.labels if x.kind is LabelKind.UNSURE):
            assert unsure.name not in is_known(segment, unsure.channel, unsure.onset_s + unsure.duration_s / 2)
    assert n_marks > 20


def test_of_dreams_one_waveform_on_one_channel_is_known_and_readers_who_agree_make_one_mark(tmp_path: Path) -> None:
    _, second, _, fourth, *_ = pages_of(CorpusName.DREAMS, trees.dreams(tmp_path) / "DatabaseSpindles", "excerpt1.edf")
    references = references_of(second, min_box_s=MIN_BOX_S)
    np.testing.assert_allclose(references.marks, [[SPINDLE, CHANNEL_INDEX["C3"], (0.24 + 0.3) / 2, (1.04 + 1.0) / 2]], atol=1e-9)
    assert references_of(fourth, min_box_s=MIN_BOX_S).marks[:, 2:].tolist() == [[0.5, 1.75]]  # one reader alone
    assert [told(region) for region in references.known] == [({"C3"}, 0.0, 10.0, {"sleep_spindle"})]
    assert references.coarse == ()


def test_of_tuev_marks_are_coarse_background_is_known_and_the_rest_is_unknown(tmp_path: Path) -> None:
    pages = pages_of(CorpusName.TUEV, trees.tuev(tmp_path), "aaaaaaar_00000001.edf")
    found = [references_of(segment, min_box_s=MIN_BOX_S) for segment in pages]
    assert [[told(region) for region in references.coarse] for references in found] == [
        [({"Fp1", "F7"}, 1.0, 2.0, set(EPILEPTIFORM))],
        [({"T4"}, 0.5, 1.5, set(EPILEPTIFORM))],
        [({"P4", "O2"}, 0.0, 1.0, set(EPILEPTIFORM))],
        [({"Fp1", "F3"}, 0.0, 1.0, EYES)],
        [],
        [],
    ]
    not_told_apart = {"sleep_spindle", "k_complex"}
    assert [[told(region) for region in references.known] for references in found] == [
        *[[]] * 4,
        [({"T3"}, 0.0, 1.0, set(WAVEFORMS) - not_told_apart)],
        [],
    ]
    assert all(len(references.marks) == 0 for references in found)


def test_of_tuar_a_pair_is_two_regions_and_an_electrode_is_none(tmp_path: Path) -> None:
    stem = tmp_path / "edf" / "01_tcp_ar" / "aaaaaaju_s005_t000"
    trees.put(stem.with_suffix(".edf"), trees.edf())
    rows = [("FP1-F7", 1, 2, "eyem_musc"), ("T3-C3", 3, 4, "elec"), ("C3-P3", 5, 8, "chew"), ("O1-O1", 5, 8, "chew")]
    trees.put(stem.with_suffix(".csv"), trees.csv_of(rows))
    references = references_of(pages_of(CorpusName.TUAR, tmp_path, "aaaaaaju_s005_t000.edf")[0], min_box_s=MIN_BOX_S)
    noise = {"high_frequency_noise"}
    assert [told(region) for region in references.coarse] == [
        ({"Fp1", "F7"}, 1.0, 2.0, EYES),
        ({"Fp1", "F7"}, 1.0, 2.0, noise),
        ({"C3", "P3"}, 5.0, 8.0, noise),
    ]
    assert references.known == ()


def test_background_of_a_seizure_corpus_does_not_say_that_there_is_no_spike() -> None:
    background = label("bckg", 0.0, 10.0, "Fp1-F7", "background")
    assert references_of(page(background, corpus="tusz"), min_box_s=MIN_BOX_S).known == ()
    assert len(references_of(page(background, corpus="tuev"), min_box_s=MIN_BOX_S).known) == 1


# Marks.


def test_marks_of_two_readers_are_one_from_half_overlap_on_and_never_across_waveforms_or_rows() -> None:
    one = [
        label("sleep_spindle", 1.0, 1.0, reader="1"),
        label("sleep_spindle", 5.0, 1.0, reader="1"),
        label("spike", 8.0, 0.05, reader="1"),
    ]
    two = [
        label("sleep_spindle", 1.2, 1.0, reader="2"),  # overlap 0.8 of 1.2
        label("sleep_spindle", 5.4, 1.0, reader="2"),  # 0.6 of 1.4
        label("k_complex", 1.0, 1.0, reader="2"),
        label("sleep_spindle", 1.0, 1.0, "C4", reader="2"),
        label("spike", 8.04, 0.05, reader="2"),  # widened both
    ]
    marks = references_of(page(*one, *two), min_box_s=MIN_BOX_S).marks
    np.testing.assert_allclose(marks[0], [SPINDLE, CHANNEL_INDEX["C3"], 1.1, 2.1])
    np.testing.assert_allclose(marks[2], [SPIKE, CHANNEL_INDEX["C3"], 7.97, 8.12])
    assert len(marks) == 6
    assert len(references_of(page(*one, *(label(x.name, x.onset_s, x.duration_s) for x in one)), min_box_s=MIN_BOX_S).marks) == 3


def test_three_readers_of_one_event_weigh_the_same_and_one_readers_marks_are_never_merged() -> None:
    three = [np.array([[4, 8, start_s, start_s + 1.0]]) for start_s in (1.0, 1.1, 1.3)]
    np.testing.assert_allclose(agreed_marks(three), [[4, 8, 3.4 / 3, 6.4 / 3]])
    assert len(agreed_marks([np.concatenate(three)])) == 3
    assert agreed_marks([]).shape == (0, 4)


def test_a_waveform_on_a_derivation_or_on_the_whole_page_is_coarse() -> None:
    labels = (label("spike", 1.0, 0.1, "T3-T5"), label("k_complex", 4.0, 0.8, ""), label("spike", 7.0, 0.1, "POz"))
    references = references_of(page(*labels, missing=("O1",)), min_box_s=MIN_BOX_S)
    assert references.marks.shape == (0, 4)
    assert [told(region) for region in references.coarse] == [
        ({"T3", "T5"}, 1.0, 1.1, {"spike"}),
        (set(CHANNELS) - {"O1"}, 4.0, 4.8, {"k_complex"}),
    ]


def test_a_mark_without_a_duration_is_near_it() -> None:
    references = references_of(page(label("sleep_spindle", 4.0, 0.0), label("spike", 6.0, 0.0)), min_box_s=MIN_BOX_S)
    assert [told(region) for region in references.coarse] == [({"C3"}, 3.0, 5.0, {"sleep_spindle"})]
    np.testing.assert_allclose(references.marks, [[SPIKE, CHANNEL_INDEX["C3"], 5.925, 6.075]])


@pytest.mark.parametrize(
    "vague",
    [
        label("spsw", 4.0, 1.0, "Fp1-F7", "pattern"),  # F7 is not on the page: the spike may be there alone
        label("spike", 4.0, 1.0, "Fp1-Fpz"),
        label("spsw", 9.6, 0.4, "Fp1", "pattern"),  # cut by the edge: the spike may be on the next page
    ],
)
def test_what_may_lie_beside_the_page_is_not_claimed_and_leaves_its_place_unknown(vague: Label) -> None:
    segment = page(searched("spike"), searched("sleep_spindle"), vague, missing=("F7",))
    references = references_of(segment, min_box_s=MIN_BOX_S)
    assert (len(references.coarse), len(references.marks)) == (0, 0)
    inside_s = vague.onset_s + vague.duration_s / 2
    assert is_known(segment, "Fp1", inside_s) == {"sleep_spindle"}
    assert is_known(segment, "Fp1", vague.onset_s - 0.1) == is_known(segment, "Fp2", inside_s) == {"spike", "sleep_spindle"}


def test_a_long_coarse_mark_that_the_edge_cuts_is_still_on_the_page() -> None:
    references = references_of(page(label("chew", 0.0, 10.0, "T3", "artefact_code")), min_box_s=MIN_BOX_S)
    assert [told(region) for region in references.coarse] == [({"T3"}, 0.0, 10.0, {"high_frequency_noise"})]


# What is known.


def test_where_a_coarse_mark_lies_nothing_is_absent() -> None:
    """A neighbouring derivation may show nothing because both of its electrodes have the spike."""
    labels = (label("bckg", 4.0, 1.0, "Fp1-F3", "background"), label("spsw", 4.5, 1.0, "Fp1-F7", "pattern"))
    segment = page(*labels, corpus="tuev")
    everything = set(WAVEFORMS) - {"sleep_spindle", "k_complex"}
    assert is_known(segment, "Fp1", 4.2) == is_known(segment, "F3", 4.7) == everything
    assert is_known(segment, "Fp1", 4.7) == everything - EPILEPTIFORM
    assert is_known(segment, "F7", 4.7) == is_known(segment, "Fp1", 5.2) == set()


def test_only_rows_of_the_mask_are_known() -> None:
    segment = page(searched("spike"), searched("k_complex", "O1"), missing=("O1",))
    (known,) = references_of(segment, min_box_s=MIN_BOX_S).known
    assert told(known) == (set(CHANNELS) - {"O1"}, 0.0, 10.0, {"spike"})


def slow_known(segment: Segment, centre_s: float, row: int, waveform: Waveform) -> bool:
    """Whether a waveform was looked for at a place and no vague mark of it lies there, one label after the other."""

    def about(one: Label) -> bool:
        names = [name for name in one.channel.split("-") if name in CHANNELS] if one.channel else CHANNELS
        return CHANNELS[row] in names and one.onset_s <= centre_s < one.onset_s + one.duration_s

    vague = any(waveform in found and about(one) for one in segment.labels for found in WAVEFORMS_OF_LABEL.get((one.kind, one.name), ()))
    looked = any(one.kind is LabelKind.SEARCHED and one.name == waveform and about(one) for one in segment.labels)
    return bool(segment.mask[row]) and looked and not vague


PLACES = st.sampled_from(["", "Fp1", "F7", "Fp1-F7", "Fp1-F3", "A1-T3"])
TIMES = st.tuples(st.integers(0, 9), st.integers(1, 5))
SEARCHES = st.builds(
    lambda name, at, where: searched(name, where, at[0], min(at[1], 10 - at[0])), st.sampled_from(WAVEFORMS), TIMES, PLACES
)
COARSE = st.builds(
    lambda code, at, where: label(code, at[0], min(at[1], 10 - at[0]), where, "artefact_code"),
    st.sampled_from(["eyem", "chew", "eyem_musc", "artf"]),
    TIMES,
    PLACES,
)


@given(st.lists(SEARCHES, max_size=6), st.lists(COARSE, max_size=4), st.sampled_from([(), ("F7",)]))
def test_known_cells_are_those_of_the_slow_way(searches: list[Label], coarse: list[Label], missing: tuple[str, ...]) -> None:
    segment = page(*searches, *coarse, missing=missing)
    rows, centres_s = (grid.ravel() for grid in np.meshgrid(np.arange(N_CHANNELS), np.arange(0.0, 10.0, 0.5)))
    found = known_cells(references_of(segment, min_box_s=MIN_BOX_S).known, centres_s, rows)
    slow = [[slow_known(segment, c, r, w) for w in WAVEFORMS] for c, r in zip(centres_s, rows, strict=True)]
    np.testing.assert_array_equal(found, np.array(slow))


def test_of_no_place_nothing_is_asked() -> None:
    none: npt.NDArray[np.int64] = np.zeros(0, dtype=np.int64)
    assert known_cells((), np.zeros(0), none).shape == (0, 9)
    assert not known_cells((), np.zeros(3), np.zeros(3, dtype=np.int64)).any()


def test_events_that_nobody_can_judge_leave_the_figures() -> None:
    segment = page(searched("sleep_spindle", "C3"), label("sleep_spindle", 2.0, 1.0), label("k_complex", 6.0, 1.0, "Cz"))
    judged = (
        event(Waveform.SLEEP_SPINDLE, "C3", 2.0, 1.0),  # right
        event(Waveform.SLEEP_SPINDLE, "C3", 7.0, 1.0),  # wrong
        event(Waveform.K_COMPLEX, "Cz", 6.2, 1.0),  # right, though not all K-complexes are marked
    )
    beyond = (
        event(Waveform.SLEEP_SPINDLE, "C4", 2.0, 1.0),
        event(Waveform.K_COMPLEX, "C3", 2.0, 1.0),
        event(Waveform.K_COMPLEX, "Cz", 6.5, 1.0),  # overlaps by a third
    )
    references = references_of(segment, min_box_s=MIN_BOX_S)
    assert known_events((*judged, *beyond), references) == judged
    assert known_events((), references) == ()
    assert known_events(judged, references_of(page(), min_box_s=MIN_BOX_S)) == ()


def test_a_users_table_is_learnt_from(tmp_path: Path) -> None:
    trees.put(tmp_path / "a.edf", trees.edf(CHANNELS))
    trees.put(tmp_path / "a.marks.csv", "onset_s,duration_s,channel,waveform\n12.0,0.8,C3,sleep_spindle\n,,,searched:sleep_spindle\n")
    source = CORPORA[CorpusName.FOLDER].sources(str(tmp_path))[0]
    assert source.label_uris == (f"{tmp_path}/a.marks.csv",)
    references = references_of(pages_of(CorpusName.FOLDER, tmp_path, "a.edf")[1], min_box_s=MIN_BOX_S)
    np.testing.assert_allclose(references.marks, [[SPINDLE, CHANNEL_INDEX["C3"], 2.0, 2.8]])
    assert [told(region) for region in references.known] == [(set(CHANNELS), 0.0, 10.0, {"sleep_spindle"})]


def test_where_a_reader_is_not_sure_nothing_is_known_and_nobody_is_wrong() -> None:
    unsure = [label("spike", 2.0, 0.2, channel, "unsure") for channel in ("C3", "Cz")]
    segment = page(*(searched(waveform) for waveform in WAVEFORMS), label("spike", 5.0, 0.2), *unsure)
    references = references_of(segment, min_box_s=MIN_BOX_S)
    assert references.coarse == ()
    assert len(references.marks) == 1
    for channel in ("C3", "Cz"):  # which of the discharges it would be is not known either
        assert is_known(segment, channel, 2.1) == {w.value for w in WAVEFORMS} - {w.value for w in EPILEPTIFORM}
    assert is_known(segment, "C4", 2.1) == is_known(segment, "C3", 1.9) == {w.value for w in WAVEFORMS}
    events = (event(Waveform.SHARP_WAVE, "C3", 2.0, 0.2), event(Waveform.SPIKE, "C4", 2.0, 0.2), event(Waveform.SPIKE, "C3", 5.0, 0.2))
    assert known_events(events, references) == events[1:]
