"""Which of the nineteen electrodes a recording holds, and from which of its signals they are had.

Two kinds of recording are read. In a *referential* one each signal is an electrode against a reference; of two signals for one electrode
the first counts. In a *bipolar* one the signals are differences between electrodes ("Fp1-F7", "T7-FT9"): wherever derivations connect
electrodes, their potentials follow exactly but for a constant, so the connected group with the most of the nineteen is taken. Whichever
kind gives more electrodes is read; all else is missing, never invented.

Signals are read at one rate, the one that gives the most electrodes; an electrode recorded at another rate is missing. (Montages mix
electrodes, and one of a narrower band would mix its missing half into all others; no system records scalp electrodes at several rates on
purpose.)
"""

from __future__ import annotations

import dataclasses
import functools
import re

import numpy as np
import numpy.typing as npt

from cg_data.edf.labels import parse_label, pick_channels
from cg_data.errors import MontageError
from cg_data.montage import enough_for_average
from cg_data.signal_file import SignalFile
from cg_data.vocabulary import CHANNEL_INDEX, CHANNEL_SYNONYMS, CHANNELS, N_CHANNELS, Montage

EARS = ("A1", "A2")
_SITE = r"(?:FP|AF|F|FT|FC|T|C|TP|CP|P|PO|O|I|N)(?:\d{1,2}|Z)|[AM][12]"
_DERIVATION = re.compile(
    rf"(?:(?:EEG|POL)[\s:._-]*)?(?P<plus>{_SITE})\s*-\s*(?P<minus>{_SITE})[\s.]*(?:-(?:\d|REF))?", re.IGNORECASE
)  # CHB-MIT numbers its doubles: T8-P8-0, T8-P8-1
_EAR = re.compile(r"(?:EEG[\s:._-]*)?[AM](?P<side>[12])(?:[\s.:_-]+(?P<reference>\w+))?[\s.]*", re.IGNORECASE)
_LINKED_EARS = re.compile(r"LER?|LM|LINK|LINKED|A12|\W*[AM]1\W*[AM]2\W*(?:2\W*)?|\W*[AM]2\W*[AM]1\W*(?:2\W*)?")
_MANY_NAMES = 12


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Electrodes:
    """`channels` says what each of `signals` (indices into the file, all of `sfreq_hz`) is: an electrode, a difference or an ear.

    `names` are the electrodes of the nineteen that follow from them, in page order; `references` are those of a referential recording,
    in upper case.
    """

    signals: tuple[int, ...]
    channels: tuple[str, ...]
    names: tuple[str, ...]
    sfreq_hz: float
    references: frozenset[str]
    flags: tuple[str, ...] = ()

    @property
    def is_bipolar(self) -> bool:
        return any("-" in channel for channel in self.channels)


def find_electrodes(file: SignalFile, min_electrodes: int) -> Electrodes:
    """The electrodes of a file, referential or bipolar.

    Flags: ``montage.duplicate_channel``, ``montage.mixed_reference`` (two ears, say), ``montage.rates_differ`` (electrodes recorded at
    another rate are missing) and ``montage.from_bipolar``.

    Raises:
        MontageError: fewer than `min_electrodes`: ``montage.rates_differ`` where one rate would have given enough, ``montage.bipolar``
            where derivations do not hang together, else ``montage.channels_missing``.
    """
    labels = dict(enumerate(file.labels))
    parts = {i: label for i, label in labels.items() if parse_label(label) is not None or parse_derivation(label) is not None}
    rates_hz = {i: file.sfreq_hz(i) for i in parts}
    whole = _most(parts, 0.0)
    found = max(
        (
            _most({i: parts[i] for i in parts if rates_hz[i] == rate_hz}, rate_hz)
            for rate_hz in sorted(set(rates_hz.values()), reverse=True)
        ),
        key=lambda electrodes: len(electrodes.names),
        default=whole,
    )
    if len(found.names) < min_electrodes:
        raise _too_few(file, found, whole, min_electrodes)
    differ = ("montage.rates_differ",) if len(found.names) < len(whole.names) else ()
    return dataclasses.replace(found, flags=found.flags + differ)


def parse_derivation(label: str) -> tuple[str, str] | None:
    """The two electrodes of a bipolar label in our spelling ("FP1-F7": Fp1 and F7; "T7-FT9": T3 and FT9), or None."""
    match = _DERIVATION.fullmatch(label.strip())
    if match is None:
        return None
    plus, minus = _spelt(match["plus"]), _spelt(match["minus"])
    return None if plus == minus else (plus, minus)


def with_ears(file: SignalFile, electrodes: Electrodes) -> Electrodes:
    """The electrodes with the two ears (or mastoids) behind them as further channels, for the montage against linked ears.

    Where the recording is against linked ears already, nothing need be added.

    Raises:
        MontageError: ``montage.ears_missing``.
    """
    if electrodes.references and all(_LINKED_EARS.fullmatch(reference) for reference in electrodes.references):
        return electrodes
    ears: dict[str, int] = {}
    for i, label in enumerate(file.labels):
        match = _EAR.fullmatch(label.strip())
        same = match is not None and electrodes.references == {(match["reference"] or "").upper()}
        if match is not None and same and file.sfreq_hz(i) == electrodes.sfreq_hz:
            ears.setdefault(f"A{match['side']}", i)
    if electrodes.is_bipolar or set(ears) != set(EARS):
        raise MontageError(
            "montage.ears_missing",
            f"{file.name}: the montage against linked ears needs A1 and A2 (or M1 and M2) recorded against the reference of the other "
            f"electrodes; the file's signals are {_shown(file.labels)}. Set data.montage to average or recorded.",
        )
    return dataclasses.replace(
        electrodes, signals=(*electrodes.signals, *(ears[ear] for ear in EARS)), channels=(*electrodes.channels, *EARS)
    )


def montage_of(electrodes: Electrodes, wanted: Montage) -> tuple[Montage, tuple[str, ...]]:
    """The montage in which a recording's segments are stored, and its flag.

    An average is taken for zero only where the electrodes lie over the whole head (Bertrand et al. 1985: its error grows as the coverage
    shrinks; over one side, activity of that side would be subtracted from itself). With fewer the recorded reference stays; differences
    have none, so theirs is the average of what there is. Both are flagged ``montage.few_electrodes``.
    """
    if electrodes.is_bipolar:
        return Montage.AVERAGE, () if enough_for_average(electrodes.names) else ("montage.few_electrodes",)
    if wanted is Montage.AVERAGE and not enough_for_average(electrodes.names):
        return Montage.RECORDED, ("montage.few_electrodes",)
    return wanted, ()


@functools.lru_cache(maxsize=64)
def potentials_matrix(channels: tuple[str, ...], names: tuple[str, ...]) -> npt.NDArray[np.float32]:
    """Potentials of electrodes `names` from connected differences `channels` ("Fp1-F7"), float32 `(names, channels)`.

    The least-squares solution of smallest norm (Moore-Penrose): exact where the differences are consistent, against the average of all
    that the derivations touch. The array is kept for the next call: do not write to it.
    """
    pairs = [channel.split("-") for channel in channels]
    nodes = list(dict.fromkeys(name for pair in pairs for name in pair))
    incidence = np.zeros((len(pairs), len(nodes)))
    for row, (plus, minus) in enumerate(pairs):
        incidence[row, nodes.index(plus)], incidence[row, nodes.index(minus)] = 1.0, -1.0
    solution: npt.NDArray[np.float32] = np.linalg.pinv(incidence)[[nodes.index(name) for name in names]].astype(np.float32)
    return solution


def _most(labels: dict[int, str], sfreq_hz: float) -> Electrodes:
    """The richer of the two readings of some signals; where they are equal the referential one, if its reference is one."""
    referential, bipolar = _referential(labels, sfreq_hz), _bipolar(labels, sfreq_hz)
    more = len(bipolar.names) - len(referential.names)
    return bipolar if more > 0 or (more == 0 and len(referential.references) > 1) else referential


def _referential(labels: dict[int, str], sfreq_hz: float) -> Electrodes:
    keys = list(labels)
    picked = {name: keys[at] for name, at in zip(CHANNELS, pick_channels(list(labels.values())), strict=True) if at is not None}
    parsed = [entry for label in labels.values() if (entry := parse_label(label)) is not None]
    references = frozenset(reference for _, reference in parsed)
    flags = ["montage.duplicate_channel"] * (len(picked) < len(parsed)) + ["montage.mixed_reference"] * (len(references) > 1)
    return Electrodes(
        signals=tuple(picked.values()),
        channels=tuple(picked),
        names=tuple(picked),
        sfreq_hz=sfreq_hz,
        references=references,
        flags=tuple(flags),
    )


def _bipolar(labels: dict[int, str], sfreq_hz: float) -> Electrodes:
    first: dict[frozenset[str], tuple[int, str, str]] = {}
    doubles = 0
    for i, label in labels.items():
        pair = parse_derivation(label)
        if pair is not None:
            doubles += frozenset(pair) in first
            first.setdefault(frozenset(pair), (i, *pair))
    group = max(_groups(list(first)), key=lambda nodes: len(nodes & set(CHANNELS)), default=frozenset[str]())
    used = [(i, f"{plus}-{minus}") for i, plus, minus in first.values() if plus in group]
    return Electrodes(
        signals=tuple(i for i, _ in used),
        channels=tuple(channel for _, channel in used),
        names=tuple(name for name in CHANNELS if name in group),
        sfreq_hz=sfreq_hz,
        references=frozenset(),
        flags=("montage.from_bipolar",) + ("montage.duplicate_channel",) * (doubles > 0),
    )


def _groups(pairs: list[frozenset[str]]) -> list[frozenset[str]]:
    """The connected components of a graph of electrodes, by their first electrode in page order."""
    groups: list[frozenset[str]] = []
    for pair in pairs:
        touched = [group for group in groups if group & pair]
        groups = [group for group in groups if not group & pair] + [pair.union(*touched)]
    return sorted(groups, key=lambda group: min(CHANNEL_INDEX.get(name, N_CHANNELS) for name in group))


def _spelt(site: str) -> str:
    """An electrode in our spelling: "FP1" is Fp1, "T7" is T3, "POZ" is POz."""
    name = site.upper().replace("FP", "Fp").replace("Z", "z")
    return CHANNEL_SYNONYMS.get(name, name)


def _too_few(file: SignalFile, found: Electrodes, whole: Electrodes, min_electrodes: int) -> MontageError:
    labels = file.labels
    if len(whole.names) >= min_electrodes:
        return MontageError(
            "montage.rates_differ",
            f"{file.name}: no sampling rate has {min_electrodes} of the nineteen 10-20 electrodes ({', '.join(whole.names)} are recorded "
            "at several). Export the recording at one rate.",
        )
    if not _referential(dict(enumerate(labels)), 0.0).names and sum(parse_derivation(label) is not None for label in labels) >= 2:
        return MontageError(
            "montage.bipolar",
            f"{file.name}: the signals are bipolar ({_shown(labels)}) and connect only {len(found.names)} of the nineteen 10-20 "
            f"electrodes; {min_electrodes} are needed. Export the recording with a common reference.",
        )
    missing = [name for name in CHANNELS if name not in found.names]
    return MontageError(
        "montage.channels_missing",
        f"{file.name}: {len(found.names)} of the nineteen 10-20 electrodes found ({', '.join(found.names) or 'none'}), "
        f"missing {', '.join(missing)}; {min_electrodes} are needed. The file's signals are {_shown(labels)}.",
    )


def _shown(labels: tuple[str, ...]) -> str:
    shown = ", ".join(f"'{label}'" for label in labels[:_MANY_NAMES])
    return shown + (f" and {len(labels) - _MANY_NAMES} more" if len(labels) > _MANY_NAMES else "")
