"""The model card of a detector: what its training knew is kept beside the weights, so that new figures can be put into the card later."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import torch

from cg_data import storage
from cg_data.detect.card import CardFacts, SplitFacts, model_card
from cg_data.detect.detector import read_spec
from cg_data.detect.spec import NetworkSettings, SignalNetworkSettings
from cg_data.detect.thresholds import WorkingPoint
from cg_data.vocabulary import Split, Waveform
from cg_train.detector_data import SegmentStore
from cg_train.recipe import DetectorRecipe

CARD, _FACTS = "MODEL_CARD.md", "training.json"
_SYNTHETIC = {"synthetic"}
_PACKAGES = ("cerebragloss", "torch", "ultralytics", "numpy")


def write_training(
    folder_uri: str,
    recipe: DetectorRecipe,
    network: torch.nn.Module,
    points: Mapping[Waveform, WorkingPoint],
    stores: Mapping[Split, SegmentStore],
) -> None:
    """Keep what a card needs and only the training knows, in ``training.json``."""
    corpora = {corpus for store in stores.values() for corpus in store.corpora}
    facts = {
        "architecture": _architecture(recipe.network),
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "splits": [dataclasses.asdict(_split_facts(split, store)) for split, store in stores.items()],
        "synthetic_truth": corpora <= _SYNTHETIC,
        "recipe": recipe.model_dump(mode="json"),
        "points": {str(w): point.model_dump(mode="json") for w, point in points.items()},
        "versions": {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}},
    }
    storage.write_json(storage.join(folder_uri, _FACTS), facts)


def write_card(folder_uri: str, figures: Mapping[str, Any], figures_of: str) -> None:
    """Write ``MODEL_CARD.md`` with `figures`, which were measured on the pages that `figures_of` names."""
    spec = read_spec(folder_uri)
    facts = storage.read_json(storage.join(folder_uri, _FACTS))
    recipe = DetectorRecipe.model_validate(facts["recipe"])
    card = model_card(
        CardFacts(
            name=f"CerebraGloss detector {spec.version}",
            architecture=facts["architecture"],
            parameters=facts["parameters"],
            splits=[SplitFacts(**{**split, "marks": {Waveform(w): n for w, n in split["marks"].items()}}) for split in facts["splits"]],
            synthetic_truth=facts["synthetic_truth"],
            recipe=facts["recipe"],
            figures=figures,
            figures_of=figures_of,
            calibrations=spec.calibrations,
            targets=recipe.targets,
            points={Waveform(w): WorkingPoint.model_validate(point) for w, point in facts["points"].items()},
            sha256={"weights.safetensors": spec.weights_sha256},
            versions=facts["versions"],
        )
    )
    storage.write_bytes(storage.join(folder_uri, CARD), card.encode())


def _split_facts(split: Split, store: SegmentStore) -> SplitFacts:
    return SplitFacts(
        name=split, corpora=sorted(store.corpora), subjects=len(store.subjects), pages=len(store), marks=dict(sorted(store.marks.items()))
    )


def _architecture(network: NetworkSettings) -> str:
    if isinstance(network, SignalNetworkSettings):
        return f"one-dimensional YOLO on the signal, width {network.width}, depth {network.depth}"
    return f"{network.architecture} (Ultralytics) on a grey page of {network.page.pixels_per_second} pixels a second"
