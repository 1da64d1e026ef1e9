"""Trees of small synthetic files in the exact layout and naming of each corpus, in every generation that we read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from cg_data.corpora import CORPORA, CorpusName
from cg_data.corpora.source import Source
from cg_data.edf.reader import EdfFile
from cg_data.marks import Labels
from cg_data.vocabulary import CHANNELS
from tests.cg_data.edf_bytes import Spec, digital_signal, make, note

DURATION_S = 60
_UPPER = [name.upper() for name in CHANNELS]
TUH_AR = (*(f"EEG {name}-REF" for name in _UPPER), "EEG A1-REF", "EEG A2-REF", "EEG EKG1-REF", "PHOTIC-REF")
TUH_LE = (*(f"EEG {name}-LE" for name in _UPPER), "EEG A1-LE", "EEG A2-LE", "PHOTIC PH")
TUH_AR_A = (*(f"EEG {name}-REF" for name in _UPPER), "EEG EKG1-REF")
HMC_LABELS = ("EEG F4-M1", "EEG C4-M1", "EEG O2-M1", "EEG C3-M2", "EMG chin", "EOG E1-M2", "EOG E2-M2", "ECG")
CHB_LABELS = (
    "FP1-F7", "F7-T7", "T7-P7", "P7-O1", "FP1-F3", "F3-C3", "C3-P3", "P3-O1", "FP2-F4", "F4-C4", "C4-P4", "P4-O2", "FP2-F8", "F8-T8",
    "T8-P8", "P8-O2", "FZ-CZ", "CZ-PZ", "P7-T7", "T7-FT9", "FT9-FT10", "FT10-T8", "T8-P8",
)  # fmt: skip


def put(path: Path, content: bytes | str) -> Path:
    """Write a file, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def edf(labels: Sequence[str] = TUH_AR, duration_s: int = DURATION_S, notes: Iterable[bytes] = ()) -> bytes:
    """A small recording at 100 Hz."""
    spec = Spec(labels=labels, sfreq_hz=100, n_records=duration_s, patient="X X X X", plus="EDF+C" if notes else "", notes=tuple(notes))
    return make(spec, digital_signal(spec))


def annotations_only(notes: Sequence[tuple[float, float, str]], per_record: int = 50) -> bytes:
    """An EDF+ file without a signal, as PhysioNet's hypnograms are: records of no duration, each full of notes."""
    parts = [notes[i : i + per_record] for i in range(0, len(notes), per_record)]
    tals = [b"+%d\x14\x14\x00" % part[0][0] + b"".join(note(*one) for one in part) for part in parts]
    size = max(map(len, tals)) + 2 & ~1
    fixed = [("0", 8), ("X X X X", 80), ("Startdate X X X X", 80), ("24.04.89", 8), ("16.13.00", 8), ("512", 8), ("EDF+C", 44)]
    fixed += [(str(len(tals)), 8), ("0", 8), ("1", 4)]
    signal = [
        ("EDF Annotations", 16),
        ("", 80),
        ("", 8),
        ("-1", 8),
        ("1", 8),
        ("-32768", 8),
        ("32767", 8),
        ("", 80),
        (str(size // 2), 8),
        ("", 32),
    ]
    head = b"".join(value.encode().ljust(width) for value, width in fixed + signal)
    return head + b"".join(tal.ljust(size, b"\x00") for tal in tals)


def csv_of(rows: Sequence[tuple[str, float, float, str]]) -> str:
    """A ``.csv`` or ``.csv_bi`` file of the second generation."""
    head = "# version = csv_v1.0.0\n# bname = aaaaaaac_s001_t000\n# duration = 60.0000 secs\n# montage_file = default_montage.txt\n#\n"
    lines = [f"{channel},{start:.4f},{stop:.4f},{label},1.0000\n" for channel, start, stop, label in rows]
    return head + "channel,start_time,stop_time,label,confidence\n" + "".join(lines)


def tse_of(rows: Sequence[tuple[float, float, str]]) -> str:
    """A ``.tse`` file of the first generation."""
    return "version = tse_v1.0.0\n\n" + "".join(f"{start:.4f} {stop:.4f} {label} 1.0000\n" for start, stop, label in rows)


LBL_SYMBOLS = ("(null)", "spsw", "gped", "pled", "eybl", "artf", "bckg", "seiz", "fnsz", "gnsz")


def lbl_of(rows: Sequence[tuple[int, float, float, str]], montage: Sequence[str] = ()) -> str:
    """A ``.lbl`` file of the first generation; `rows` give channel numbers along `montage`."""
    lines = ["version = lbl_v1.0.0", ""]
    lines += [f"montage = {i}, {name}: EEG {name.split('-')[0]}-REF -- EEG {name.split('-')[1]}-REF" for i, name in enumerate(montage)]
    symbols = ", ".join(f"{i}: '{code}'" for i, code in enumerate(LBL_SYMBOLS))
    lines += ["", "number_of_levels = 1", "", "level[0] = 1", "", f"symbols[0] = {{{symbols}}}", ""]
    for channel, start, stop, code in rows:
        weights = ", ".join("1.0" if code == symbol else "0.0" for symbol in LBL_SYMBOLS)
        lines.append(f"label = {{0, 0, {start:.4f}, {stop:.4f}, {channel}, [{weights}]}}")
    return "\n".join(lines) + "\n"


def read(corpus: CorpusName, root: Path, name: str) -> tuple[Source, Labels]:
    """The source whose file is called `name`, and its labels."""
    (source,) = [source for source in CORPORA[corpus].sources(str(root)) if source.uri.endswith("/" + name)]
    return source, CORPORA[corpus].labels(source, EdfFile.open(source.uri))


def brief(labels: Labels, **only: str) -> list[tuple[str, str, float, float, str]]:
    """Kind, name, onset, end and channel of the labels, rounded to 0.1 ms; `only` keeps those with some attribute."""
    kept = [label for label in labels.labels if all(getattr(label, key) == value for key, value in only.items())]
    return [(x.kind, x.name, round(x.onset_s, 4), round(x.onset_s + x.duration_s, 4), x.channel) for x in kept]


def broken(labels: Labels) -> dict[str, int]:
    """Problems by rule."""
    return {problem.rule: problem.count for problem in labels.problems}


def tusz_v1(root: Path) -> Path:
    """TUSZ 1.5: numbered subjects, montage above the subject, ``.tse`` and ``.lbl``."""
    montage = ["FP1-F7", "F7-T3", "T3-T5", "T5-O1"]
    for split, part, subject in (("train", "01_tcp_ar", "00000258"), ("dev", "02_tcp_le", "00000675"), ("dev", "03_tcp_ar_a", "00006546")):
        stem = root / "edf" / split / part / subject[3:6] / subject / "s002_2003_07_21" / f"{subject}_s002_t000"
        channels = {"01_tcp_ar": TUH_AR, "02_tcp_le": TUH_LE, "03_tcp_ar_a": TUH_AR_A}[part]
        put(stem.with_suffix(".edf"), edf(channels))
        put(stem.with_suffix(".tse"), tse_of([(0, 10.2775, "bckg"), (10.2775, 35.7775, "fnsz"), (35.7775, 60, "bckg")]))
        put(stem.with_suffix(".tse_bi"), tse_of([(0, 10.2775, "bckg"), (10.2775, 35.7775, "seiz"), (35.7775, 60, "bckg")]))
        put(stem.with_suffix(".lbl"), lbl_of([(0, 10.2775, 30.5, "fnsz"), (8, 12, 35.7775, "fnsz")], montage if split == "dev" else ()))
        put(stem.with_suffix(".lbl_bi"), lbl_of([(0, 10.2775, 30.5, "seiz")]))
    return root


def tusz_v2(root: Path) -> Path:
    """TUSZ 2.0: lettered subjects, montage below the session, ``.csv`` and ``.csv_bi``; one subject is in two splits."""
    for split, subject in (("train", "aaaaaaac"), ("dev", "aaaaaabb"), ("eval", "aaaaaacc"), ("train", "aaaaaacc"), ("train", "aaaaaabb")):
        stem = root / "edf" / split / subject / "s001_2002" / "02_tcp_le" / f"{subject}_s001_t00{split == 'train':d}"
        put(stem.with_suffix(".edf"), edf(TUH_LE))
        rows = [("FP1-F7", 0, 36.8868, "bckg"), ("FP1-F7", 36.8868, 52.5, "cpsz"), ("T4-A2", 40.25, 60, "gnsz")]
        put(stem.with_suffix(".csv"), csv_of(rows))
        put(stem.with_suffix(".csv_bi"), csv_of([("TERM", 0, 36.8868, "bckg"), ("TERM", 36.8868, 60, "seiz")]))
    return root


def tuev(root: Path) -> Path:
    """TUEV 2.0: ``.rec`` files; eval recordings are named after an event."""
    for name in ("train/aaaaaaar/aaaaaaar_00000001", "train/aaaaaaar/aaaaaaar_00000002", "eval/000/bckg_000_a_", "eval/032/pled_032_a_1"):
        put(root / "edf" / f"{name}.edf", edf())
        put(root / "edf" / f"{name}.rec", "0,1.0,2.0,1\n13,10.5,11.5,2\n21,20.0,21.0,3\n14,30.0,31.0,4\n14,31.0,32.0,5\n8,40.0,41.0,6\n")
    return root


def hmc(root: Path) -> Path:
    """HMC 1.1: the first recording is scored as text and EDF+, the second as EDF+ only, the third not at all."""
    stages = ["W", "N1", "N2", "N3", "R", "?"]
    head = "Date, Time, Recording onset, Duration, Annotation, Linked channel\n"
    lines = [f"2001-01-01, 22:{i // 2:02d}:{30 * (i % 2):02d}, {30 * i}, 30, Sleep stage {stage}, \n" for i, stage in enumerate(stages)]
    lines.insert(1, "2001-01-01, 22:00:11, 11.5, 0, Lights off@@EEG F4-M1, \n")
    notes = [(30.0 * i, 30.0, f"Sleep stage {stage}") for i, stage in enumerate(stages)]
    for number in (1, 2, 3):
        put(root / f"SN00{number}.edf", edf(HMC_LABELS, duration_s=180))
    put(root / "SN001_sleepscoring.txt", head + "".join(lines))
    put(root / "SN001_sleepscoring.edf", annotations_only(notes))
    put(root / "SN002_sleepscoring.edf", annotations_only(notes, per_record=2))
    return root


def sleep_edf(root: Path) -> Path:
    """Sleep-EDF expanded: two nights of one cassette subject, one telemetry night, stages by Rechtschaffen and Kales."""
    notes = [(0, 30, "Sleep stage W"), (30, 30, "Sleep stage 1"), (60, 30, "Sleep stage 3"), (90, 30, "Sleep stage 4")]
    notes += [(120, 30, "Movement time"), (150, 30, "Sleep stage R"), (180, 3600, "Sleep stage ?")]
    labels = ("EEG Fpz-Cz", "EEG Pz-Oz", "EOG horizontal", "Resp oro-nasal", "EMG submental", "Temp rectal", "Event marker")
    for folder, night, scored in (
        ("sleep-cassette", "SC4001E0", "SC4001EC"), ("sleep-cassette", "SC4002E0", "SC4002EC"), ("sleep-telemetry", "ST7011J0", "ST7011JP"),
    ):  # fmt: skip
        put(root / folder / f"{night}-PSG.edf", edf(labels, duration_s=180))
        put(root / folder / f"{scored}-Hypnogram.edf", annotations_only(notes))
    return root


def dreams(root: Path) -> Path:
    """DREAMS: spindles and K-complexes with two readers, and a whole night."""
    labels = ("EOG1-A1", "FP1-A1", "C3-A1", "O1-A1", "EMG1")
    for folder, word, channel in (("DatabaseSpindles", "Spindles", "C3-A1"), ("DatabaseKcomplexes", "KComplexes", "CZ-A1")):
        place = root / folder
        put(place / "excerpt1.edf", edf(labels))
        put(place / "Visual_scoring1_excerpt1.txt", f"[vis1_{word}/{channel}]\r\n10.24\t0.8\r\n30.5\t1.25\r\n")
        put(place / "Visual_scoring2_excerpt1.txt", f"[vis2_{word}/{channel}]\n10.3 0.7\n")
        put(place / "Automatic_detection_excerpt1.txt", f"[{word}/{channel}]\n50 1\n")
        put(
            place / "Hypnogram_excerpt1.txt",
            "[hypnogram]\n" + "\n".join(["5", "5", "3", "2", "2", "2", "-1", "1", "0", "4", "-2", "5"]) + "\n",
        )
    place = root / "DatabaseSubjects"
    put(place / "subject1.edf", edf(labels))
    put(place / "HypnogramAASM_subject1.txt", "[hypnogram]\n" + "1\n" * 12)
    put(place / "HypnogramR&K_subject1.txt", "[hypnogram]\n" + "2\n" * 12)
    return root


def chb_mit(root: Path) -> Path:
    """CHB-MIT: two cases that are one person, a summary with both spellings of a seizure."""
    head = "Data Sampling Rate: 256 Hz\n*************************\n\nChannels in EDF Files:\n**********************\nChannel 1: FP1-F7\n\n"
    summary = head + (
        "File Name: {case}_01.edf\nFile Start Time: 11:42:54\nFile End Time: 11:43:54\nNumber of Seizures in File: 0\n\n"
        "File Name: {case}_03.edf\nFile Start Time: 13:43:04\nFile End Time: 13:44:04\nNumber of Seizures in File: 1\n"
        "Seizure Start Time: 29 seconds\nSeizure End Time: 40 seconds\n\n"
        "File Name: {case}_16+.edf\nFile Start Time: 15:43:04\nFile End Time: 15:44:04\nNumber of Seizures in File: 2\n"
        "Seizure 1 Start Time: 10 seconds\nSeizure 1 End Time: 20 seconds\n"
        "Seizure 2 Start Time: 30 seconds\nSeizure 2 End Time: 44 seconds\n"
    )
    for case in ("chb01", "chb21"):
        for number in ("01", "03", "16+", "99"):
            put(root / case / f"{case}_{number}.edf", edf(CHB_LABELS))
        put(root / case / f"{case}-summary.txt", summary.format(case=case))
        put(root / case / f"{case}_03.edf.seizures", b"\x00\x01")
    return root


def siena(root: Path) -> Path:
    """Siena: lists typed by hand, with the slips that the release has."""
    head = "Data Sampling Rate: 512 Hz\n**************************\n\nChannels in EDF Files:\n**********************\nChannel 1: Fp1\n\n"
    labels = (*(f"EEG {name}" for name in CHANNELS), "EEG Fc1", "EKG EKG")
    for name in ("PN00/PN00-1", "PN00/PN00-2", "PN00/PN00-3", "PN01/PN01-1", "PN06/PN06-1", "PN12/PN12-1.2"):
        put(root / f"{name}.edf", edf(labels, duration_s=120))
    put(
        root / "PN00" / "Seizures-list-PN00.txt",
        head + "Seizure n 1\nFile name: PN00-1.edf\nRegistration start time: 19.39.33\nRegistration end time:  19.41.33\n"
        "Seizure start time: 19.39.58\nSeizure end time: 19.40.09\n\n"
        "Seizure n 2\nFile name: PN00-3.edf\nRegistration start time:1 8.15.44\nRegistration end time: 18.17.44\n"
        "Seizure start time: 18.16.20\nSeizure end time: 19.16.50\n",
    )
    put(
        root / "PN01" / "Seizures-list-PN01.txt",
        head + "File name: PN01.edf\nRegistration start time: 23.59.30\nRegistration end time: 00.01.30\n\n"
        "Seizure n 1\nStart time: 23:59:50\nEnd time: 00:00:10\n\nSeizure n 2\nStart time: 00:00:40\nEnd time: 00:00:55\n",
    )
    put(
        root / "PN06" / "Seizures-list-PN06.txt",
        head + "Seizure n 1\nFile name: PNO6-1.edf \nRegistration start time: 04.21.22\nRegistration end time: 04.23.22\n"
        "Seizure start time: 04.22.00\nSeizure end time: 04.xx.10\n",
    )
    put(
        root / "PN12" / "Seizures-list-PN12.txt",
        head + "Seizure n 1\nFile name: PN12-1.2.edf\nRegistration start time: 15.51.31\nRegistration end time: 15.53.31\n"
        "Seizure start time: 15.51.41\nSeizure end time: 15.51.51\n\nSeizure n 2\nFile name: PN12-1.2.edf\n"
        "Seizure start time: 15.52.31\nSeizure end time: 15.52.41\n",
    )
    return root


def bids(root: Path) -> Path:
    """BIDS-EEG: SzCORE events, HED-SCORE tags, plain stage names, and a recording without an event table."""
    put(root / "dataset_description.json", '{"Name": "x", "BIDSVersion": "1.9.0"}')
    put(root / "participants.tsv", "participant_id\tage\nsub-01\t34\nsub-02\t7\n")
    for stem in ("sub-01/ses-01/eeg/sub-01_ses-01_task-szMonitoring_run-00", "sub-02/eeg/sub-02_task-rest", "sub-03/eeg/sub-03_task-rest"):
        put(
            root / f"{stem}_eeg.edf",
            edf(CHANNELS, notes=[note(5, 2, "seizure"), note(9, 1, "Mrs Roe asks for water")] if "03" in stem else ()),
        )
    put(root / "derivatives/clean/sub-01/eeg/sub-01_task-rest_eeg.edf", edf(CHANNELS))
    put(
        root / "sub-01/ses-01/eeg/sub-01_ses-01_task-szMonitoring_run-00_events.tsv",
        "onset\tduration\teventType\tconfidence\tchannels\tdateTime\trecordingDuration\n"
        "0.0\t60.0\tbckg\tn/a\tall\t2016-11-06 13:43:04\t60.0\n"
        "12.5\t10.25\tsz_foc_ia_m_automatisms\t0.9\tF7,T7\t2016-11-06 13:43:04\t60.0\n"
        "30\t10\tsz\tn/a\tn/a\t2016-11-06 13:43:04\t60.0\n"
        "45\t5\timpd\tn/a\tn/a\t2016-11-06 13:43:04\t60.0\n",
    )
    put(
        root / "sub-01/ses-01/eeg/sub-01_ses-01_task-szMonitoring_run-00_channels.tsv",
        "name\ttype\tunits\tstatus\nO1\tEEG\tuV\tbad\nO2\tEEG\tuV\tgood\n",
    )
    put(
        root / "sub-02/eeg/sub-02_task-rest_events.tsv",
        "onset\tduration\ttrial_type\tHED\tchannel\n"
        "1\tn/a\tstimulus\tn/a\tn/a\n"
        "2\t0.5\tblink of John Doe\t(sc:Eye-blink-artifact, sc:Feature-location/Fp1)\tFp1\n"
        "3\t0.2\tn/a\tProperty/Data-property/Signal-morphology-property/Spike, Sharp-wave\tT7-P7\n"
        "4\t1.0\tsleep_spindle\tn/a\tC3\n"
        "20\t30\tSleep stage N2\tn/a\tn/a\n",
    )
    return root
