"""Where recordings come from: one module for each corpus, which lists its recordings and reads their labels."""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol

from cg_data.corpora import bids, chb_mit, dreams, folder, hmc, siena, sleep_edf, tuab, tuar, tuep, tuev, tusl, tusz
from cg_data.corpora.source import Source
from cg_data.marks import Labels
from cg_data.signal_file import SignalFile


class CorpusName(StrEnum):
    """The corpora that can be read; ``folder`` is any folder of EDF files, ``synthetic`` the embedded corpus."""

    TUSZ = "tusz"
    TUAB = "tuab"
    TUEV = "tuev"
    TUAR = "tuar"
    TUEP = "tuep"
    TUSL = "tusl"
    HMC = "hmc"
    DREAMS = "dreams"
    SLEEP_EDF = "sleep-edf"
    CHB_MIT = "chb-mit"
    SIENA = "siena"
    BIDS = "bids"
    FOLDER = "folder"
    SYNTHETIC = "synthetic"


class Corpus(Protocol):
    """What the module of a corpus offers."""

    def sources(self, uri: str) -> list[Source]:
        """Recordings below `uri`, in order; only names and lists are read.

        Raises:
            StorageError: there are none, or the place cannot be read.
        """
        ...

    def labels(self, source: Source, file: SignalFile) -> Labels:
        """Reference labels of one recording; damaged ones are counted, never repaired.

        Raises:
            StorageError: a label file cannot be fetched.
        """
        ...


CORPORA: dict[CorpusName, Corpus] = {
    CorpusName.TUSZ: tusz,
    CorpusName.TUAB: tuab,
    CorpusName.TUEV: tuev,
    CorpusName.TUAR: tuar,
    CorpusName.TUEP: tuep,
    CorpusName.TUSL: tusl,
    CorpusName.HMC: hmc,
    CorpusName.DREAMS: dreams,
    CorpusName.SLEEP_EDF: sleep_edf,
    CorpusName.CHB_MIT: chb_mit,
    CorpusName.SIENA: siena,
    CorpusName.BIDS: bids,
    CorpusName.FOLDER: folder,
    CorpusName.SYNTHETIC: folder,
}
