"""The losses of both detectors behind one call, and what they share: how unknown and coarsely marked places count."""

from __future__ import annotations

import types
from typing import Any, Protocol

import torch
from torch.nn import functional

from cg_data.detect.page_network import PageNetwork
from cg_data.detect.signal_network import SignalNetwork, place_centres_s, place_rows
from cg_data.settings import PageSettings
from cg_data.vocabulary import N_CHANNELS
from cg_train.detector_batches import Batch, Places
from cg_train.signal_loss import Targets, signal_losses

# Those of Ultralytics, but three times as much of the class: waveforms are easier to place than to tell apart, and in trainings of minutes
# that is what is short.
_GAINS = {"box": 7.5, "cls": 1.5, "dfl": 1.5}


class Criterion(Protocol):
    """What a network is trained by."""

    places: Places

    @property
    def names(self) -> tuple[str, ...]:
        """Of the losses."""

    def __call__(self, batch: Batch) -> tuple[torch.Tensor, ...]:
        """The network's losses on a batch, one for each of `names`; their sum is what is minimised."""

    def schedule(self, epochs_done: int) -> None:
        """Change what changes from epoch to epoch."""


def criterion_of(network: torch.nn.Module, epochs: int) -> Criterion:
    """The criterion of a network of `cg_data.detect.network.build_network` for a training of `epochs`."""
    return SignalCriterion(network) if isinstance(network, SignalNetwork) else PageCriterion(network, epochs)


def class_losses(logits: torch.Tensor, wanted: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Binary cross-entropy of each place and class, `(n, places, 9)`.

    A place of which a class is neither wanted nor known to be absent costs nothing. Of a coarse region the best place and class shall be
    found, whatever the others are (multiple instance learning by the greatest instance, Dietterich et al. 1997); where several regions have
    the same best place, it counts once.
    """
    losses = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    losses = losses * (batch.known | (wanted > 0))
    best = list(dict.fromkeys(_best(logits.detach(), coarse) for coarse in batch.coarse if len(coarse.places)))
    if not best:
        return losses
    page, place, waveform = torch.tensor(best, device=logits.device).T
    return losses.index_put((page, place, waveform), functional.softplus(-logits[page, place, waveform]))


def _best(logits: torch.Tensor, coarse: Any) -> tuple[int, int, int]:
    inside = logits[coarse.page][coarse.places][:, coarse.classes]
    place, waveform = divmod(int(inside.argmax()), inside.shape[1])
    return coarse.page, int(coarse.places[place]), int(coarse.classes[waveform])


class SignalCriterion:
    """Of the network on the signal."""

    names = ("box", "class")

    def __init__(self, network: SignalNetwork) -> None:
        self._network = network
        self.places = Places(rows=place_rows().numpy(), centres_s=place_centres_s().double().numpy())

    def __call__(self, batch: Batch) -> tuple[torch.Tensor, ...]:
        extents, logits = self._network(*batch.inputs)
        return signal_losses(
            extents, logits, Targets.of(batch.marks), lambda wanted: class_losses(logits, wanted, batch), len(batch.coarse)
        )

    def schedule(self, epochs_done: int) -> None:
        """Nothing changes."""


class PageCriterion:
    """That of Ultralytics, which is given our class losses for its own."""

    names = ("box", "class", "distance")

    def __init__(self, network: Any, epochs: int) -> None:
        self._network, self._page = network, network.page
        network.yolo.args = types.SimpleNamespace(**_GAINS, epochs=epochs)
        self._loss = network.yolo.init_criterion()
        self._classes = _ClassLosses()
        for part in (self._loss, getattr(self._loss, "one2many", None), getattr(self._loss, "one2one", None)):
            if part is not None and hasattr(part, "bce"):
                part.bce = self._classes
        self.places = anchors_of(network)

    def __call__(self, batch: Batch) -> tuple[torch.Tensor, ...]:
        self._classes.batch = batch
        losses, _ = self._loss(self._network.raw(*batch.inputs), _ultralytics_targets(batch.marks, self._page))
        return tuple(losses / len(batch))

    def schedule(self, epochs_done: int) -> None:
        """End-to-end heads shift weight from their one-to-many to their one-to-one loss with each epoch."""
        if hasattr(self._loss, "update"):
            self._loss.updates = epochs_done - 1
            self._loss.update()


class _ClassLosses:
    """`class_losses` of the batch at hand, as Ultralytics calls its binary cross-entropy."""

    batch: Batch

    def __call__(self, logits: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        return class_losses(logits, wanted, self.batch)


def anchors_of(network: PageNetwork) -> Places:
    """Centres of the cells of all grids of the head, in its order."""
    rows, centres = [], []
    height, width = network.sides
    for stride in network.strides:
        y = (torch.arange(height // stride) + 0.5) * stride / network.page.pixels_per_row
        x = (torch.arange(width // stride) + 0.5) * stride / network.page.pixels_per_second
        row = torch.where(y < N_CHANNELS, y.floor(), -1).long()
        rows.append(row.repeat_interleave(len(x)))
        centres.append(x.double().repeat(len(y)))
    return Places(rows=torch.cat(rows).numpy(), centres_s=torch.cat(centres).numpy())


def _ultralytics_targets(marks: torch.Tensor, page: PageSettings) -> dict[str, torch.Tensor]:
    """Marks `(marks, 5)` as Ultralytics has them: page of each, class, and centre and size as fractions of the picture."""
    from cg_data.detect.boxes import boxes_of_marks
    from cg_data.page import page_shape

    height, width = page_shape(page)
    left, top, right, bottom = torch.from_numpy(boxes_of_marks(marks[:, 1:].cpu().numpy(), page)).to(marks.device).T
    boxes = [(left + right) / 2 / width, (top + bottom) / 2 / height, (right - left) / width, (bottom - top) / height]
    return {"batch_idx": marks[:, 0].float(), "cls": marks[:, 1].float(), "bboxes": torch.stack(boxes, dim=1)}
