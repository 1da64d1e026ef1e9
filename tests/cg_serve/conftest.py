"""Folders of an untrained detector and an untrained model, as training exports them."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def served_folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Detector and model. Read them only."""
    from cg_data.detect.detector import save_detector
    from cg_data.settings import PageSettings
    from cg_train.model.build import build_tiny, train_tokenizer
    from cg_train.model.export import export_folder
    from cg_train.recipe import TinyModel
    from tests.detectors_small import SIGNAL, spec_of, untrained

    folder: Path = tmp_path_factory.mktemp("served")
    save_detector(untrained(), spec_of(SIGNAL), str(folder / "detector"))
    sizes = TinyModel(
        vision_depth=2, vision_hidden=32, vision_heads=2, text_layers=1, text_hidden=64, text_heads=2, text_kv_heads=1, vocabulary=400
    )
    page = PageSettings(pixels_per_row=14, pixels_per_second=28)
    model, processor = build_tiny(sizes, train_tokenizer(["Sleep spindles are seen centrally."], sizes.vocabulary), page)
    export_folder(model, processor, str(folder / "model"), page=page, about={"data": "none"})
    return str(folder / "detector"), str(folder / "model")
