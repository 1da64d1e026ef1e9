"""Where recordings come from."""

import dataclasses
from enum import StrEnum
from typing import Any, Protocol

from cg_data.corpora.source import Source


class CorpusName(StrEnum):
    SYNTHETIC = "synthetic"
    EDF = "edf"


@dataclasses.dataclass
class Labels:
    labels: Any
    problems: tuple = ()


class _Corpus:
    def sources(self, uri: str) -> list[Source]:
        from cg_data.corpora.folder import list_recordings

        return [Source(uri=u) for u in list_recordings(uri)]

    def labels(self, source: Source, file: Any) -> Labels:
        return Labels(None)


CORPORA = {CorpusName.SYNTHETIC: _Corpus(), CorpusName.EDF: _Corpus()}
