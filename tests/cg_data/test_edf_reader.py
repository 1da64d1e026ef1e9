"""Any window of a recording is read by its own bytes alone, and pyedflib and MNE read the same samples."""

from __future__ import annotations

import contextlib
import hashlib
import io
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from cg_data.edf.index import EdfIndex
from cg_data.edf.reader import EdfFile, read_annotations
from cg_data.edf.scan import BLOCK_BYTES
from cg_data.edf.source import Bytes, FileSource, MemorySource
from cg_data.errors import EdfError, StorageError
from cg_data.formats import open_file
from tests.cg_data.edf_bytes import Spec, digital_signal, make, note

SPEC = Spec()
PLUS = Spec(plus="EDF+C", notes=(note(3.5, 2, "Eyes closed"), note(1, 0, "Sleep stage W")))
SOUND = make(SPEC)
SOUND_PLUS = make(PLUS)
RECORD_BYTES = 19 * 200 * 2


class CountingSource(MemorySource):
    """Notes every read."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data, "x.edf")
        self.reads: list[tuple[int, int]] = []

    def read(self, start: int, stop: int) -> Bytes:
        self.reads.append((start, stop))
        return super().read(start, stop)


def test_samples_are_microvolts_to_the_digital_step() -> None:
    edf = EdfFile.from_bytes(SOUND, "x.edf")
    expected = digital_signal(SPEC)[:, 300:1900]
    np.testing.assert_array_equal(edf.read_digital(range(19), 1.5, 9.5), expected)
    # gain and offset of the header in float64, rounded to float32 once
    gain = (3276.7 + 3276.8) / 65535
    np.testing.assert_array_equal(edf.read_uv(range(19), 1.5, 9.5), (expected * gain + (-3276.8 + 32768 * gain)).astype(np.float32))
    assert edf.sha256 == hashlib.sha256(SOUND).hexdigest()
    assert edf.flags == ()


def test_a_window_is_read_by_its_own_records_alone() -> None:
    source = CountingSource(SOUND)
    edf = EdfFile(source)
    source.reads.clear()
    edf.read_uv([3, 18], 4.25, 6.5)
    start = 256 * 20 + 4 * RECORD_BYTES
    assert source.reads == [(start, start + 3 * RECORD_BYTES)]


def test_with_an_index_only_the_header_and_the_window_are_read() -> None:
    index = EdfFile.from_bytes(SOUND_PLUS, "x.edf").index
    source = CountingSource(SOUND_PLUS)
    edf = EdfFile(source, EdfIndex.from_bytes(index, "x.edf"))
    edf.check(range(19))
    uv = edf.read_uv(range(19), 2, 3)
    assert source.reads == [(0, 256 * 21), (256 * 21 + 2 * 7720, 256 * 21 + 3 * 7720)]
    whole = EdfFile.from_bytes(SOUND_PLUS, "x.edf")
    np.testing.assert_array_equal(uv, whole.read_uv(range(19), 2, 3))
    for field in ("name", "sha256", "flags", "labels", "patient", "runs_s", "index", "annotations"):
        assert getattr(edf, field) == getattr(whole, field), field


def test_an_index_holds_no_text_of_the_file() -> None:
    spec = Spec(plus="EDF+C", patient="MCH-0234567 F 02-MAY-1951 Haagse_Harry", notes=(note(1, 0, "called Dr Jansen"),))
    index = EdfFile.from_bytes(make(spec), "Haagse Harry.edf").index
    assert not any(word in index for word in (b"Haagse", b"MCH", b"Jansen", b"Fp1", b"1985", b"01.01.85"))


def test_a_file_that_changed_since_it_was_indexed_is_refused() -> None:
    index = EdfIndex.from_bytes(EdfFile.from_bytes(SOUND, "x.edf").index, "x.edf")
    for changed in (SOUND + b"\x00", SOUND[:-1], SOUND[:300] + b"X" + SOUND[301:]):
        with pytest.raises(EdfError) as caught:
            EdfFile(MemorySource(changed, "x.edf"), index)
        assert caught.value.reason == "file.changed"


@pytest.mark.parametrize("index", [b"", b"{}", b'{"format": "edf/0"}', b"\x80\x04cos\nsystem\n"])
def test_an_index_that_is_none_is_refused(index: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.edf").write_bytes(SOUND)
    with pytest.raises(EdfError) as caught:
        open_file(str(tmp_path / "x.edf"), index)
    assert caught.value.reason == "index.unreadable"


def test_a_file_cut_while_it_is_open_is_refused_not_fatal(tmp_path: Path) -> None:
    path = tmp_path / "x.edf"
    path.write_bytes(SOUND)
    edf = EdfFile.open(str(path))
    path.write_bytes(SOUND[:9000])
    with pytest.raises(EdfError) as caught:
        edf.read_uv([0], 10, 12)
    assert caught.value.reason == "file.changed"


def test_a_long_file_is_read_in_blocks() -> None:
    spec = Spec(labels=SPEC.labels, n_records=1500, plus="EDF+C", notes=(note(7, 0, "Eyes open"),))
    data = make(spec, np.tile(digital_signal(SPEC), (1, 125)))
    source = CountingSource(data)
    edf = EdfFile(source)
    assert len(data) > BLOCK_BYTES
    assert max(stop - start for start, stop in source.reads) <= BLOCK_BYTES
    assert edf.sha256 == hashlib.sha256(data).hexdigest()
    assert edf.runs_s == ((0.0, 1500.0),)
    assert [n.text for n in edf.annotations] == ["Eyes open"]


def test_of_a_very_long_record_only_the_window_is_read() -> None:
    spec = Spec(record_s=600.0, n_records=2)
    source = CountingSource(make(spec))
    edf = EdfFile(source)
    source.reads.clear()
    digital = edf.read_digital([0, 18], 595, 605)
    np.testing.assert_array_equal(digital, digital_signal(spec)[[0, 18], 119_000:121_000])
    assert sum(stop - start for start, stop in source.reads) == digital.nbytes


def test_signals_keep_their_own_rates_and_are_read_by_rate() -> None:
    data = make(Spec(plus="EDF+C"))
    edf = EdfFile.from_bytes(data, "x.edf")
    assert [edf.sfreq_hz(i) for i in (0, 18, 19)] == [200.0, 200.0, 60.0]
    with pytest.raises(ValueError, match="one rate"):
        edf.read_uv([0, 19], 0, 1)


def test_a_path_and_its_bytes_read_alike(tmp_path: Path) -> None:
    path = tmp_path / "a b.edf"
    path.write_bytes(SOUND_PLUS)
    for uri in (str(path), path.as_uri()):
        edf = EdfFile.open(uri)
        assert edf.name == "a b.edf"
        np.testing.assert_array_equal(edf.read_uv([0, 18], 2, 7), EdfFile.from_bytes(SOUND_PLUS, "b").read_uv([0, 18], 2, 7))


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, str]]:
    """An S3 server of this test: URI of a bucket, and the query that a URI in it needs."""
    boto3 = pytest.importorskip("boto3")
    server = pytest.importorskip("moto.server").ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    keys = {"aws_access_key_id": "k", "aws_secret_access_key": "s", "region_name": "us-east-1"}
    boto3.client("s3", endpoint_url=f"http://{host}:{port}", **keys).create_bucket(Bucket="eeg")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    yield "s3://k:s@eeg", f"?scheme=http&region=us-east-1&endpoint_override={host}:{port}"
    server.stop()


def test_an_object_in_a_store_is_read_by_range(bucket: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    from pyarrow import fs

    place, query = bucket
    uri = f"{place}/ward/a.edf{query}"
    filesystem, path = fs.FileSystem.from_uri(uri)
    with filesystem.open_output_stream(path) as stream:
        stream.write(SOUND_PLUS)
    whole = open_file(uri)
    assert (whole.name, whole.sha256) == ("a.edf", hashlib.sha256(SOUND_PLUS).hexdigest())
    asked: list[int] = []
    read = FileSource.read
    monkeypatch.setattr(FileSource, "read", lambda self, a, b: asked.append(b - a) or read(self, a, b))
    uv = open_file(uri, whole.index).read_uv([5], 3, 5)
    np.testing.assert_array_equal(uv, EdfFile.from_bytes(SOUND_PLUS, "x").read_uv([5], 3, 5))
    assert asked == [256 * 21, 2 * 7720]
    with pytest.raises(StorageError, match="no such file"):
        open_file(f"{place}/ward/b.edf{query}")


def test_an_absent_or_empty_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"gone\.edf: no such file"):
        EdfFile.open(str(tmp_path / "gone.edf"))
    with pytest.raises(StorageError, match="a folder, not a file"):
        EdfFile.open(str(tmp_path))
    (tmp_path / "empty.edf").touch()
    with pytest.raises(EdfError) as caught:
        EdfFile.open(str(tmp_path / "empty.edf"))
    assert caught.value.reason == "file.empty"


def test_notes_of_a_file_without_signal_are_read(tmp_path: Path) -> None:
    spec = Spec(labels=(), record_s=0, n_records=1, plus="EDF+C", notes=PLUS.notes)
    (tmp_path / "hypnogram.edf").write_bytes(make(spec, np.empty((0, 0), dtype=np.int16)))
    notes = read_annotations(str(tmp_path / "hypnogram.edf"))
    assert [(n.onset_s, n.duration_s, n.text) for n in notes] == [(1.0, 0.0, "Sleep stage W"), (3.5, 2.0, "Eyes closed")]
    with pytest.raises(EdfError) as caught:
        open_file(str(tmp_path / "hypnogram.edf"))
    assert caught.value.reason == "header.no_signal"
    (tmp_path / "plain.edf").write_bytes(SOUND)
    with pytest.raises(EdfError) as caught:
        read_annotations(str(tmp_path / "plain.edf"))
    assert caught.value.reason == "annotations.absent"


def test_real_recordings_read_as_pyedflib_reads_them(real_eeg: Path) -> None:
    pyedflib = pytest.importorskip("pyedflib")
    compared = 0
    for path in sorted(real_eeg.glob("*.edf")):
        edf = EdfFile.open(str(path))
        with pyedflib.EdfReader(str(path)) as oracle:
            # pyedflib leaves the annotation signals out of its numbering.
            signals = [i for i, s in enumerate(edf.header.signals) if not s.is_annotations]
            for theirs, ours in enumerate(signals):
                np.testing.assert_array_equal(edf.read_digital([ours], *edf.runs_s[0])[0], oracle.readSignal(theirs, digital=True))
                if edf.header.signals[ours].unit.lower() == "uv":
                    expected = oracle.readSignal(theirs)
                    scale = max(1.0, float(np.abs(expected).max()))
                    np.testing.assert_allclose(edf.read_uv([ours], *edf.runs_s[0])[0], expected, atol=1.2e-7 * scale)
                    compared += 1
    assert compared > 300


def test_real_recordings_read_as_mne_reads_them(real_eeg: Path) -> None:
    import mne

    compared = 0
    for path in sorted(real_eeg.glob("*.edf")):
        edf = EdfFile.open(str(path))
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            raw = mne.io.read_raw_edf(path, preload=False, verbose="error", units=None)
        labels = [label for label in edf.labels if label in raw.ch_names][:19]
        if len({edf.sfreq_hz(edf.labels.index(label)) for label in labels}) > 1:
            continue
        signals = [edf.labels.index(label) for label in labels]
        expected = raw.get_data(labels) * 1e6
        if any(edf.header.signals[i].unit.lower() != "uv" for i in signals):
            continue
        np.testing.assert_allclose(edf.read_uv(signals, *edf.runs_s[0]), expected, atol=1.2e-7 * np.abs(expected).max(), rtol=1.2e-7)
        # MNE ends a note at the end of the recording.
        theirs = zip(raw.annotations.onset, raw.annotations.description, strict=True)
        assert sorted((round(n.onset_s, 3), n.text) for n in edf.annotations) == sorted((round(float(t), 3), str(d)) for t, d in theirs)
        compared += 1
    assert compared > 10
