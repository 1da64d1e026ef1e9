"""A recording is described without its patient's name, or refused with a reason."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from cg_data.corpora.source import Source
from cg_data.edf.reader import EdfFile
from cg_data.errors import EdfError, MontageError
from cg_data.recording import describe
from cg_data.records import Recording
from cg_data.segments import count_segments, segments_of
from cg_data.settings import DataSettings
from cg_data.vocabulary import CHANNELS, LabelKind, Montage, Split
from tests.cg_data.edf_bytes import Spec, digital_signal, make, note

SETTINGS = DataSettings()
STORED: tuple[Any, ...] = (Montage.AVERAGE, Montage.LINKED_EARS, Montage.RECORDED)
MAINS: tuple[Any, ...] = ("auto", "50", "none")


def described(spec: Spec, name: str = "x.edf", corpus: str = "edf", settings: DataSettings = SETTINGS) -> Recording:
    return describe(EdfFile.from_bytes(make(spec), name), source=Source(uri=name), corpus=corpus, settings=settings)


def test_two_files_of_one_patient_are_one_subject() -> None:
    one, two = described(Spec(patient="MCH-1 F 02-MAY-1951 Jane_Doe"), "a.edf"), described(Spec(patient="MCH-1 X X X"), "b.edf")
    assert one.subject == two.subject
    assert len(one.subject) == 12
    assert "Jane" not in repr(one)


def test_the_salt_and_the_code_both_decide_the_pseudonym() -> None:
    subjects = {
        described(Spec(patient=p), settings=DataSettings(subject_salt=s)).subject for p in ("1 X X X", "2 X X X") for s in ("a", "b")
    }
    assert len(subjects) == 4


@pytest.mark.parametrize("patient", ["X X X X", "", "X", "Anonymous", "X X 01-JAN-0000 X"])
def test_a_patient_field_that_names_nobody_leaves_the_name_of_the_file(patient: str) -> None:
    assert described(Spec(patient=patient), "a.edf").subject != described(Spec(patient=patient), "b.edf").subject


def test_synthetic_subjects_are_split_by_their_number() -> None:
    splits = [described(Spec(patient=f"CGS-{i:04d} X X X"), corpus="synthetic").split for i in range(10)]
    assert [i for i, split in enumerate(splits) if split == Split.TEST] == [4, 9]
    assert [i for i, split in enumerate(splits) if split == Split.VALIDATION] == [3, 8]


def test_other_subjects_are_split_in_the_configured_shares() -> None:
    settings = DataSettings(test_fraction=0.5, validation_fraction=0.25)
    splits = [described(Spec(patient=f"P{i} X X X", n_records=10), settings=settings).split for i in range(80)]
    assert 25 <= splits.count(Split.TEST) <= 55
    assert 8 <= splits.count(Split.VALIDATION) <= 34


def test_only_notes_of_the_allow_list_become_labels() -> None:
    notes = [
        note(1, 0.8, "sleep_spindle@@EEG C3-REF"),
        note(2, 3, "artefact:flat_channel@@EEG T3-REF"),
        note(3, 4, "Sleep stage N2"),
        note(4, 0, "Eyes closed"),
    ]
    others = [note(6, 0, "Mr Doe moved"), note(7, 1, "spike"), note(8, 1, "spike@@ECG"), note(9, 0, "Eyes open"), note(9, 1, "seizure")]
    text = make(Spec(plus="EDF+C", notes=notes)), make(Spec(plus="EDF+C", notes=others))
    first, second = (
        describe(EdfFile.from_bytes(data, "x.edf"), source=Source(uri="x"), corpus="edf", settings=SETTINGS).labels for data in text
    )
    assert [(label.kind, label.name, label.channel, label.onset_s, label.duration_s) for label in first] == [
        (LabelKind.WAVEFORM, "sleep_spindle", "C3", 1.0, 0.8),
        (LabelKind.ARTEFACT, "flat_channel", "T3", 2.0, 3.0),
        (LabelKind.STAGE, "n2", "", 3.0, 4.0),
        (LabelKind.EYES, "closed", "", 4.0, 8.0),
    ]
    assert [(label.kind, label.name, label.duration_s) for label in second] == [
        (LabelKind.EYES, "open", 3.0),
        (LabelKind.SEIZURE, "seizure", 1.0),
    ]


def test_a_search_is_of_one_electrode_or_of_all_and_without_a_duration_lasts_to_the_end() -> None:
    notes = [
        note(0, 0, "searched:spike"),
        note(2, 3, "searched:k_complex@@EEG Cz-REF"),
        note(4, 0, "searched:Jane"),
        note(5, 1, "searched:"),
    ]
    spec = Spec(plus="EDF+C", notes=notes)
    labels = describe(EdfFile.from_bytes(make(spec), "x.edf"), source=Source(uri="x"), corpus="edf", settings=SETTINGS).labels
    assert [(label.kind, label.name, label.channel, label.onset_s, label.duration_s) for label in labels] == [
        (LabelKind.SEARCHED, "spike", "", 0.0, 12.0),
        (LabelKind.SEARCHED, "k_complex", "Cz", 2.0, 3.0),
    ]


def test_what_a_reader_is_not_sure_of_is_a_label_of_its_own() -> None:
    notes = [note(4, 1, "unsure:spike@@EEG T3-REF"), note(6, 1, "unsure:Jane@@EEG T3-REF")]
    spec = Spec(plus="EDF+C", notes=notes)
    (label,) = describe(EdfFile.from_bytes(make(spec), "x.edf"), source=Source(uri="x"), corpus="edf", settings=SETTINGS).labels
    assert (label.kind, label.name, label.channel, label.onset_s, label.duration_s) == (LabelKind.UNSURE, "spike", "T3", 4.0, 1.0)


@pytest.mark.parametrize(
    "lost", [(4, 1, "spike@@EEG Jane"), (4, 1, "spike"), (4, 1, "unsure:spike@@EEG X9-REF"), (99, 1, "spike@@EEG T3-REF")]
)
def test_where_a_mark_is_lost_its_waveform_was_not_looked_for(lost: tuple[float, float, str]) -> None:
    notes = [note(0, 0, "searched:spike"), note(0, 0, "searched:k_complex"), note(*lost)]
    spec = Spec(plus="EDF+C", notes=notes)
    labels = describe(EdfFile.from_bytes(make(spec), "x.edf"), source=Source(uri="x"), corpus="edf", settings=SETTINGS).labels
    assert [(label.kind, label.name) for label in labels] == [(LabelKind.SEARCHED, "k_complex")]


def test_a_seizure_may_be_given_by_its_two_ends(real_eeg: Path) -> None:
    edf = EdfFile.open(str(real_eeg / "epviz_demo.edf"))
    (seizure,) = [x for x in describe(edf, source=Source(uri="x"), corpus="edf", settings=SETTINGS).labels if x.kind == LabelKind.SEIZURE]
    assert seizure.onset_s == pytest.approx(15.15, abs=0.01)
    assert seizure.onset_s + seizure.duration_s == pytest.approx(44.12, abs=0.01)


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (Spec(labels=["EOG LOC", "EOG ROC"]), "montage.channels_missing"),
        (Spec(labels=["C3", "C4", "Oz"]), "montage.channels_missing"),
        (Spec(labels=["FP1-F7", "T7-P7", "FZ-CZ", "C4-P4"]), "montage.bipolar"),
        (Spec(sfreq_hz=64), "signal.sfreq"),
        (Spec(n_records=9), "signal.too_short"),
        (Spec(plus="EDF+D", starts_s=[float(k if k < 6 else k + 5) for k in range(12)]), "signal.too_short"),
        (Spec(unit=b"%"), "signal.unit"),
    ],
)
def test_a_recording_that_makes_no_page_is_refused(spec: Spec, reason: str) -> None:
    with pytest.raises(EdfError) as caught:
        described(spec)
    assert caught.value.reason == reason


def test_the_message_names_what_was_found_and_what_is_missing() -> None:
    with pytest.raises(MontageError, match=r"1 of the nineteen 10-20 electrodes found \(Cz\), missing Fp1, Fp2, .* are 'EEG Cz'"):
        described(Spec(labels=["EEG Cz"]))


def test_missing_electrodes_are_named_by_what_is_there() -> None:
    recording = described(Spec(labels=[*CHANNELS[:-1], "Oz"]))
    assert recording.electrodes == recording.channels == CHANNELS[:-1]
    assert (recording.montage, recording.flags) == (Montage.AVERAGE, ())


def test_a_recording_with_few_electrodes_keeps_its_reference() -> None:
    recording = described(Spec(labels=["EEG F4-M1", "EEG C4-M1", "EEG O2-M1", "EEG C3-M2"]))
    assert recording.electrodes == ("F4", "C3", "C4", "O2")
    assert recording.signals == (0, 3, 1, 2)
    assert (recording.montage, recording.flags) == (Montage.RECORDED, ("montage.mixed_reference", "montage.few_electrodes"))


def test_the_montage_of_the_segments_is_configured() -> None:
    labels = [*CHANNELS, "A1", "A2"]
    recordings = {montage: described(Spec(labels=labels), settings=DataSettings(montage=montage)) for montage in STORED}
    assert {montage: recording.montage for montage, recording in recordings.items()} == {montage: montage for montage in STORED}
    assert recordings[Montage.LINKED_EARS].channels == tuple(labels)
    with pytest.raises(MontageError, match="needs A1 and A2"):
        described(Spec(), settings=DataSettings(montage=Montage.LINKED_EARS))


def test_the_mains_are_found_once_for_the_whole_recording() -> None:
    spec = Spec(n_records=40)
    hum = (400 * np.sin(2 * np.pi * 60 * np.arange(8000) / 200)).astype(np.int16)
    edf = EdfFile.from_bytes(make(spec, digital_signal(spec) + hum), "x.edf")
    found = {mains: describe(edf, source=Source(uri="x"), corpus="edf", settings=DataSettings(mains_hz=mains)).mains_hz for mains in MAINS}
    assert found == {"auto": 60.0, "50": 50.0, "none": None}


def test_a_recording_is_plain_enough_to_be_a_row() -> None:
    spec = Spec(labels=["FP1-F7", "F7-T7", "T7-P7", "P7-O1"], plus="EDF+C", notes=[note(1, 2, "seizure")])
    row = dataclasses.asdict(described(spec))
    assert json.loads(json.dumps(row)) == pa.Table.from_pylist([row]).to_pylist()[0]


def test_doubtful_montages_are_flagged() -> None:
    assert described(Spec(labels=[*CHANNELS, "Fp1"])).flags == ("montage.duplicate_channel",)
    assert described(Spec(labels=[f"{name}-A{1 + i % 2}" for i, name in enumerate(CHANNELS)])).flags == ("montage.mixed_reference",)
    assert described(Spec(sfreq_hz=128)).flags == ("sfreq.below_band",)


def test_real_signal_read_one_byte_off_is_refused(real_eeg: Path) -> None:
    for name in ("iiic_SZ_sample1.edf", "iiic_Other_sample1.edf", "microstates_rest.edf"):
        sound = (real_eeg / name).read_bytes()
        middle = len(sound) // 2
        for damaged in (sound[:middle] + b"\x07" + sound[middle:], sound[:middle] + sound[middle + 1 :]):
            with pytest.raises(EdfError) as caught:
                describe(EdfFile.from_bytes(damaged, name), source=Source(uri=name), corpus="edf", settings=SETTINGS)
            assert caught.value.reason == "data.misaligned"


def test_every_real_recording_is_segmented_or_refused_with_its_reason(real_eeg: Path) -> None:
    with (real_eeg / "MANIFEST.csv").open(newline="") as file:
        rows = {row["file"]: row for row in csv.DictReader(file)}
    refused = {}
    for name, row in rows.items():
        try:
            edf = EdfFile.open(str(real_eeg / name))
            recording = describe(edf, source=Source(uri=name), corpus="edf", settings=SETTINGS)
        except EdfError as error:
            refused[name] = error.reason
            continue
        assert recording.sfreq_hz == float(row["sfreq_hz"])
        assert recording.duration_s == float(row["duration_s"])
        assert count_segments(recording) == int(float(row["duration_s"]) // 10)
        rms_uv = next(iter(segments_of(edf, recording))).eeg_uv.std()
        assert 2 < rms_uv < 300
    assert refused == {
        "mcsleep_30s.edf": "montage.channels_missing",
        "yasa_n2_15s.edf": "montage.channels_missing",
        "yasa_rem_eog.edf": "montage.channels_missing",
        "broken/eegmmi_s001r01_crlf_damaged.edf": "data.line_ends",
    }
