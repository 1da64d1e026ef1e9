"""The model card of a trained detector, in Markdown, written from a run (Mitchell et al. 2019, "Model Cards for Model Reporting").

The headings are those of the paper. What a run knows is filled in; what holds of every detector of this project is said here.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cg_data.detect.calibration import Calibration
from cg_data.detect.thresholds import RATE_CONFIDENCE, TargetSettings, WorkingPoint
from cg_data.vocabulary import N_CHANNELS, SEGMENT_S, SFREQ_HZ, WAVEFORMS, Waveform

_SHOWN_SCORES = (0.1, 0.3, 0.5, 0.7, 0.9)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SplitFacts:
    """What one split held. `marks` counts reference marks, one for each channel of a waveform."""

    name: str
    corpora: Sequence[str]
    subjects: int
    pages: int
    marks: Mapping[Waveform, int]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class CardFacts:
    """Everything that a card says of one detector and of no other.

    `figures` are the metrics as they were written: numbers, `cg_data.intervals.Interval` as mappings, and tables (lists of rows, or rows
    by name); what lies deeper is left to the file itself. `figures_of` says on whose pages they were measured, for example "held-out test
    subjects". `sha256` names files and their hashes, `versions` packages and their versions. `synthetic_truth` says that every mark was
    planted.
    """

    name: str
    architecture: str
    parameters: int
    splits: Sequence[SplitFacts]
    synthetic_truth: bool
    recipe: Mapping[str, Any]
    figures: Mapping[str, Any]
    figures_of: str
    calibrations: Mapping[Waveform, Calibration]
    targets: TargetSettings
    points: Mapping[Waveform, WorkingPoint]
    sha256: Mapping[str, str]
    versions: Mapping[str, str]


def model_card(facts: CardFacts) -> str:
    """The card as Markdown, with the metadata that model hubs read at its head. Equal facts give equal text."""
    parts = [
        "---\nlicense: agpl-3.0\npipeline_tag: object-detection\ntags: [EEG, clinical-neurophysiology]\n---\n",
        f"# {_cell(facts.name)}\n",
        *_details(facts),
        _INTENDED_USE,
        _FACTORS,
        *_metrics(facts),
        *_data(facts),
        *_analyses(facts),
        _ETHICS,
        *_caveats(facts),
    ]
    return "\n".join(parts)


def _details(facts: CardFacts) -> Iterable[str]:
    yield "## Model details\n"
    yield (
        f"A detector of {len(WAVEFORMS)} waveforms in scalp EEG. It reads {SEGMENT_S} seconds at a time of the {N_CHANNELS} electrodes of\n"
        f"the 10-20 system at {SFREQ_HZ} Hz, and gives for each event its waveform, channel, onset, duration, score and the probability\n"
        "that it is right.\n"
    )
    rows = [("architecture", facts.architecture), ("parameters", f"{facts.parameters:,}"), ("licence", "AGPL-3.0-or-later")]
    yield _table(("", ""), [*rows, *((f"sha256 of {name}", f"`{digest}`") for name, digest in sorted(facts.sha256.items()))])
    yield "Trained with\n"
    yield _table(("setting", "value"), _flat(facts.recipe))
    yield _table(("package", "version"), sorted(facts.versions.items()))


_INTENDED_USE = """## Intended use

Drafts for a reader of EEG: marks to look at, and structure for the project's own instruction data and service. The users are researchers
and clinical neurophysiologists who see the signal beside the marks.

**Never a diagnosis.** It is no medical device, was not examined as one, and must not decide on treatment, alarm or triage alone. A page
without marks is not a normal page.
"""

_FACTORS = """## Factors

Age, state of vigilance, medication, electrodes, amplifier, filters, reference and artefacts change what waveforms look like. Figures below
are for waveforms, not for groups of people. Electrodes that are missing or masked carry no marks.
"""


def _metrics(facts: CardFacts) -> Iterable[str]:
    yield "## Metrics\n"
    yield (
        "An event is right when a reference mark of its waveform on its channel overlaps it in time by half of their union. The working\n"
        "threshold of each waveform was chosen on validation subjects for a stated target, and score was mapped to probability there by a\n"
        "rising curve. Intervals are of 95 % and resample subjects. False alarms a minute are held to their bound by their upper\n"
        f"{RATE_CONFIDENCE * 100:.0f} % limit.\n"
    )


def _data(facts: CardFacts) -> Iterable[str]:
    yield "## Training and evaluation data\n"
    yield "Splits are by subject: nobody is in two of them. Marks count each channel.\n"
    columns = [split.name for split in facts.splits]
    rows: list[tuple[str, ...]] = [
        ("corpora", *(", ".join(split.corpora) for split in facts.splits)),
        ("subjects", *(f"{split.subjects:,}" for split in facts.splits)),
        ("pages", *(f"{split.pages:,}" for split in facts.splits)),
    ]
    rows += [(f"marks: {_words(w)}", *(f"{split.marks.get(w, 0):,}" for split in facts.splits)) for w in WAVEFORMS]
    yield _table(("", *columns), rows)


def _analyses(facts: CardFacts) -> Iterable[str]:
    yield "## Quantitative analyses\n"
    yield f"Measured on {facts.figures_of}.\n"
    single = [(name, _figure(value)) for name, value in facts.figures.items() if _is_figure(value)]
    if single:
        yield _table(("figure", "value"), single)
    for name, value in facts.figures.items():
        rows = _rows(value)
        if rows:
            columns = list(dict.fromkeys(key for row in rows for key in row if any(_is_figure(r.get(key)) for r in rows)))
            yield f"By {_words(name)}:\n"
            yield _table(columns, [[_figure(row.get(key)) for key in columns] for row in rows])
    yield "### Working thresholds, as chosen on validation subjects\n"
    columns = ["waveform", "target", "reached", "threshold", "precision", "recall", "F1", "false a minute (upper limit)"]
    yield _table(columns, [_threshold_row(w, facts) for w in WAVEFORMS if w in facts.points])
    yield "### Probability of an event with a given score\n"
    columns = ["waveform", "fit", "events", "right", *(f"score {s:g}" for s in _SHOWN_SCORES)]
    yield _table(columns, [_calibration_row(w, facts.calibrations[w]) for w in WAVEFORMS if w in facts.calibrations])


def _threshold_row(waveform: Waveform, facts: CardFacts) -> list[str]:
    p = facts.points[waveform]
    reached = "yes" if p.met else "**no**, kept nothing"
    figures = [_figure(x) for x in (p.threshold, p.precision, p.recall, p.f1)]
    rate = f"{p.false_per_minute:.2f} ({p.false_per_minute_upper:.2f})"
    return [_words(waveform), str(facts.targets.target(waveform)), reached, *figures, rate]


def _calibration_row(waveform: Waveform, calibration: Calibration) -> list[str]:
    shown = [f"{p:.2f}" for p in calibration.apply(_SHOWN_SCORES).tolist()]
    return [_words(waveform), calibration.method, f"{calibration.events:,}", f"{calibration.hits:,}", *shown]


_ETHICS = """## Ethical considerations

A detector is weights and settings, without recordings or names. A mark that is wrong can mislead: harmless sharp transients read as
epileptiform are a known cause of wrong diagnoses of epilepsy (Benbadis and Tatum 2003). Show probabilities, and the signal itself, beside
every mark.
"""


_SYNTHETIC = (
    "Every reference mark was planted in synthetic EEG. The figures say how well planted waveforms are found, and nothing of how well the "
    "marks of experts on recordings of patients are met."
)
_READ = "Reference marks are those of the corpora's readers, who disagree with one another; the figures hold for their way of marking."


def _caveats(facts: CardFacts) -> Iterable[str]:
    yield "## Caveats and recommendations\n"
    lines = [
        _SYNTHETIC if facts.synthetic_truth else _READ,
        "Populations, ages, states and machines that are not in the corpora above were not seen: measure on your own marks before use.",
        "Probabilities hold where waveforms are as frequent as on the validation pages; elsewhere fit them anew.",
    ]
    lines += [f"{text}." for text in _weak_points(facts)]
    yield "\n".join(f"* {line}" for line in lines) + "\n"


def _weak_points(facts: CardFacts) -> Iterable[str]:
    unmet = [_words(w) for w in WAVEFORMS if w in facts.points and not facts.points[w].met]
    if unmet:
        yield f"No threshold reached its target for: {', '.join(unmet)}. Do not rely on these marks, nor on their absence"
    unfitted = [_words(w) for w in WAVEFORMS if not facts.calibrations.get(w, Calibration()).events]
    if unfitted:
        yield f"Score stands for probability, unfitted, for: {', '.join(unfitted)}"
    unseen = [_words(w) for w in WAVEFORMS if not any(split.marks.get(w, 0) for split in facts.splits)]
    if unseen:
        yield f"No reference mark at all of: {', '.join(unseen)}"


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", str(value)


def _rows(value: Any) -> list[dict[str, Any]]:
    """The rows of a table of figures; none where `value` is no table."""
    if isinstance(value, Mapping) and not _is_figure(value):
        rows = [{"name": _words(name), **row} for name, row in value.items() if isinstance(row, Mapping) and not _is_figure(row)]
        return rows if len(rows) == len(value) else []
    if isinstance(value, list | tuple) and all(isinstance(row, Mapping) for row in value):
        return [dict(row) for row in value]
    return []


def _is_figure(value: Any) -> bool:
    """Whether `value` is a text, a number or a figure with its interval."""
    return isinstance(value, str | int | float) or (isinstance(value, Mapping) and {"value", "low", "high"} == value.keys())


def _figure(value: Any) -> str:
    if isinstance(value, Mapping):
        span = "" if value["low"] is None else f" [{_figure(value['low'])}, {_figure(value['high'])}]"
        return _figure(value["value"]) + span
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "–"
    if isinstance(value, float):
        return f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _words(name: str) -> str:
    return name.replace("_", " ")


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(_cell(value) for value in line)} |\n" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
