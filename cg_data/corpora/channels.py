"""Names of the channels that reference labels are about: electrodes, and derivations of two electrodes."""

from __future__ import annotations

import re

from cg_data.edf.labels import electrode_of
from cg_data.montage import row_names
from cg_data.vocabulary import CHANNEL_INDEX, CHANNEL_SYNONYMS, Montage

_TEN_TEN = re.compile(r"(?:FP|AF|F|FT|FC|T|C|TP|CP|P|PO|O|I|N|A|M|SP)(?:\d{1,2}|Z)", re.IGNORECASE)
_PREFIX = re.compile(r"(?:EEG|POL)\s+", re.IGNORECASE)

TCP: tuple[str, ...] = row_names(Montage.TCP)
"""The temporal central parasagittal montage of the TUH corpora in its channel order (Lopez et al. 2016; their 01_tcp_ar and 02_tcp_le)."""
TCP_WITHOUT_EARS: tuple[str, ...] = tuple(name for name in TCP if name not in ("A1-T3", "T4-A2"))
"""The same without the derivations that need the ears (03_tcp_ar_a and 04_tcp_le_a)."""


def channel_name(text: str) -> str | None:
    """Our spelling of an electrode ("EEG FP1-REF": "Fp1") or a derivation ("FP1-F7": "Fp1-F7"); None for anything else."""
    text = text.strip()
    electrode = electrode_of(text)
    if electrode is not None:
        return electrode
    parts = [part for raw in _PREFIX.sub("", text, count=1).split("-") if (part := _electrode(raw)) is not None]
    if len(parts) != text.count("-") + 1 or len(parts) > 2 or len(set(parts)) < len(parts):
        return None
    return "-".join(parts)


def electrodes_in(channel: str) -> tuple[str, ...]:
    """Those of the nineteen electrodes that a channel's name speaks of: one, two, or none ("A1-T3": only T3)."""
    return tuple(part for part in channel.split("-") if part in CHANNEL_INDEX)


def _electrode(text: str) -> str | None:
    """An electrode of the 10-10 system in our spelling ("FP1": "Fp1", "T7": "T3", "POZ": "POz"), or None."""
    if _TEN_TEN.fullmatch(text) is None:
        return None
    name = text.upper().replace("FP", "Fp").replace("Z", "z")
    return CHANNEL_SYNONYMS.get(name, name)
