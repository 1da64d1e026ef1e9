"""A recording as its corpus lists it, before it is opened."""

from __future__ import annotations

import dataclasses

from cg_data.vocabulary import Split


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """One file. `subject` is the corpus's own code for the patient ("" where only the header tells): identity, so it stays in the driver.

    `split` is the corpus's official one, or None; `label_uris` are the files beside it that hold its labels.
    """

    uri: str
    subject: str = ""
    split: Split | None = None
    label_uris: tuple[str, ...] = ()
