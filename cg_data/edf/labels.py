"""Which signal of a recording is which electrode of the 10-20 system, under whatever dialect of labels.

Read are ``EEG Fp1``, ``Fc5.``, ``EEG FP1-REF``, ``EEG FP1-LE``, ``Fp1-A1``, ``FP1-AVG``, ``POL Fp1``, ``C3A2``, ``T7`` for T3 and the like.
A bipolar derivation (``Fp1-F7``, ``T3-Cz``) is no electrode: what follows the hyphen must name a reference (an ear, an average, or one of
the midline electrodes FCz, CPz, AFz that amplifiers use as such), not an electrode of a bipolar chain. Of two signals for one electrode
the first counts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from cg_data.vocabulary import CHANNEL_SYNONYMS, CHANNELS

_CANONICAL = {name.upper(): name for name in CHANNELS} | {new.upper(): old for new, old in CHANNEL_SYNONYMS.items()}
_EAR = r"[AM][12]"
_EARS = rf"\(*{_EAR}(?:\s*[+,/]?\s*{_EAR}\)*(?:/2)?)?\)*"  # A1, A1A2, A1+A2, ((M1+M2)/2)
_REFERENCE = (
    rf"{_EARS}|A12|TP9|TP10|V?REF\d?|LER?|LM|LINK|LINKED|AV|AVE|AVG|AVERAGE|AR|AA|CAR|G\d\d?|GND|COM|ORG|NOSE|NZ|BN|IND|CS2|0|FCZ|CPZ|AFZ"
)
_LABEL = re.compile(
    rf"""
    (?:(?:EEG|POL|SCALP)[\s:._-]*)?               # kind of signal (EDF+ standard texts; Nihon Kohden)
    (?P<electrode>{"|".join(_CANONICAL)})
    (?:[\s.:_-]+(?P<reference>{_REFERENCE})|(?P<ears>{_EARS}))?   # C3-A2, C3 A2; without a hyphen only ears: C3A2
    [\s.]*(?:-\d)?                               # dots that fill the label; a number that some software adds to doubles
    """,
    re.VERBOSE | re.IGNORECASE,
)


def parse_label(label: str) -> tuple[str, str] | None:
    """10-20 name and reference (upper case, "" where none is written) of a signal label; None for anything else."""
    match = _LABEL.fullmatch(label.strip())
    if match is None:
        return None
    return _CANONICAL[match["electrode"].upper()], (match["reference"] or match["ears"] or "").upper()


def electrode_of(label: str) -> str | None:
    """10-20 name that a signal label stands for, or None."""
    parsed = parse_label(label)
    return parsed[0] if parsed else None


def pick_channels(labels: Sequence[str]) -> tuple[int | None, ...]:
    """Signal index for each of `CHANNELS`, in that order; None where the recording has no such electrode."""
    first: dict[str, int] = {}
    for index, label in enumerate(labels):
        electrode = electrode_of(label)
        if electrode is not None:
            first.setdefault(electrode, index)
    return tuple(first.get(name) for name in CHANNELS)
