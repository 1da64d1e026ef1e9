"""Training of the waveform detector: one loop for the network on the signal and for that of Ultralytics on the page.

The loop runs alone or as one of `world_size` processes under an initialised `torch.distributed` group (gloo or NCCL). Gradients are
averaged over the group and BatchNorm statistics at the end of each epoch, so that all ranks hold the same weights. Pages are made when they
are needed from their signal, changed at random as signal (`cg_train.augment`). The order of pages and their augmentation are functions of
seed, epoch and page alone: equal seed, data and number of processes give equal bits on the CPU with one thread, whether or not the training
was interrupted.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist

from cg_data.detect.calibration import fit_calibration
from cg_data.detect.detector import Detector
from cg_data.detect.network import build_network
from cg_data.detect.references import References, known_events, known_seconds, references_of
from cg_data.detect.spec import DetectorSpec
from cg_data.detect.thresholds import ThresholdTarget, WorkingPoint, choose_threshold
from cg_data.errors import ConfigError
from cg_data.progress import Progress, silent
from cg_data.records import Event, Segment
from cg_data.vocabulary import WAVEFORM_INDEX, WAVEFORMS, Waveform
from cg_train.batches import prefetched
from cg_train.detection_metrics import Matches, detection_metrics, match
from cg_train.detector_batches import Batch, make_batch
from cg_train.detector_data import epoch_order, sampling_weights
from cg_train.detector_losses import criterion_of
from cg_train.recipe import DetectorRecipe

TrainerState = dict[str, torch.Tensor]
"""Everything that a training needs to go on, as plain tensors; equal on all ranks."""

# Momentum is that of Ultralytics. The second moment's memory of 100 steps instead of 1,000 suits a training of about a thousand steps.
_BETAS = (0.937, 0.99)
_GRADIENT_CLIP = 10.0
_LAST_RATE = 0.01
_PAGES_AT_ONCE = 64


@dataclasses.dataclass(frozen=True, kw_only=True)
class EpochReport:
    """What an epoch gave. `losses` are means over its steps and ranks; `state` is for a checkpoint."""

    epoch: int
    epochs: int
    losses: dict[str, float]
    learning_rate: float
    state: TrainerState


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainedDetector:
    """The averaged (EMA) network, its description with calibrations and thresholds from the validation segments, and its metrics there."""

    network: torch.nn.Module
    spec: DetectorSpec
    points: dict[Waveform, WorkingPoint]
    validation: dict[str, Any]


def train(
    recipe: DetectorRecipe,
    segments: Sequence[Segment],
    validation: Sequence[Segment],
    *,
    held: Sequence[frozenset[str]],
    rank: int = 0,
    world_size: int = 1,
    device: str = "cpu",
    state: TrainerState | None = None,
    on_epoch: Callable[[EpochReport], None] = lambda report: None,
    on_step: Progress = silent,
) -> TrainedDetector:
    """Train a detector on `segments` and choose its thresholds on `validation`; every rank returns the same.

    Args:
        recipe: what to train and how long; `recipe.batch` counts pages over all ranks.
        segments: all training segments on every rank; each rank draws its share of every batch.
        held: which waveforms are or may be on each (`cg_train.detector_data.waveforms_in`); pages of rare ones are drawn more often.
        state: `EpochReport.state` of an interrupted training, to go on after that epoch.
        on_epoch: called after each epoch on every rank.
        on_step: called after each step with steps done, steps in all and the loss.

    Raises:
        ConfigError: the batch does not divide by the number of ranks, or there are fewer segments than one batch.
    """
    steps = _steps_per_epoch(recipe, len(segments), world_size)
    training = _Training(recipe, steps * recipe.epochs, world_size, device)
    if state is not None:
        training.restore(state)
    weights = sampling_weights(held)
    for epoch in range(training.epochs_done, recipe.epochs):
        order = epoch_order(recipe.seed, epoch, weights)

        def batch_of(step: int, epoch: int = epoch, order: npt.NDArray[np.int64] = order) -> Batch:
            places = range(step * recipe.batch + rank, (step + 1) * recipe.batch, world_size)
            return training.batch([segments[order[place]] for place in places], [(recipe.seed, epoch, place) for place in places])

        for step, batch in enumerate(prefetched(batch_of, range(steps))):
            loss = training.step(batch())
            on_step(epoch * steps + step + 1, steps * recipe.epochs, f"loss {loss:.3f}")
        losses = training.end_epoch()
        on_epoch(
            EpochReport(
                epoch=epoch + 1, epochs=recipe.epochs, losses=losses, learning_rate=training.learning_rate(), state=training.export()
            )
        )
    return _finish(recipe, training.averaged, validation, device)


def spec_of(recipe: DetectorRecipe) -> DetectorSpec:
    """The description of a detector trained by `recipe`, before it is calibrated."""
    return DetectorSpec(**recipe.model_dump(include=set(DetectorSpec.model_fields) & set(DetectorRecipe.model_fields)))


def calibrated(
    bare: DetectorSpec, recipe: DetectorRecipe, found: Sequence[Sequence[Event]], references: Sequence[References], subjects: Sequence[str]
) -> tuple[DetectorSpec, dict[Waveform, WorkingPoint]]:
    """A detector's description with the probabilities and working points that its events on pages of which something is known lead to.

    `subjects` says whose each page is: false alarms of unlike subjects prove less than those of like ones. What is false on several
    channels at once is one false alarm, and what lies over a reference is none. Minutes are those in which a waveform was looked for. Of
    subjects in whom it was not, only right events can be told, so they count for nothing.
    """
    names, of_page = np.unique(np.asarray(subjects), return_inverse=True)
    minutes = {w: np.zeros(len(names)) for w in WAVEFORMS}
    for owner, known in zip(of_page, references, strict=True):
        for w, seconds in known_seconds(known).items():
            minutes[w][owner] += seconds / 60
    matched = {w: _of_pages(m, w, minutes[w][of_page] > 0, references) for w, m in match(found, [r.marks for r in references]).items()}
    points = {w: _working_point(m, minutes[w], of_page[m.pages], recipe.targets.target(w)) for w, m in matched.items()}
    update = {
        "calibrations": {w: fit_calibration(m.scores, m.hits, m.references) for w, m in matched.items()},
        "thresholds": {w: point.threshold for w, point in points.items()},
    }
    return bare.model_copy(update=update), points


def _of_pages(matches: Matches, waveform: Waveform, chosen: npt.NDArray[np.bool_], references: Sequence[References]) -> Matches:
    """The matches and references of one waveform on the pages of `chosen` `(pages,)`."""
    on = chosen[matches.pages]
    wanted = (r.marks[:, 0] == WAVEFORM_INDEX[waveform] for r, there in zip(references, chosen, strict=True) if there)
    return Matches(
        scores=matches.scores[on],
        pages=matches.pages[on],
        hits_at=matches.hits_at[:, on],
        alarms=matches.alarms[on],
        references=sum(int(marks.sum()) for marks in wanted),
    )


def _working_point(
    matches: Matches, minutes: npt.NDArray[np.float64], owners: npt.NDArray[np.int64], target: ThresholdTarget
) -> WorkingPoint:
    """Of one waveform, from events of the subjects `owners` `(n,)`, in all of whom it was looked for: their `minutes` `(subjects,)` are not
    0. Where nobody looked, no target is met."""
    looked = np.flatnonzero(minutes > 0)
    if not len(looked):
        return choose_threshold([], [], 0, 1.0, target).model_copy(update={"met": False})
    place = np.searchsorted(looked, owners)
    return choose_threshold(
        matches.scores, matches.hits, matches.references, minutes[looked], target, subjects=place, alarms=matches.alarms
    )


def _finish(recipe: DetectorRecipe, network: torch.nn.Module, validation: Sequence[Segment], device: str) -> TrainedDetector:
    bare = spec_of(recipe)
    found, references = _found_and_known(Detector(copy.deepcopy(network), bare, device), validation)
    spec, points = calibrated(bare, recipe, found, references, [segment.subject for segment in validation])
    metrics = detection_metrics(found, [r.marks for r in references], {waveform: spec.threshold(waveform) for waveform in WAVEFORMS})
    return TrainedDetector(network=network, spec=spec, points=points, validation=metrics)


def _found_and_known(detector: Detector, segments: Sequence[Segment]) -> tuple[list[tuple[Event, ...]], list[References]]:
    """Events of each page that can be called right or wrong, and what is known of it."""
    references = [references_of(s, min_box_s=detector.spec.min_box_s) for s in segments]
    found: list[tuple[Event, ...]] = []
    for start in range(0, len(segments), _PAGES_AT_ONCE):
        chunk = segments[start : start + _PAGES_AT_ONCE]
        found += detector.propose(np.stack([s.eeg_uv for s in chunk]), np.stack([s.mask for s in chunk]))
    return [known_events(events, r) for events, r in zip(found, references, strict=True)], references


def _steps_per_epoch(recipe: DetectorRecipe, segments: int, world_size: int) -> int:
    if recipe.batch % world_size:
        raise ConfigError(
            f"train.detector.batch: {recipe.batch} pages do not divide among {world_size} workers. Use a multiple of {world_size}."
        )
    if segments < recipe.batch:
        raise ConfigError(
            f"train.detector.batch: {recipe.batch} pages a step, but only {segments} training segments. Lower it or add recordings."
        )
    return segments // recipe.batch


def _fresh_network(recipe: DetectorRecipe) -> Any:
    """The untrained network of a recipe's seed; torch's global generator stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        return build_network(recipe.network)


class _Training:
    """Network, its average, optimiser and loss of one process."""

    def __init__(self, recipe: DetectorRecipe, total_steps: int, world_size: int, device: str) -> None:
        self._recipe, self._total_steps, self._world_size, self._device = recipe, total_steps, world_size, device
        self._network = _fresh_network(recipe).to(device)
        self._criterion = criterion_of(self._network, recipe.epochs)
        self.averaged = copy.deepcopy(self._network).eval().requires_grad_(False)
        self._pairs = [[t for t in net.state_dict().values() if t.is_floating_point()] for net in (self.averaged, self._network)]
        self._parameters = [p for p in self._network.parameters() if p.requires_grad]
        matrices = [p for p in self._parameters if p.ndim > 1]
        vectors = [p for p in self._parameters if p.ndim <= 1]
        groups = [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
        self._optimizer = torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=_BETAS, fused=True)
        # On the device, for NCCL exchanges nothing else.
        self._sums = torch.zeros(len(self._criterion.names) + 1, dtype=torch.float64, device=device)
        self._steps_done = 0
        self.epochs_done = 0

    def learning_rate(self) -> float:
        """Linear warm-up, then a cosine to one hundredth."""
        warmup = max(1, round(self._recipe.warmup_fraction * self._total_steps))
        if self._steps_done < warmup:
            return self._recipe.learning_rate * (self._steps_done + 1) / warmup
        progress = (self._steps_done - warmup) / max(1, self._total_steps - warmup)
        return self._recipe.learning_rate * (_LAST_RATE + (1 - _LAST_RATE) * 0.5 * (1 + math.cos(math.pi * progress)))

    def batch(self, segments: Sequence[Segment], seeds: Sequence[tuple[int, ...]]) -> Batch:
        """This rank's share of a batch."""
        return make_batch(self._recipe, self._network, self._criterion.places, segments, seeds)

    def step(self, batch: Batch) -> float:
        """One optimiser step on this rank's share of a batch; its loss on this rank."""
        for group in self._optimizer.param_groups:
            group["lr"] = self.learning_rate()
        self._network.train()
        losses = self._criterion(batch.to(self._device))
        loss = torch.stack(losses).sum()
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self._average_gradients()
        torch.nn.utils.clip_grad_norm_(self._parameters, _GRADIENT_CLIP)
        self._optimizer.step()
        self._steps_done += 1
        self._update_average()
        self._sums += torch.stack([*(part.detach() for part in losses), torch.ones_like(loss)]).double()
        return float(loss.detach())

    def _average_gradients(self) -> None:
        if self._world_size > 1:
            _average_over_ranks([p.grad for p in self._parameters if p.grad is not None], self._world_size)

    @torch.no_grad()
    def _update_average(self) -> None:
        # The average starts fast, or it would remember the untrained weights through a short training.
        decay = min(self._recipe.ema_decay, (1 + self._steps_done) / (10 + self._steps_done))
        kept, new = self._pairs
        torch._foreach_lerp_(kept, new, 1 - decay)

    def end_epoch(self) -> dict[str, float]:
        """Make BatchNorm statistics equal on all ranks; mean losses of the epoch."""
        if self._world_size > 1:
            buffers = [b for net in (self._network, self.averaged) for b in net.buffers() if b.is_floating_point()]
            _average_over_ranks([*buffers, self._sums], self._world_size)
        means = (self._sums[:-1] / self._sums[-1]).tolist()
        self._sums.zero_()
        self.epochs_done += 1
        self._criterion.schedule(self.epochs_done)
        return dict(zip(self._criterion.names, means, strict=True))

    def export(self) -> TrainerState:
        """A copy of the whole state on the CPU."""
        state = {"epochs_done": torch.tensor(self.epochs_done), "steps_done": torch.tensor(self._steps_done)}
        state |= {f"network.{name}": tensor for name, tensor in self._network.state_dict().items()}
        state |= {f"averaged.{name}": tensor for name, tensor in self.averaged.state_dict().items()}
        for index, moments in self._optimizer.state_dict()["state"].items():
            state |= {f"optimizer.{index}.{name}": tensor for name, tensor in moments.items()}
        return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in state.items()}

    def restore(self, state: TrainerState) -> None:
        """Go back to what `export` gave."""
        self.epochs_done, self._steps_done = int(state["epochs_done"]), int(state["steps_done"])
        self._network.load_state_dict(_under(state, "network."))
        self.averaged.load_state_dict(_under(state, "averaged."))
        moments: dict[int, dict[str, torch.Tensor]] = {}
        for name, tensor in _under(state, "optimizer.").items():
            index, _, key = name.partition(".")
            moments.setdefault(int(index), {})[key] = tensor.clone()
        self._optimizer.load_state_dict({"state": moments, "param_groups": self._optimizer.state_dict()["param_groups"]})
        for parameter, held in self._optimizer.state.items():  # the fused step pairs numbers as they lie in memory
            held |= {name: torch.empty_like(parameter).copy_(held[name]) for name in ("exp_avg", "exp_avg_sq")}
        self._criterion.schedule(self.epochs_done)


def _under(state: TrainerState, prefix: str) -> TrainerState:
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def _average_over_ranks(tensors: Sequence[torch.Tensor], world_size: int) -> None:
    """Replace each tensor by its mean over the ranks, in one exchange for each type."""
    for dtype in sorted({tensor.dtype for tensor in tensors}, key=str):
        alike = [tensor for tensor in tensors if tensor.dtype == dtype]
        flat = torch.cat([tensor.detach().flatten() for tensor in alike])
        dist.all_reduce(flat)
        for tensor, mean in zip(alike, torch.split(flat / world_size, [t.numel() for t in alike]), strict=True):
            tensor.detach().copy_(mean.view_as(tensor))
