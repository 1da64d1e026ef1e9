"""What a shard holds for those who read it without this package, and what comes back."""

from __future__ import annotations

import dataclasses
import struct

import numpy as np
import pytest

from cg_data.rows import SAMPLE_SCHEMA, SEGMENT_SCHEMA, sample_from_row, segment_from_row, table_of
from cg_data.vocabulary import SEGMENT_SAMPLES, SampleKind, Split
from tests.cg_train.train_small import make_sample, make_segment


def test_a_signal_lies_in_a_table_as_little_endian_int16_channel_after_channel() -> None:
    segment = make_segment(1, Split.TRAIN)
    steps = np.arange(segment.eeg_steps.size, dtype=np.int64).reshape(segment.eeg_steps.shape) % 65536 - 32768
    written = table_of([dataclasses.replace(segment, eeg_steps=steps.astype(np.int16))], SEGMENT_SCHEMA)
    (lies,) = written.column("eeg_steps").to_pylist()
    assert struct.unpack_from("<3h", lies, 2 * SEGMENT_SAMPLES) == tuple(steps[1, :3])
    assert len(lies) == 2 * steps.size
    assert np.array_equal(segment_from_row(written.to_pylist()[0]).eeg_steps, steps)


def test_a_signal_that_is_not_int16_is_not_made_so() -> None:
    segment = make_segment(1, Split.TRAIN)
    with pytest.raises(TypeError, match="float32"):
        table_of([dataclasses.replace(segment, eeg_steps=segment.eeg_steps.astype(np.float32))], SEGMENT_SCHEMA)


def test_a_sample_without_a_page_has_no_bytes() -> None:
    bare = dataclasses.replace(make_sample(1, SampleKind.OPEN), mask=np.zeros(0, dtype=np.bool_), eeg_steps=np.zeros((0, 2000), np.int16))
    row = table_of([bare], SAMPLE_SCHEMA).to_pylist()[0]
    assert row["eeg_steps"] == b""
    assert sample_from_row(row).eeg_steps.shape == (0, SEGMENT_SAMPLES)
