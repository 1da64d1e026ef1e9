"""Identity stays at the door: planted in every field of a recording, it is in no product, no log and no error.

A file's own name is told in errors and in the quarantine list, for the operator must find the file; so it is planted in products' searches
only.
"""

from __future__ import annotations

import logging
from pathlib import Path

import mne
import pytest

from cg_data import manifest, register, storage, work
from cg_data.corpora import CORPORA, CorpusName
from cg_data.edf.reader import EdfFile
from cg_data.errors import EdfError
from cg_data.instruct.teacher_store import TeacherStore
from cg_data.manifest import Shard
from cg_data.packing import pack
from cg_data.settings import DataSettings
from tests.cg_data.edf_bytes import Spec, make, note, patched, signal_field
from tests.cg_data.test_formats import SIGNAL_UV, raw_of, write_bdf

WORDS = ("Jane", "Quibble", "MRN778", "Bochum", "Zebra")
SPEC = Spec(
    n_records=60,
    plus="EDF+C",
    patient="MRN778 F 12-MAR-1961 Jane_Quibble",
    notes=(
        note(1.0, 2.0, "Eyes closed"),
        note(2.0, 0.0, "call Jane Quibble"),
        note(30.0, 1.0, "seizure starts, Zebra"),
        note(35.0, 0.0, "seizure ends"),
    ),
)
N = len(SPEC.labels) + 1
SETTINGS = DataSettings(subject_salt="a secret", mains_hz="50")
FIXED = {"patient": (8, 80), "recording": (88, 80), "date": (168, 8), "time": (176, 8), "header_bytes": (184, 8), "reserved": (192, 44),
         "n_records": (236, 8), "record_s": (244, 8), "n_signals": (252, 4)}  # fmt: skip
SIGNAL = {"label": 16, "transducer": 80, "unit": 8, "physical_min": 8, "physical_max": 8, "digital_min": 8, "digital_max": 8,
          "prefiltering": 80, "samples": 8, "reserved": 32}  # fmt: skip


def planted() -> bytes:
    data = make(SPEC)
    data = patched(data, 88, b"Startdate 12-MAR-2009 MRN778 Jane_Quibble Bochum", 80)
    data = patched(data, 192, b"EDF+C Jane Quibble of Bochum", 44)
    for i in range(N - 1):
        for field in ("transducer", "prefiltering", "reserved"):
            data = patched(data, signal_field(N, field, i), b"Zebra of Jane Quibble", SIGNAL[field])
    return data + b"Jane Quibble behind the last record"


def write_planted_foreign(folder: Path) -> None:
    """A sound and a damaged recording of other formats than EDF."""
    raw = raw_of(SIGNAL_UV)
    raw.set_annotations(mne.Annotations([3.0, 5.0], [1.0, 0.0], ["Eyes closed", "call Jane Quibble"]))
    raw.info["subject_info"] = {"his_id": "MRN778", "last_name": "Quibble", "first_name": "Jane"}
    raw.info["experimenter"], raw.info["description"] = "Zebra", "of Bochum"
    raw.save(folder / "Zebra.fif", verbose="ERROR")
    damaged = write_bdf(folder)
    damaged.write_bytes(patched(damaged.read_bytes(), 244, b"Quibble", 8))


def test_no_product_and_no_log_holds_what_was_planted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "eeg" / "Jane Quibble, MRN778"
    folder.mkdir(parents=True)
    (folder / "Zebra_Bochum.edf").write_bytes(planted())
    (folder / "Quibble_damaged.edf").write_bytes(planted()[:20_000])
    write_planted_foreign(folder)
    out = tmp_path / "out"
    with caplog.at_level(logging.DEBUG):
        products(tmp_path / "eeg", out)
    said = caplog.text + "".join(text_of(path) for path in out.rglob("*") if path.is_file())
    assert "spike" in said or "EEG" in said  # it is text that was searched
    assert [word for word in WORDS if word in said] == []
    assert not [path for path in out.rglob("*") if any(word in path.name for word in WORDS)]


def products(eeg: Path, out: Path) -> None:
    """The register, the shards and the manifests of a folder, by the functions that the engine runs."""
    files = register.listed(CORPORA[CorpusName.FOLDER].sources(str(eeg)), SETTINGS.subject_salt)
    register.look_all(files, corpus=CorpusName.FOLDER, settings=SETTINGS, register_uri=str(out / "recordings"))
    known = register.entries(str(out / "recordings"))
    good, refused = register.good_and_refused(files, known, CorpusName.FOLDER)
    assert (len(good), len(refused)) == (2, 2)
    places = {key: work.Place(uri=f.source.uri, key=f.key, register_shard=known[f.key].shard) for key, f in good.items()}
    (order,) = work.orders_of(pack({key: known[f.key].windows for key, f in good.items()}, 30), places, str(out / "segments"))
    segments = work.make_segments(order)
    assert isinstance(segments, Shard)
    annotations = work.Annotator(None, out_uri=str(out / "annotations"), batch=8)(storage.read_table(order.out), segments.name)
    samples = work.make_samples(
        segments.name,
        segments_uri=str(out / "segments"),
        annotations_uri=str(out / "annotations"),
        out_uri=str(out / "samples"),
        settings=SETTINGS.instruct,
        teacher=SETTINGS.teacher,
        store=TeacherStore(uri=str(out / "teacher")),
        share={},
    )
    for name, shard in (("segments", segments), ("annotations", annotations), ("samples", samples)):
        manifest.write_manifest(str(out / name), [shard])


def text_of(path: Path) -> str:
    """The content of a product, decoded where it is Parquet; signals are left out."""
    if path.suffix != ".parquet":
        return path.read_text()
    table = storage.read_table(str(path))
    return str(table.drop_columns([name for name in ("eeg_steps",) if name in table.column_names]).to_pylist())


@pytest.mark.parametrize("field", [*FIXED, *SIGNAL])
def test_an_error_never_repeats_what_stands_in_a_field(field: str, caplog: pytest.LogCaptureFixture) -> None:
    data = make(SPEC)
    places = [FIXED[field]] if field in FIXED else [(signal_field(N, field, i), SIGNAL[field]) for i in (0, 5)]
    for at, width in places:
        data = patched(data, at, b"Jane Quibble"[:width], width)
    with caplog.at_level(logging.DEBUG):
        said = error_of(data)
    assert "Jane" not in said + caplog.text


def error_of(data: bytes) -> str:
    """What is said of a file where it is refused, else ""."""
    try:
        EdfFile.from_bytes(data, "a.edf").check(range(N - 1))
    except EdfError as error:
        return str(error)
    return ""


def test_an_unreadable_annotation_is_not_repeated() -> None:
    data = make(SPEC).replace(b"Eyes closed\x14", b"Jane Qui\xff\x00 \x14")
    file = EdfFile.from_bytes(data, "a.edf")
    assert "annotations.unreadable" in file.flags
    assert not [flag for flag in file.flags if "Jane" in flag]
