"""report.html of an evaluation of detectors: its tables and pictures on one page, with nothing to load from elsewhere."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from importlib import resources
from typing import Any

from cg_data import storage
from cg_eval.detection.draw import pictures, short
from cg_eval.detection.tally import Figure
from cg_eval.detection.taxonomy import EXPLAINING, UNEXPLAINED, Error

CAPTIONS = {
    "precision_recall": "Precision over recall of each class; the dots are the working points.",
    "confusion": "Confusion matrix at the working thresholds: matched by time on one channel, whatever the class.",
    "taxonomy": "What is wrong with wrong events, and why references were missed.",
    "reliability": "Share of hits over stated probability, all proposals: before calibration (score) and after (probability).",
}


def write_pictures(folder_uri: str, figures: Mapping[str, Any]) -> dict[str, bytes]:
    """Draw a detector's figures into its folder; gives back the PNGs by name."""
    drawn = pictures(figures)
    for name, png in drawn.items():
        storage.write_bytes(storage.join(folder_uri, f"{name}.png"), png)
    return drawn


def write_report(uri: str, metrics: Mapping[str, Any], drawn: Mapping[str, Mapping[str, bytes]]) -> None:
    """Write the page of an evaluation.

    Args:
        uri: of the HTML file.
        metrics: the content of ``metrics.json``.
        drawn: pictures of each detector by name.
    """
    import jinja2

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"percent": percent, "number": number, "short": short, "words": lambda name: name.replace("_", " ")}
    template = environment.from_string(resources.files("cg_eval").joinpath("detection", "report.html.j2").read_text())
    embedded = {name: [(CAPTIONS[key], _data_uri(png)) for key, png in of.items()] for name, of in drawn.items()}
    kinds = {"errors": list(map(str, Error)), "missed": [*map(str, EXPLAINING), UNEXPLAINED]}
    storage.write_bytes(uri, template.render(metrics=metrics, pictures=embedded, kinds=kinds).encode())


def percent(figure: Figure, digits: int = 1) -> str:
    """ "93.1 [90.2, 95.0]", in per cent; a dash where there is no figure, no brackets where there is no interval."""
    return _spelt(figure, 100.0, digits)


def number(figure: Figure, digits: int = 3) -> str:
    """As `percent`, of a plain number."""
    return _spelt(figure, 1.0, digits)


def _spelt(figure: Figure, scale: float, digits: int) -> str:
    value, low, high = (end if end is None else f"{scale * end:z.{digits}f}" for end in (figure["value"], figure["low"], figure["high"]))
    if value is None:
        return "–"
    return value if low is None else f"{value} [{low}, {high}]"


def _data_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()
