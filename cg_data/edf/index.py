"""What one reading of a whole EDF file tells, kept so that the next reader of the file need not read it whole again."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cg_data.edf.alignment import SignalEvidence
from cg_data.errors import EdfError


class EdfIndex(BaseModel):
    """The result of `cg_data.edf.scan.scan`. It holds no text of the file: neither header fields nor annotations, so no identity.

    `runs` gives (first record, records, start in seconds) of each contiguous stretch; `origin_s` is the first record's start as written;
    `evidence` has one entry per signal.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format: str = Field(default="edf/1", pattern=r"^edf/1$")
    size: int
    sha256: str
    header_bytes: int
    header_sha256: str
    n_records: int
    origin_s: float
    runs: tuple[tuple[int, int, float], ...]
    flags: tuple[str, ...]
    evidence: tuple[SignalEvidence, ...]

    def to_bytes(self) -> bytes:
        """The index as JSON."""
        return self.model_dump_json().encode()

    @classmethod
    def from_bytes(cls, data: bytes, name: str) -> EdfIndex:
        """Read what `to_bytes` wrote; `name` is the recording's, for the message.

        Raises:
            EdfError: ``index.unreadable``.
        """
        try:
            return cls.model_validate_json(data)
        except ValidationError as error:
            raise EdfError(
                "index.unreadable", f"{name}: the index given for it is damaged or of another version. Open the file without one."
            ) from error
