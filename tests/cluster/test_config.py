"""One typed configuration tree."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from cg_data.errors import ConfigError
from cluster.config import preset_names, read_preset, resolve_config, to_yaml


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_resolves(name: str) -> None:
    assert resolve_config(read_preset(name), []).preset == name


def test_the_presets_of_the_card_are_there() -> None:
    assert preset_names() == ["qwen2.5-vl-3b", "qwen2.5-vl-7b", "qwen2.5-vl-7b-lora", "tiny"]


def test_an_unknown_preset_names_the_nearest_known_one() -> None:
    with pytest.raises(ConfigError, match="did you mean tiny"):
        read_preset("tinny")


def test_an_unknown_key_names_the_nearest_known_one() -> None:
    with pytest.raises(ConfigError, match=r"unknown key train\.stage2\.learning_rat: did you mean learning_rate"):
        resolve_config(read_preset("tiny"), ["train.stage2.learning_rat=1e-4"])


def test_an_unknown_key_deep_inside_an_optional_section_is_found() -> None:
    with pytest.raises(ConfigError, match="did you mean rank"):
        resolve_config(read_preset("tiny"), ["train.stage2.lora={rnk: 8}"])


def test_a_value_out_of_range_names_the_key_and_the_value() -> None:
    with pytest.raises(ConfigError, match=r"data\.synthetic\.subjects = 1"):
        resolve_config(read_preset("tiny"), ["data.synthetic.subjects=1"])


def test_set_changes_one_value_and_leaves_the_rest() -> None:
    plain, changed = (resolve_config(read_preset("tiny"), sets) for sets in ([], ["data.synthetic.subjects=12"]))
    assert changed.data.synthetic.subjects == 12
    assert changed.train == plain.train


@pytest.mark.parametrize("text", ["data.synthetic", "=3", "preset.deeper=1"])
def test_a_malformed_set_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--set"):
        resolve_config(read_preset("tiny"), [text])


def test_a_stored_configuration_resolves_to_itself() -> None:
    config = resolve_config(read_preset("qwen2.5-vl-3b"), ["corpora.tusz=/data/eeg"])
    assert resolve_config(yaml.safe_load(to_yaml(config)), []) == config


def test_a_preset_may_be_a_file_of_the_users(tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text(yaml.safe_dump({**read_preset("tiny"), "preset": "mine"}))
    assert resolve_config(read_preset(str(mine)), []).preset == "mine"


def test_a_preset_file_that_is_not_a_mapping_is_refused(tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("- a\n- b\n")
    with pytest.raises(ConfigError, match="mapping"):
        read_preset(str(mine))
