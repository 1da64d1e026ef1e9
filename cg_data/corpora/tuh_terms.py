"""The label codes of the TUH EEG corpora in our words (annotation guidelines v39, Ochal et al. 2020; label map of the NEDC tools)."""

from __future__ import annotations

import re

from cg_data.vocabulary import ArtefactCode, BackgroundCode, FindingKind, LabelKind, Pattern, SeizureType

NULL = frozenset({"null", "(null)"})
"""Codes that mark nothing."""

_SAME_THING: dict[str, tuple[LabelKind, str]] = {
    "seiz": (LabelKind.SEIZURE, SeizureType.SEIZURE),
    "musc": (LabelKind.ARTEFACT, FindingKind.MUSCLE),
    "eybl": (LabelKind.ARTEFACT, FindingKind.BLINK),
    "elpp": (LabelKind.ARTEFACT, FindingKind.ELECTRODE_POP),
}
_OWN_CODES: dict[str, tuple[LabelKind, str]] = {
    code.value: (kind, code.value)
    for kind, codes in (
        (LabelKind.SEIZURE, [code for code in SeizureType if re.fullmatch(r"\w\wsz", code)]),
        (LabelKind.PATTERN, list(Pattern)),
        (LabelKind.BACKGROUND, list(BackgroundCode)),
        (LabelKind.ARTEFACT_CODE, [code for code in ArtefactCode if code not in (ArtefactCode.BAD_CHANNEL, ArtefactCode.IMPEDANCE_CHECK)]),
    )
    for code in codes
}
TERMS: dict[str, tuple[LabelKind, str]] = _OWN_CODES | _SAME_THING
"""Kind and name of a label by its code; two artefacts at once have their code in either order."""

REC_CODES: dict[str, str] = {"1": "spsw", "2": "gped", "3": "pled", "4": "eyem", "5": "artf", "6": "bckg"}
"""Numbers of the ``.rec`` files of TUEV."""

_CODE = re.compile(r"[a-z]{4}(?:_[a-z]{4})?")


def term_of(code: str) -> tuple[LabelKind, str] | None:
    """Kind and name of a code in any case, or None."""
    code = code.strip().lower()
    return TERMS.get(code) or TERMS.get("_".join(reversed(code.split("_"))))


def unknown_term(code: str) -> str:
    """The rule's name for a code that is not known; the code itself is in it only if it can be one, for else it is free text."""
    code = code.strip().lower()
    return f"labels.unknown_term:{code}" if _CODE.fullmatch(code) else "labels.unknown_term"
