"""Words of BIDS event tables in ours: SzCORE event types (Dan et al. 2024), tags of the HED-SCORE schema (Hermes et al. 2025), plain names.

Semiology after the ILAE class of a seizure (``sz_foc_ia_m_automatisms``) is seen on video, not in the EEG, and is left out.
"""

from __future__ import annotations

import re

from cg_data.reference_labels import page_mark
from cg_data.vocabulary import ArtefactCode, BackgroundCode, FindingKind, LabelKind, Pattern, SeizureType, Stage, Waveform

Term = tuple[LabelKind, str]

_SZCORE: dict[str, Term] = {
    "sz": (LabelKind.SEIZURE, SeizureType.SEIZURE),
    "bckg": (LabelKind.BACKGROUND, BackgroundCode.BACKGROUND),
    "impd": (LabelKind.ARTEFACT_CODE, ArtefactCode.IMPEDANCE_CHECK),
}
_ILAE = sorted((code for code in SeizureType if code.startswith("sz_")), key=len, reverse=True)
_HED_SCORE: dict[str, Term] = {
    "epileptic-seizure": (LabelKind.SEIZURE, SeizureType.SEIZURE),
    "electroencephalographic-seizure": (LabelKind.SEIZURE, SeizureType.SEIZURE),
    "focal-onset-epileptic-seizure": (LabelKind.SEIZURE, SeizureType.FOCAL),
    "aware-focal-onset-epileptic-seizure": (LabelKind.SEIZURE, SeizureType.FOCAL_AWARE),
    "impaired-awareness-focal-onset-epileptic-seizure": (LabelKind.SEIZURE, SeizureType.FOCAL_IMPAIRED_AWARENESS),
    "awareness-unknown-focal-onset-epileptic-seizure": (LabelKind.SEIZURE, SeizureType.FOCAL_UNKNOWN_AWARENESS),
    "focal-to-bilateral-tonic-clonic-focal-onset-epileptic-seizure": (LabelKind.SEIZURE, SeizureType.FOCAL_TO_BILATERAL_TONIC_CLONIC),
    "generalized-onset-epileptic-seizure": (LabelKind.SEIZURE, SeizureType.GENERALISED),
    "unknown-onset-epileptic-seizure": (LabelKind.SEIZURE, SeizureType.UNKNOWN_ONSET),
    "seizure-pnes": (LabelKind.PATTERN, Pattern.NON_EPILEPTIC_SEIZURE),
    "spike": (LabelKind.WAVEFORM, Waveform.SPIKE),
    "sharp-wave": (LabelKind.WAVEFORM, Waveform.SHARP_WAVE),
    "spike-and-slow-wave": (LabelKind.WAVEFORM, Waveform.SPIKE_AND_SLOW_WAVE),
    "sharp-and-slow-wave": (LabelKind.WAVEFORM, Waveform.SPIKE_AND_SLOW_WAVE),
    "sleep-spindles": (LabelKind.WAVEFORM, Waveform.SLEEP_SPINDLE),
    "sleep-spindle": (LabelKind.WAVEFORM, Waveform.SLEEP_SPINDLE),
    "k-complex": (LabelKind.WAVEFORM, Waveform.K_COMPLEX),
    "triphasic-morphology": (LabelKind.PATTERN, Pattern.TRIPHASIC),
    "generalized-periodic-discharges": (LabelKind.PATTERN, Pattern.GENERALISED_PERIODIC_DISCHARGES),
    "lateralized-periodic-discharges": (LabelKind.PATTERN, Pattern.LATERALISED_PERIODIC_DISCHARGES),
    "hypnagogic-hypersynchrony": (LabelKind.PATTERN, Pattern.HYPNAGOGIC_HYPERSYNCHRONY),
    "sleep-stage-n1": (LabelKind.STAGE, Stage.N1),
    "sleep-stage-n2": (LabelKind.STAGE, Stage.N2),
    "sleep-stage-n3": (LabelKind.STAGE, Stage.N3),
    "sleep-stage-rem": (LabelKind.STAGE, Stage.REM),
    "eye-blink-artifact": (LabelKind.ARTEFACT, FindingKind.BLINK),
    "eye-movement-horizontal-artifact": (LabelKind.ARTEFACT, FindingKind.LATERAL_EYE_MOVEMENT),
    "emg-artifact": (LabelKind.ARTEFACT, FindingKind.MUSCLE),
    "line-noise-artifact": (LabelKind.ARTEFACT, FindingKind.MAINS),
    "electrode-pops-artifact": (LabelKind.ARTEFACT, FindingKind.ELECTRODE_POP),
    "ecg-artifact": (LabelKind.ARTEFACT, FindingKind.ECG),
    "sweat-artifact": (LabelKind.ARTEFACT, FindingKind.SWEAT),
    "respiration-artifact": (LabelKind.ARTEFACT, FindingKind.RESPIRATION),
    "eye-movement-artifact": (LabelKind.ARTEFACT_CODE, ArtefactCode.EYE_MOVEMENT),
    "chewing-artifact": (LabelKind.ARTEFACT_CODE, ArtefactCode.CHEWING),
}
_OURS: dict[str, Term] = {waveform.value: (LabelKind.WAVEFORM, waveform.value) for waveform in Waveform}
_TAG = re.compile(r"[^(),]+")


def terms_of(text: str) -> list[Term]:
    """Labels that an event's text names: its one word, or each tag of a HED string; empty where it names none."""
    whole = _term(text)
    if whole is not None:
        return [whole]
    tags = [tag.strip().rsplit("/", 1)[-1].rsplit(":", 1)[-1] for tag in _TAG.findall(text)]
    return list(dict.fromkeys(term for tag in tags if (term := _HED_SCORE.get(tag.lower())) is not None))


def _term(text: str) -> Term | None:
    word = text.strip()
    if (named := page_mark(word)) is not None:
        return named
    if re.fullmatch(r"sz(?:_\w+)?", word) is not None:
        return next(((LabelKind.SEIZURE, code.value) for code in _ILAE if f"{word}_".startswith(f"{code}_")), _SZCORE["sz"])
    return _SZCORE.get(word) or _OURS.get(word) or _HED_SCORE.get(word.lower().replace(" ", "-").replace("_", "-"))
