"""How many tokens each sample has, without drawing a page or decoding a picture; counted once and kept beside the stages' journals.

Workers take shards in turn and write one small file for each, which holds as long as the shard, the tokenizer and the sizes of pages and
pictures are the same. A shard is read in parts, without its signals.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cg_data import storage
from cg_data.errors import UserError
from cg_data.instruct.prompt import SYSTEM_PROMPT
from cg_data.records import Message, content_id
from cg_data.settings import PageSettings
from cg_train.batches import SampleStore
from cg_train.model.encode import dialogue_text, image_tokens, picture_tokens
from cg_train.packs import SampleLengths
from cg_train.recipe import PictureSettings

_COLUMNS = ["sample_id", "split", "messages", "mask", "picture"]
_SCHEMA = pa.schema({"sample_id": pa.string(), "tokens": pa.int32(), "images": pa.int32()})
_ROWS = 512
"""Of a shard, in memory at a time."""


def length_files(folder: str, store: SampleStore, processor: Any, *, page: PageSettings, pictures: PictureSettings) -> LengthFiles:
    """Where lengths of the samples of `store` are kept, below `folder`.

    Raises:
        ConfigError: see `image_tokens`.
    """
    words = hashlib.sha256(processor.tokenizer.backend_tokenizer.to_str().encode()).hexdigest()
    name = content_id("lengths", store.split.value, words, SYSTEM_PROMPT, image_tokens(page), pictures.model_dump(mode="json"))
    return LengthFiles(folder=storage.join(folder, name), store=store, processor=processor, page=page, pictures=pictures)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LengthFiles:
    """Lengths of the samples of `store` for one processor, page and size of pictures, in a `folder` of their own."""

    folder: str
    store: SampleStore
    processor: Any
    page: PageSettings
    pictures: PictureSettings

    def write(self, *, rank: int, workers: int) -> None:
        """Count every `workers`-th shard from `rank` on, where this was not done before.

        Raises:
            UserError: a dialogue or picture that training could not use either.
        """
        for number in range(rank, len(self.store.shards), workers):
            if self._kept(number) is None:
                storage.write_parts(self._file(number), _SCHEMA, self._counted(number))

    def read(self) -> SampleLengths:
        """Of all rows of the store's index; every worker has written its part before.

        Raises:
            UserError: a file is missing or of other samples.
        """
        tables = [self._kept(number) for number in range(len(self.store.shards))]
        if any(table is None for table in tables):
            raise UserError(
                f"{self.folder}: not all lengths of samples are there. Did the samples change meanwhile? Start this step again."
            )
        whole = pa.concat_tables(tables)
        return SampleLengths(tokens=whole.column("tokens").to_numpy(), images=whole.column("images").to_numpy())

    def _kept(self, number: int) -> pa.Table | None:
        """What was counted of the shard, if it holds the same samples still."""
        if not storage.exists(self._file(number)):
            return None
        table = storage.read_table(self._file(number))
        ids = self.store.sample_ids_of(number)
        return table if table.column("sample_id").combine_chunks().equals(ids) else None

    def _file(self, number: int) -> str:
        return storage.join(self.folder, f"{content_id(self.store.shards[number])}.parquet")

    def _counted(self, number: int) -> Iterator[pa.Table]:
        filesystem, path = storage.resolve(self.store.shards[number])
        with pq.ParquetFile(path, filesystem=filesystem) as file:
            for batch in file.iter_batches(_ROWS, columns=_COLUMNS, use_threads=False):
                rows = [row for row in batch.to_pylist() if row["split"] == self.store.split.value]
                yield pa.Table.from_pydict(self._count(rows), schema=_SCHEMA)

    def _count(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Columns of `_SCHEMA`: a picture is one token of the text and stands for as many as it has."""
        visual = np.array([self._visual_tokens(row) for row in rows], dtype=np.int32)
        texts = [self._text(row, pictured=bool(count)) for row, count in zip(rows, visual, strict=True)]
        words = [len(ids) for ids in self.processor.tokenizer(texts)["input_ids"]] if texts else []
        tokens = np.array(words, dtype=np.int32) + visual - (visual > 0)
        return {"sample_id": [row["sample_id"] for row in rows], "tokens": tokens, "images": (visual > 0).astype(np.int32)}

    def _text(self, row: Mapping[str, Any], *, pictured: bool) -> str:
        messages = [Message(role=turn["role"], content=turn["content"]) for turn in row["messages"]]
        try:
            return dialogue_text(self.processor.tokenizer, messages, pictured=pictured)
        except UserError as error:
            raise UserError(f"sample {row['sample_id']}: {error}") from error

    def _visual_tokens(self, row: Mapping[str, Any]) -> int:
        if row["picture"] is None:
            return image_tokens(self.page) if row["mask"] else 0
        try:
            return picture_tokens(row["picture"], self.pictures)
        except (OSError, ValueError, SyntaxError) as error:
            raise UserError(f"sample {row['sample_id']}: its picture cannot be read ({error}). Make the general samples again.") from error
