"""Recordings of other formats become the same records as EDF, cut where they were interrupted, or are refused by name."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import mne
import numpy as np
import numpy.typing as npt
import pyedflib
import pytest
import scipy.io

from cg_data import storage
from cg_data.corpora import CORPORA, CorpusName
from cg_data.errors import EdfError, StorageError
from cg_data.formats import SUFFIXES, open_file
from cg_data.recording import describe
from cg_data.segments import segments_of
from cg_data.settings import DataSettings
from cg_data.vocabulary import CHANNELS
from tests.cg_data.edf_bytes import Spec, digital_signal, make

SFREQ_HZ = 200.0
SECONDS = 24
SIGNAL_UV = digital_signal(Spec(n_records=SECONDS)) / 10


def write_bdf(folder: Path) -> Path:
    path = folder / "a.bdf"
    with pyedflib.EdfWriter(str(path), len(CHANNELS), file_type=pyedflib.FILETYPE_BDFPLUS) as file:
        for i, name in enumerate(CHANNELS):
            file.setSignalHeader(
                i,
                {
                    "label": name, "dimension": "uV", "sample_frequency": int(SFREQ_HZ), "physical_max": 8000, "physical_min": -8000,
                    "digital_max": 8000000, "digital_min": -8000000, "transducer": "", "prefilter": "",
                },
            )  # fmt: skip
        file.setPatientCode("P-77")
        file.writeSamples(list(np.ascontiguousarray(SIGNAL_UV)))
        file.writeAnnotation(3.0, 1.0, "Eyes closed")
    return path


def raw_of(signal_uv: npt.NDArray[np.float64]) -> mne.io.RawArray:
    raw = mne.io.RawArray(signal_uv * 1e-6, mne.create_info(list(CHANNELS), SFREQ_HZ, "eeg"), verbose="ERROR")
    raw.set_annotations(mne.Annotations([3.0], [1.0], ["Eyes closed"]))
    return raw


def write_fif(folder: Path) -> Path:
    raw_of(SIGNAL_UV).save(folder / "a.fif", fmt="double", verbose="ERROR")
    return folder / "a.fif"


def write_brainvision(folder: Path) -> Path:
    channels = "\n".join(f"Ch{i}={name},,0.1,µV" for i, name in enumerate(CHANNELS, 1))
    (folder / "a.vhdr").write_text(
        "Brain Vision Data Exchange Header File Version 1.0\n\n[Common Infos]\nCodepage=UTF-8\nDataFile=$b.eeg\nMarkerFile=$b.vmrk\n"
        f"DataFormat=BINARY\nDataOrientation=MULTIPLEXED\nNumberOfChannels={len(CHANNELS)}\nSamplingInterval={1e6 / SFREQ_HZ:g}\n\n"
        f"[Binary Infos]\nBinaryFormat=INT_16\n\n[Channel Infos]\n{channels}\n".replace("$b", "a"),
        encoding="utf-8",
    )
    (folder / "a.vmrk").write_text(
        "Brain Vision Data Exchange Marker File Version 1.0\n\n[Common Infos]\nCodepage=UTF-8\nDataFile=a.eeg\n\n[Marker Infos]\n"
        f"Mk1=New Segment,,1,1,0,0\nMk2=Comment,Eyes closed,{3 * SFREQ_HZ + 1:g},{SFREQ_HZ:g},0\n",
        encoding="utf-8",
    )
    (folder / "a.eeg").write_bytes(np.rint(SIGNAL_UV.T * 10).astype("<i2").tobytes())
    return folder / "a.vhdr"


def write_eeglab(folder: Path) -> Path:
    chanlocs = np.array([(name, "EEG") for name in CHANNELS], dtype=[("labels", object), ("type", object)])
    event = np.array(
        [("Eyes closed", 3 * SFREQ_HZ + 1, SFREQ_HZ), ("boundary", 12 * SFREQ_HZ + 1, 0.0)],
        dtype=[("type", object), ("latency", object), ("duration", object)],
    )
    eeg = {
        "data": SIGNAL_UV.astype(np.float32), "nbchan": len(CHANNELS), "pnts": SIGNAL_UV.shape[1], "trials": 1, "srate": SFREQ_HZ,
        "xmin": 0.0, "xmax": SECONDS, "chanlocs": chanlocs, "event": event, "setname": "a", "icawinv": [], "icaweights": [],
        "icasphere": [], "icachansind": [], "epoch": [], "ref": "common", "filename": "a.set", "subject": "Jane Doe",
    }  # fmt: skip
    scipy.io.savemat(folder / "a.set", {"EEG": eeg}, appendmat=False)
    return folder / "a.set"


def write_persyst(folder: Path) -> Path:
    channels = "\n".join(f"{name}-Ref={i}" for i, name in enumerate(CHANNELS, 1))
    (folder / "a.lay").write_text(
        "[FileInfo]\nFile=/export/a.dat\nFileType=Interleaved\nSamplingRate=200\nHeaderLength=0\nCalibration=0.1\n"
        f"WaveformCount={len(CHANNELS)}\nDataType=0\n[Patient]\nFirst=Jane\nLast=Doe\nSex=\nHand=\nBirthDate=03/12/61\nTestDate=03/12/2009\n"
        "TestTime=10:00:00\nID=P-77\nComments1=\nComments2=\n[Comments]\n3.0,1.0,0,100,Eyes closed\n"
        f"[ChannelMap]\n{channels}\n[SampleTimes]\n0=36000.0\n2000=36010.0\n"
    )
    (folder / "a.dat").write_bytes(np.rint(SIGNAL_UV.T * 10).astype("<i2").tobytes())
    return folder / "a.lay"


WRITERS = {"bdf": write_bdf, "fif": write_fif, "vhdr": write_brainvision, "set": write_eeglab, "lay": write_persyst}
STEPS = (".vhdr", ".lay")
"""Of these the writer rounds to 0.1 uV."""
COMPANIONS = {".vhdr": ".eeg", ".lay": ".dat"}


@pytest.fixture(params=WRITERS)
def recording(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    write: Callable[[Path], Path] = WRITERS[request.param]
    return write(tmp_path)


def test_the_signal_is_the_one_that_was_written(recording: Path) -> None:
    file = open_file(str(recording))
    assert tuple(map(str.upper, file.labels[: len(CHANNELS)])) == tuple(map(str.upper, CHANNELS))  # MNE reads Persyst's in capitals
    assert file.sfreq_hz(0) == SFREQ_HZ
    file.check(range(len(CHANNELS)))
    read_uv = file.read_uv([2, 5], 1.5, 4.0)
    assert read_uv.dtype == np.float32
    np.testing.assert_allclose(read_uv, SIGNAL_UV[[2, 5], 300:800], atol=0.051 if recording.suffix in STEPS else 1e-3)
    assert [(note.onset_s, note.text) for note in file.annotations if "closed" in note.text] == [(pytest.approx(3.0), "Eyes closed")]


def test_an_index_opens_it_again_and_a_changed_file_is_refused(recording: Path) -> None:
    first = open_file(str(recording))
    again = open_file(str(recording), first.index)
    assert (again.sha256, again.runs_s, again.flags) == (first.sha256, first.runs_s, first.flags)
    assert recording.stem.encode() + b"." not in first.index
    data = recording.with_suffix(COMPANIONS.get(recording.suffix, recording.suffix))
    data.write_bytes(data.read_bytes() + b"more")
    with pytest.raises(EdfError) as raised:
        open_file(str(recording), first.index)
    assert raised.value.reason == "file.changed"


def test_it_becomes_the_same_segments_as_edf(recording: Path, tmp_path: Path) -> None:
    settings = DataSettings(mains_hz="50")
    plain = tmp_path / "edf"
    plain.mkdir()
    (plain / "a.edf").write_bytes(make(Spec(n_records=SECONDS)))
    pages = []
    for path in (recording, plain / "a.edf"):
        (source,) = CORPORA[CorpusName.FOLDER].sources(str(path))
        file = open_file(str(path))
        described = describe(file, source=source, corpus=CorpusName.FOLDER, settings=settings)
        pages.append(list(segments_of(file, described)))
    other, edf = pages
    assert len(other) == len(edf) == 2
    middle = slice(400, 1600)  # the filter's edges differ where a boundary ends a run earlier
    same_start = [(a, b) for a, b in zip(other, edf, strict=True) if a.start_s == b.start_s]
    assert len(same_start) == (1 if recording.suffix == ".set" else 2)
    for a, b in same_start:
        assert np.abs(a.eeg_steps[:, middle].astype(int) - b.eeg_steps[:, middle].astype(int)).max() <= 2


def test_a_boundary_ends_a_run(tmp_path: Path) -> None:
    assert open_file(str(write_eeglab(tmp_path))).runs_s == ((0.0, 12.0), (12.0, 24.0))


def test_what_fif_skipped_is_no_signal(tmp_path: Path) -> None:
    raw = raw_of(SIGNAL_UV)
    raw.set_annotations(mne.Annotations([8.0], [3.0], ["BAD_ACQ_SKIP"]))
    raw.save(tmp_path / "a.fif", verbose="ERROR")
    file = open_file(str(tmp_path / "a.fif"))
    assert file.runs_s == ((0.0, 8.0), (11.0, 24.0))
    with pytest.raises(ValueError, match="not within one contiguous run"):
        file.read_uv([0], 7.0, 12.0)


def test_times_count_from_the_first_sample_where_the_amplifier_ran_before(tmp_path: Path) -> None:
    raw = mne.io.RawArray(SIGNAL_UV * 1e-6, mne.create_info(list(CHANNELS), SFREQ_HZ, "eeg"), first_samp=1000, verbose="ERROR")
    raw.set_meas_date(1_000_000)
    raw.set_annotations(mne.Annotations([3.0 + raw.first_time], [1.0], ["Eyes closed"], orig_time=raw.info["meas_date"]))
    raw.save(tmp_path / "a.fif", verbose="ERROR")
    (note,) = open_file(str(tmp_path / "a.fif")).annotations
    assert note.onset_s == pytest.approx(3.0, abs=1e-3)


@pytest.mark.parametrize("name", sorted(f"a{suffix}" for suffix in SUFFIXES - {".edf"}))
def test_a_damaged_file_is_refused_by_name_and_not_by_mne(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"Dear colleague, thank you for sending")
    with pytest.raises(EdfError) as raised:
        open_file(str(tmp_path / name))
    assert raised.value.reason == "format.unreadable"
    assert name in str(raised.value)
    assert str(tmp_path) not in str(raised.value)


@pytest.mark.parametrize("named", ["nowhere.eeg", "../a.eeg", "/etc/passwd", ".hidden"])
def test_data_beside_a_header_must_be_there_and_nowhere_else(named: str, tmp_path: Path) -> None:
    path = write_brainvision(tmp_path)
    path.write_text(path.read_text(encoding="utf-8").replace("DataFile=a.eeg", f"DataFile={named}"), encoding="utf-8")
    with pytest.raises(EdfError) as raised:
        open_file(str(path))
    assert raised.value.reason == "format.companion"


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no such file"):
        open_file(str(tmp_path / "a.bdf"))


def test_a_signal_that_is_no_voltage_is_refused(tmp_path: Path) -> None:
    info = mne.create_info(["Fp1", "x"], SFREQ_HZ, ["eeg", "temperature"])
    mne.io.RawArray(SIGNAL_UV[:2] * 1e-6, info, verbose="ERROR").save(tmp_path / "a.fif", verbose="ERROR")
    file = open_file(str(tmp_path / "a.fif"))
    file.check([0])
    with pytest.raises(EdfError, match="signal 'x' is not volts"):
        file.check([1])


def test_a_scale_that_no_eeg_has_is_refused(tmp_path: Path) -> None:
    raw_of(SIGNAL_UV * 1e6).save(tmp_path / "a.fif", fmt="double", verbose="ERROR")
    with pytest.raises(EdfError) as raised:
        open_file(str(tmp_path / "a.fif")).check([0, 1])
    assert raised.value.reason == "signal.amplitude"


def test_a_bdf_file_that_calls_itself_edf_is_refused_with_what_to_do(tmp_path: Path) -> None:
    shutil.move(write_bdf(tmp_path), tmp_path / "a.edf")
    with pytest.raises(EdfError) as raised:
        open_file(str(tmp_path / "a.edf"))
    assert raised.value.reason == "format.bdf"


@pytest.fixture(params=["neuromag", "bids"])
def split_fif(request: pytest.FixtureRequest, tmp_path: Path) -> list[Path]:
    """A recording in three files, the first one first."""
    raw = mne.io.RawArray(np.tile(SIGNAL_UV, 6) * 1e-6, mne.create_info(list(CHANNELS), SFREQ_HZ, "eeg"), verbose="ERROR")
    raw.save(tmp_path / "sub-1_eeg.fif", split_size="2MB", buffer_size_sec=1, split_naming=request.param, verbose="ERROR")
    names = [f"sub-1_eeg{part}.fif" for part in ("", "-1", "-2")] if request.param == "neuromag" else []
    return [tmp_path / name for name in names or [f"sub-1_split-0{k}_eeg.fif" for k in (1, 2, 3)]]


def test_a_fif_file_in_parts_is_one_recording(split_fif: list[Path]) -> None:
    sources = CORPORA[CorpusName.FOLDER].sources(str(split_fif[0].parent))
    assert {source.uri for source in sources} == {str(path) for path in split_fif}
    assert open_file(str(split_fif[0])).runs_s == ((0.0, 6.0 * SECONDS),)
    for later in split_fif[1:]:
        with pytest.raises(EdfError) as raised:
            open_file(str(later))
        assert raised.value.reason == "format.later_part"


def test_every_part_of_a_fif_file_counts(split_fif: list[Path]) -> None:
    first = open_file(str(split_fif[0]))
    data = split_fif[2].read_bytes()
    split_fif[2].write_bytes(data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
    assert open_file(str(split_fif[0])).sha256 != first.sha256
    split_fif[2].write_bytes(data + b"more")
    with pytest.raises(EdfError) as raised:
        open_file(str(split_fif[0]), first.index)
    assert raised.value.reason == "file.changed"
    split_fif[2].unlink()
    with pytest.raises(EdfError) as raised:
        open_file(str(split_fif[0]))
    assert raised.value.reason == "format.unreadable"


def test_a_number_at_the_end_of_a_name_makes_no_part(tmp_path: Path) -> None:
    for name in ("sub", "sub-1"):
        raw_of(SIGNAL_UV).save(tmp_path / f"{name}.fif", verbose="ERROR")
    sources = CORPORA[CorpusName.FOLDER].sources(str(tmp_path))
    opened = [open_file(source.uri) for source in sources]
    assert [file.name for file in opened] == ["sub-1.fif", "sub.fif"]
    (tmp_path / "sub-1.fif").unlink()
    assert open_file(str(tmp_path / "sub.fif"), opened[1].index).sha256 == opened[1].sha256


def write_eeglab_in_two_files(folder: Path, data_name: str) -> Path:
    path = write_eeglab(folder)
    eeg = scipy.io.loadmat(path, simplify_cells=True)["EEG"]
    scipy.io.savemat(path, {"EEG": {**eeg, "data": data_name, "datfile": data_name}}, appendmat=False)
    return path


def test_the_data_beside_an_eeglab_header_belong_to_the_recording(tmp_path: Path) -> None:
    path = write_eeglab_in_two_files(tmp_path, "a.fdt")
    data = SIGNAL_UV.T.astype("<f4").tobytes()
    (tmp_path / "a.fdt").write_bytes(data)
    first = open_file(str(path))
    np.testing.assert_allclose(first.read_uv([2], 1.5, 4.0), SIGNAL_UV[[2], 300:800], atol=1e-3)
    (tmp_path / "a.fdt").write_bytes((2 * SIGNAL_UV.T).astype("<f4").tobytes())
    assert open_file(str(path)).sha256 != first.sha256
    (tmp_path / "a.fdt").write_bytes(data[:-400])
    with pytest.raises(EdfError) as raised:
        open_file(str(path), first.index)
    assert raised.value.reason == "file.changed"
    with pytest.raises(EdfError) as raised:
        open_file(str(path))
    assert raised.value.reason == "format.unreadable"


@pytest.mark.parametrize("named", ["other.fdt", "../outside/z.fdt"])
def test_eeglab_data_of_another_name_or_place_are_not_read(named: str, tmp_path: Path) -> None:
    folder = tmp_path / "inside"
    for place in (folder, tmp_path / "outside"):
        place.mkdir()
        for name in ("other.fdt", "z.fdt"):
            (place / name).write_bytes(SIGNAL_UV.T.astype("<f4").tobytes())
    with pytest.raises(EdfError) as raised:
        open_file(str(write_eeglab_in_two_files(folder, named)))
    assert raised.value.reason == "format.companion"


def test_files_may_be_links_to_files_of_other_names(recording: Path, tmp_path: Path) -> None:
    folder, store = tmp_path / "linked", tmp_path / "store"
    folder.mkdir()
    store.mkdir()
    for i, path in enumerate(sorted(recording.parent.glob("a.*"))):
        (folder / path.name).symlink_to(path.rename(store / f"object-{i}"))
    assert open_file(str(folder / recording.name)).runs_s[-1][1] == SECONDS


def test_in_an_object_store_all_files_are_fetched(recording: Path, s3: str) -> None:
    here = open_file(str(recording))
    folder = f"{s3}/{recording.suffix[1:]}"
    for path in recording.parent.glob("a.*"):
        storage.write_bytes(f"{folder}/{path.name}", path.read_bytes())
    there = open_file(f"{folder}/{recording.name}")
    assert (there.sha256, there.runs_s, there.annotations) == (here.sha256, here.runs_s, here.annotations)
    assert np.array_equal(there.read_uv([2], 1.5, 4.0), here.read_uv([2], 1.5, 4.0))


def test_the_parts_of_a_fif_file_are_fetched_from_an_object_store(split_fif: list[Path], s3: str) -> None:
    for path in split_fif:
        storage.write_bytes(f"{s3}/split/{path.name}", path.read_bytes())
    assert open_file(f"{s3}/split/{split_fif[0].name}").sha256 == open_file(str(split_fif[0])).sha256


def test_numbers_as_events_have_a_boundary_too(tmp_path: Path) -> None:
    path = write_eeglab(tmp_path)
    eeg = scipy.io.loadmat(path, simplify_cells=True)["EEG"]
    event = np.array([("7", 601.0, 1.0), ("-99", 12 * SFREQ_HZ + 1, 0.0)], dtype=[(n, object) for n in ("type", "latency", "duration")])
    scipy.io.savemat(path, {"EEG": {**eeg, "event": event}}, appendmat=False)
    assert open_file(str(path)).runs_s == ((0.0, 12.0), (12.0, 24.0))


def test_an_interruption_that_mne_passes_over_is_refused(tmp_path: Path) -> None:
    bdf, persyst = write_bdf(tmp_path), write_persyst(tmp_path)
    data = bdf.read_bytes()
    bdf.write_bytes(data[:192] + b"BDF+D" + data[197:])
    persyst.write_text(persyst.read_text().replace("2000=36010.0", "2000=36070.0"))
    for path in (bdf, persyst):
        with pytest.raises(EdfError) as raised:
            open_file(str(path))
        assert raised.value.reason == "format.discontinuous"


def test_values_that_are_no_numbers_never_become_signal(tmp_path: Path) -> None:
    signal_uv = SIGNAL_UV.copy()
    signal_uv[3, 1111] = np.nan
    raw_of(signal_uv).save(tmp_path / "a.fif", fmt="double", verbose="ERROR")
    file = open_file(str(tmp_path / "a.fif"))
    file.read_uv([3], 0.0, 5.0)
    with pytest.raises(EdfError) as raised:
        file.read_uv([3], 5.0, 10.0)
    assert raised.value.reason == "data.not_finite"


@pytest.mark.parametrize("write", [write_bdf, write_brainvision])
def test_an_error_does_not_repeat_what_stands_in_the_file(write: Callable[[Path], Path], tmp_path: Path) -> None:
    path = write(tmp_path)
    data = path.read_bytes()
    path.write_bytes(
        data.replace(b"SamplingInterval=5000", b"SamplingInterval=JaneDoe")
        if path.suffix == ".vhdr"
        else data[:244] + b"JaneDoe " + data[252:]
    )
    with pytest.raises(EdfError) as raised:
        open_file(str(path))
    assert "JaneDoe" not in str(raised.value)


def test_patients_are_told_apart_by_what_the_file_says_of_them(tmp_path: Path) -> None:
    for name, code in (("a", "P-1"), ("b", "P-1"), ("c", "P-2")):
        raw = raw_of(SIGNAL_UV)
        raw.info["subject_info"] = {"his_id": code}
        raw.save(tmp_path / f"{name}.fif", verbose="ERROR")
    a, b, c = (open_file(str(tmp_path / f"{name}.fif")).patient for name in "abc")
    assert a == b
    assert a != c
