"""The tower is taught what lies under each visual token, and the head that teaches it leaves nothing behind."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from cg_data.errors import ConfigError
from cg_data.records import Finding
from cg_data.settings import PageSettings
from cg_data.vocabulary import CHANNELS, FindingKind, Split, Waveform
from cg_train.model.encode import TOKEN_PX
from cg_train.model.sight import KINDS, FindingsReader, positive_weights, sight_batch, sight_targets, token_findings
from tests.cg_train.model_small import PAGE, TOKENS, build
from tests.cg_train.train_small import KINDS as SAMPLE_KINDS
from tests.cg_train.train_small import annotation, make_sample
from tests.records_small import event

GRID = PageSettings(pixels_per_row=7, pixels_per_second=28, microvolts_per_row=100.0, multiple_of=28)
"""Four electrodes and one second to a token: five rows of ten."""


def finding(kind: FindingKind, channels: tuple[str, ...], onset_s: float, duration_s: float) -> Finding:
    return Finding(
        finding_id=kind.value,
        kind=kind,
        channels=channels,
        onset_s=onset_s,
        duration_s=duration_s,
        value=1.0,
        threshold=0.0,
        unit="",
    )


def where(shown: np.ndarray[Any, Any], kind: FindingKind) -> set[tuple[int, int]]:
    return {(int(r), int(c)) for r, c in np.argwhere(shown[:, :, KINDS.index(kind)])}


@pytest.mark.parametrize(
    ("onset_s", "duration_s", "columns"),
    [(2.0, 1.0, {2}), (2.5, 1.0, {2, 3}), (2.9, 1.0, {3}), (1.0, 3.0, {1, 2, 3}), (4.75, 0.5, {4, 5}), (4.97, 0.04, {4}), (9.9, 0.1, {9})],
)
def test_an_event_is_named_by_the_tokens_that_show_enough_of_it(onset_s: float, duration_s: float, columns: set[int]) -> None:
    shown = token_findings(annotation(events=(event(Waveform.SLEEP_SPINDLE, "Cz", onset_s, duration_s),)), GRID)
    row = CHANNELS.index("Cz") * 7 // TOKEN_PX
    assert shown.shape == (5, 10, len(KINDS))
    assert where(shown, FindingKind.SLEEP_SPINDLE) == {(row, column) for column in columns}
    assert shown.sum() == len(columns)


def test_what_rests_on_no_event_is_placed_by_its_channels_and_times() -> None:
    rhythm = finding(FindingKind.ALPHA_RHYTHM, ("O1", "O2"), 0.0, 10.0)
    flat = finding(FindingKind.FLAT_CHANNEL, (CHANNELS[0],), 3.0, 2.0)
    shown = token_findings(annotation(findings=(rhythm, flat)), GRID)
    rows = {CHANNELS.index(name) * 7 // TOKEN_PX for name in ("O1", "O2")}
    assert where(shown, FindingKind.ALPHA_RHYTHM) == {(row, column) for row in rows for column in range(10)}
    assert where(shown, FindingKind.FLAT_CHANNEL) == {(0, 3), (0, 4)}


def test_a_finding_that_rests_on_events_is_placed_by_them_alone() -> None:
    blinks = finding(FindingKind.BLINK, CHANNELS, 0.0, 10.0)
    shown = token_findings(annotation(events=(event(Waveform.POSITIVE_SHARP_TRANSIENT, "Fp1", 6.1, 0.3),), findings=(blinks,)), GRID)
    assert where(shown, FindingKind.BLINK) == {(0, 6)}


def test_a_rarer_kind_weighs_more_and_held_out_pages_do_not_count() -> None:
    spindle, blink = event(Waveform.SLEEP_SPINDLE, "Cz", 2.0, 1.0), event(Waveform.POSITIVE_SHARP_TRANSIENT, "Fp1", 6.1, 0.3)
    pages = [
        annotation(events=(spindle,)),
        annotation(events=(spindle, blink)),
        dataclasses.replace(annotation(events=(blink,)), split=Split.TEST),
    ]
    weights = dict(zip(KINDS, positive_weights(pages, GRID).tolist(), strict=True))
    assert weights[FindingKind.SLEEP_SPINDLE] == pytest.approx(7.0)  # one of fifty tokens
    assert weights[FindingKind.BLINK] == pytest.approx(99**0.5)
    assert weights[FindingKind.MAINS] == 20.0


def make_batch(numbers: range) -> dict[str, torch.Tensor]:
    samples = [make_sample(number, SAMPLE_KINDS[0]) for number in numbers]
    notes = {
        s.segment_id: annotation(segment_id=s.segment_id, events=(event(Waveform.SLEEP_SPINDLE, CHANNELS[n % 19], float(n % 9), 1.0),))
        for n, s in zip(numbers, samples, strict=True)
    }
    return sight_batch(samples, [sample.eeg_uv for sample in samples], annotations=notes, page=PAGE)


def test_the_loss_is_the_mean_over_every_token_and_kind() -> None:
    model, _ = build()
    reader, inputs = FindingsReader(model, torch.ones(len(KINDS)), seed=1), make_batch(range(4))
    assert int(sight_targets(inputs)) == 4 * TOKENS * len(KINDS)
    whole = reader(**inputs, num_items_in_batch=sight_targets(inputs)).loss
    halves = [make_batch(range(2)), make_batch(range(2, 4))]
    assert whole.item() == pytest.approx(sum(reader(**half, num_items_in_batch=sight_targets(inputs)).loss.item() for half in halves))


def test_targets_and_tokens_are_in_the_same_order() -> None:
    """A tower that learns one page by heart names its findings where they are."""
    model, _ = build()
    reader, inputs = FindingsReader(model, torch.ones(len(KINDS)), seed=1), make_batch(range(3))
    optimizer = torch.optim.AdamW(reader.parameters(), lr=5e-3)
    for _ in range(120):
        optimizer.zero_grad()
        reader(**inputs, num_items_in_batch=sight_targets(inputs)).loss.backward()
        optimizer.step()
    seen = reader(**inputs, num_items_in_batch=sight_targets(inputs)).logits.reshape(inputs["labels"].shape) > 0
    assert torch.equal(seen, inputs["labels"] > 0)


def test_equal_seeds_give_equal_heads() -> None:
    model, _ = build()
    heads = [FindingsReader(model, torch.ones(len(KINDS)), seed).head.weight for seed in (1, 1, 2)]
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])


def test_a_sample_without_annotation_is_named() -> None:
    sample = make_sample(3, SAMPLE_KINDS[0])
    with pytest.raises(ConfigError, match=r"segment segment-3 of sample .* has no annotation"):
        sight_batch([sample], [sample.eeg_uv], annotations={}, page=PAGE)
