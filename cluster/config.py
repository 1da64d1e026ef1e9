"""The one configuration tree: a preset in YAML, `--set a.b=c` on top, validated into frozen values."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, Field, ValidationError

from cg_data.corpora import CorpusName
from cg_data.errors import ConfigError
from cg_data.settings import DataSettings, Settings
from cg_eval.settings import EvalSettings
from cg_serve.settings import ServeSettings
from cg_train.recipe import TrainSettings


class TrackingSettings(Settings):
    uri: str = Field(default="", description="MLflow tracking URI; empty means mlflow.db (SQLite) in the run folder")
    experiment: str = "cerebragloss"
    system_every_s: float | None = Field(
        default=10.0, gt=0, description="seconds between looks at CPU, memory, network and GPUs of each node in training; null: none"
    )
    model_name: str = Field(default="cerebragloss", description="name in the model registry; its alias `champion` is what is served")


class ClusterSettings(Settings):
    address: str = Field(default="", description="Ray cluster to join (host:port or auto); empty: RAY_ADDRESS, else a local Ray")
    local_cpus: int | None = Field(default=None, ge=1, description="logical CPUs of a local Ray; null means what the machine has")
    object_store_mib: int = Field(default=512, ge=80, description="object store of a local Ray")


class RunConfig(Settings):
    """Everything that decides what a run makes."""

    preset: str = ""
    corpora: dict[CorpusName, str] = Field(
        default_factory=dict, description="your own corpora: where each lies; the data steps and the service work on them"
    )
    data: DataSettings = DataSettings()
    train: TrainSettings
    evaluate: EvalSettings = EvalSettings()
    serve: ServeSettings = ServeSettings()
    tracking: TrackingSettings = TrackingSettings()
    cluster: ClusterSettings = ClusterSettings()


def preset_names() -> list[str]:
    return sorted(Path(p.name).stem for p in resources.files("cluster").joinpath("presets").iterdir() if p.name.endswith(".yaml"))


def read_preset(name: str) -> dict[str, Any]:
    """The preset `name`, or the YAML file of that path.

    Raises:
        ConfigError: there is no such preset, or the file is not a mapping.
    """
    if name.endswith((".yaml", ".yml")):
        path = Path(name)
        if not path.is_file():
            raise ConfigError(f"--preset {name}: no such file.")
        text = path.read_text()
    elif name in preset_names():
        text = resources.files("cluster").joinpath("presets", f"{name}.yaml").read_text()
    else:
        raise ConfigError(f"unknown preset {name!r}{nearest(name, preset_names())} Known presets: {', '.join(preset_names())}.")
    return {"preset": name_of(name), **_mapping(text, name)}


def name_of(preset: str) -> str:
    """A preset's name: that of the file without its ending, where it is a file."""
    return Path(preset).name.removesuffix(".yaml").removesuffix(".yml")


def _mapping(text: str, name: str) -> dict[str, Any]:
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{name}: not valid YAML ({' '.join(str(error).split())}).") from error
    if not isinstance(value, dict):
        raise ConfigError(f"{name}: a configuration is a mapping of keys to values.")
    return value


def apply_override(tree: dict[str, Any], override: str) -> None:
    """Set one `a.b=c` in `tree`; the value is read as YAML.

    Raises:
        ConfigError: there is no ``=``, or the path runs through a plain value.
    """
    path, equals, text = override.partition("=")
    if not equals or not path:
        raise ConfigError(f"--set {override}: write it as key.subkey=value, for example data.synthetic.subjects=12.")
    node = tree
    *parents, leaf = path.split(".")
    for key in parents:
        node = node.setdefault(key, {}) if isinstance(node.get(key, {}), dict) else _no_subkeys(override, key)
    node[leaf] = yaml.safe_load(text)


def _no_subkeys(override: str, key: str) -> dict[str, Any]:
    raise ConfigError(f"--set {override}: {key} is a plain value and has no subkeys.")


def resolve_config(tree: dict[str, Any], overrides: list[str]) -> RunConfig:
    """Validate a preset or stored configuration with overrides.

    Raises:
        ConfigError: an unknown key (with the nearest known one) or a value out of range.
    """
    for override in overrides:
        apply_override(tree, override)
    try:
        return RunConfig.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(_sentence(error)) from None


def _sentence(error: ValidationError) -> str:
    first, *rest = error.errors()
    loc = [str(part) for part in first["loc"]]
    path = ".".join(part for i, part in enumerate(loc) if not any(map(partial(_is_kind, part), _models_at(loc[:i]))))
    more = f" ({len(rest)} more such problem{'s' if len(rest) > 1 else ''}.)" if rest else ""
    if first["type"] == "extra_forbidden":
        return f"configuration: unknown key {path}{nearest(loc[-1], _known_keys(loc[:-1]))}{more}"
    return f"configuration: {path} = {first.get('input')!r}: {first['msg']}.{more}"


def _known_keys(loc: Sequence[str]) -> list[str]:
    return [key for model in _models_at(loc) for key in model.model_fields]


def _models_at(loc: Sequence[str]) -> list[type[BaseModel]]:
    """The settings classes that a value at `loc` may be of: several where a field takes several kinds, of which `loc` may name one."""
    models: list[type[BaseModel]] = [RunConfig]
    for part in loc:
        models = [m for model in models for m in ([model] if _is_kind(part, model) else _models_under(model, part))]
    return models


def _is_kind(part: str, model: type[BaseModel]) -> bool:
    return "kind" in model.model_fields and model.model_fields["kind"].default == part


def _models_under(model: type[BaseModel], key: str) -> list[type[BaseModel]]:
    """The settings classes in the annotation of a field, such as ``StageRecipe | None``."""
    annotation = model.model_fields[key].annotation if key in model.model_fields else None
    return [a for a in getattr(annotation, "__args__", (annotation,)) if isinstance(a, type) and issubclass(a, BaseModel)]


def nearest(name: str, known: Sequence[str]) -> str:
    """The end of a sentence about an unknown name: what may have been meant."""
    close = difflib.get_close_matches(name, known, n=1)
    return f": did you mean {close[0]}?" if close else "."


def to_yaml(config: RunConfig) -> str:
    """The resolved configuration as YAML, every default written out."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
