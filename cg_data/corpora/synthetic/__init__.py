"""The embedded corpus: synthetic EDF+ recordings whose truth is known to the sample.

It is honest in small things: amplitudes, durations, frequencies and fields vary between subjects and events, events overlap, some lie
near the threshold of being seen. It is not clinical EEG, and what a model scores on it says only that the machine works.
"""

from __future__ import annotations

import datetime

import edfio
import numpy as np

from cg_data import storage
from cg_data.corpora.synthetic.subject import Recorded, record
from cg_data.corpora.synthetic.traits import State, Subject, make_subject
from cg_data.progress import Progress, silent
from cg_data.settings import SyntheticSettings
from cg_data.vocabulary import CHANNEL_INDEX, WAVEFORMS

_STATE_TEXTS = {
    State.EYES_CLOSED: ("Sleep stage W", "Eyes closed"),
    State.EYES_OPEN: ("Sleep stage W", "Eyes open"),
    State.N2: ("Sleep stage N2",),
    State.N3: ("Sleep stage N3",),
}
_LIMIT_UV = (-3276.8, 3276.7)
_START = datetime.datetime(2020, 1, 1, 9, 0, 0)


def write_corpus(out_uri: str, settings: SyntheticSettings, progress: Progress = silent) -> list[str]:
    """Write one EDF+ file per subject into `out_uri`; the same settings write the same bytes.

    Returns:
        URIs of the files in order of the subjects.

    Raises:
        StorageError: the folder cannot be written.
    """
    uris = []
    for number in range(settings.subjects):
        recorded = record(make_subject(number, settings.seed), round(settings.minutes_per_subject * 60))
        uris.append(storage.join(out_uri, f"sub-{number:04d}.edf"))
        storage.write_bytes(uris[-1], edf_bytes(recorded))
        progress(number + 1, settings.subjects, "subjects")
    return uris


def edf_bytes(recorded: Recorded) -> bytes:
    """A recording as an EDF+C file, 0.1 uV a step, truth as annotations (`cg_data.reference_labels` reads them back).

    Every waveform is marked wherever it is (``searched``).
    """
    subject = recorded.subject
    eeg = [(_label(name, subject), recorded.eeg_uv[CHANNEL_INDEX[name]]) for name in subject.electrodes]
    signals = [
        edfio.EdfSignal(
            np.clip(row, *_LIMIT_UV), sampling_frequency=subject.sfreq_hz, label=label, physical_dimension="uV", physical_range=_LIMIT_UV
        )
        for label, row in (*eeg, ("ECG", recorded.ecg_uv))
    ]
    states = [
        edfio.EdfAnnotation(start_s, stop_s - start_s, text) for start_s, stop_s, state in recorded.timeline for text in _STATE_TEXTS[state]
    ]
    truths = [edfio.EdfAnnotation(t.onset_s, t.duration_s, f"{t.name}@@{_label(t.channel, subject)}") for t in recorded.truths]
    duration_s = recorded.timeline[-1][1]
    searched = [edfio.EdfAnnotation(0, duration_s, f"searched:{waveform}") for waveform in WAVEFORMS]
    edf = edfio.Edf(
        signals,
        patient=edfio.Patient(code=f"CGS-{recorded.subject.number:04d}"),
        recording=edfio.Recording(startdate=_START.date()),
        starttime=_START.time(),
        data_record_duration=1,
        annotations=sorted([*states, *truths, *searched], key=lambda a: (a.onset, a.text)),
    )
    return edf.to_bytes()


def _label(channel: str, subject: Subject) -> str:
    return f"EEG {channel}-{subject.reference}"
