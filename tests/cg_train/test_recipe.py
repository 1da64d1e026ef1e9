"""Settings that cannot go together are refused before anything starts."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from cg_train.recipe import ComputeSettings, DetectorRecipe, StageRecipe, TrainSettings, checkpointed

RECIPE = StageRecipe(mixture={"open": 1.0}, steps=1, trainable=("projector",))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"zero_stage": 1, "offload": {"optimizer": "cpu"}}, r"offload\.optimizer cpu needs zero_stage 2 or 3"),
        ({"zero_stage": 2, "offload": {"parameters": "cpu"}}, r"offload\.parameters.* zero_stage 3"),
        ({"zero_stage": 2, "offload": {"optimizer": "nvme", "nvme_folder": "/n"}}, "nvme, need zero_stage 3"),
        ({"zero_stage": 3, "offload": {"optimizer": "nvme"}}, r"nvme needs offload\.nvme_folder"),
        ({"zero_stage": 3, "compile": True}, "compile takes layers whole, which zero_stage 3 scatters"),
        ({"zero_stage": 3, "loss": "liger"}, "liger reads the weights of the output layer, .* use chunked"),
    ],
)
def test_settings_that_cannot_go_together_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TrainSettings(stage1=RECIPE, stage2=RECIPE, **settings)


@pytest.mark.parametrize("compute", [ComputeSettings(least_workers=1), ComputeSettings(feed_actors=1)])
def test_what_is_for_stages_is_refused_for_the_detector(compute: ComputeSettings) -> None:
    with pytest.raises(ValidationError, match="is for stages"):
        DetectorRecipe(compute=compute)


def test_only_towers_through_which_gradients_flow_are_computed_again() -> None:
    towers = ("vision", "language")
    assert checkpointed(RECIPE, towers) == ("language",)
    assert checkpointed(RECIPE, ()) == ()
    assert checkpointed(RECIPE.model_copy(update={"trainable": ("vision", "language")}), towers) == ("vision", "language")
    sight = RECIPE.model_copy(update={"objective": "sight", "trainable": ("vision", "projector")})
    assert checkpointed(sight, towers) == ("vision",)
