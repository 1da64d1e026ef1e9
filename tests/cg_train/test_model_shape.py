"""Sizes come from the model itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cg_data.errors import ConfigError
from cg_train.model.load import module_of, set_trainable
from cg_train.model.shape import config_of, shape_of
from cg_train.recipe import LoraSettings, StageRecipe, TrainSettings
from tests.cg_train.model_small import SIZES, build

STAGE1 = StageRecipe(mixture={"open": 1.0}, steps=1, trainable=("projector",))  # type: ignore[arg-type]


def settings_of(source: str, **changes: Any) -> TrainSettings:
    return TrainSettings(source=source, stage1=STAGE1, stage2=STAGE1, **changes)


@pytest.mark.parametrize(("size", "published"), [("3B", 3.75e9), ("7B", 8.29e9)])
def test_the_known_models_have_as_many_parameters_as_is_published(size: str, published: float) -> None:
    shape = shape_of(config_of(settings_of(f"Qwen/Qwen2.5-VL-{size}-Instruct")), STAGE1)
    assert shape.parameters == pytest.approx(published, rel=0.002)
    assert shape.whole["vision"] + shape.whole["projector"] == pytest.approx(0.67e9, rel=0.02)


@pytest.mark.parametrize("lora", [None, LoraSettings(rank=2)])
@pytest.mark.parametrize("modules", [("projector", "language"), ("vision", "language")])
def test_counts_are_those_of_the_model_with_its_weights(modules: Any, lora: LoraSettings | None) -> None:
    recipe = STAGE1.model_copy(update={"trainable": modules, "lora": lora})
    built, _ = build()
    shape = shape_of(built.config, recipe)
    model, _ = set_trainable(built, modules, lora)
    for module in ("vision", "projector", "language"):
        mine = [p for name, p in model.named_parameters() if module_of(name) == module]
        assert shape.whole[module] == sum(p.numel() for p in mine)
        assert shape.learning[module] == sum(p.numel() for p in mine if p.requires_grad)


def test_the_tiny_model_is_as_large_as_the_settings_say_up_to_its_vocabulary() -> None:
    built, processor = build()
    shape = shape_of(config_of(settings_of("tiny", tiny=SIZES)), STAGE1)
    words = (SIZES.vocabulary - len(processor.tokenizer)) * SIZES.text_hidden
    assert shape.parameters == sum(p.numel() for p in built.parameters()) + words


def test_a_local_folder_is_asked_for_its_own_sizes(model_folder: str) -> None:
    built, _ = build()
    shape = shape_of(config_of(settings_of(model_folder)), STAGE1)
    assert shape.parameters == sum(p.numel() for p in built.parameters())


def test_a_name_that_is_neither_known_nor_here_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"train\.source some/model: its sizes are not known here\. .* Qwen/Qwen2\.5-VL-3B"):
        config_of(settings_of("some/model"))
