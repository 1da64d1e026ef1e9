"""Pictures of a detector's figures (`cg_eval.detection.figures.evaluate`) as PNG."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from cg_data.vocabulary import Waveform
from cg_eval.detection.confusion import BACKGROUND
from cg_eval.detection.taxonomy import EXPLAINING, UNEXPLAINED, Error
from cg_eval.pictures import COLOURS, SHORT_NAMES
from cg_train.detection_metrics import RECALLS

_DPI = 110
_INK, _SOFT, _LINE = "#1c2126", "#5a646e", "#dde2e7"
_BEFORE, _AFTER = "#b4531f", "#1f5f8b"
_ERROR_COLOURS: dict[str, str] = {
    Error.DOUBLED: "#8c6bb1",
    Error.WRONG_CLASS: "#d95f0e",
    Error.WRONG_EXTENT: "#e6ab02",
    Error.WRONG_CHANNEL: "#1b9e77",
    Error.BACKGROUND: "#9aa5b0",
    UNEXPLAINED: "#4a5560",
}
_STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.edgecolor": _SOFT,
    "axes.labelcolor": _INK,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": _SOFT,
    "ytick.color": _SOFT,
    "legend.frameon": False,
    "legend.fontsize": 8,
}


def pictures(figures: Mapping[str, Any]) -> dict[str, bytes]:
    """Every picture by the name of its file without ``.png``; equal figures give equal bytes."""
    drawn: dict[str, Callable[[Mapping[str, Any]], Any]] = {
        "precision_recall": _precision_recall,
        "confusion": _confusion,
        "taxonomy": _taxonomy,
        "reliability": _reliability,
    }
    import matplotlib

    with matplotlib.rc_context(_STYLE):
        return {name: _png(draw(figures)) for name, draw in drawn.items()}


def _canvas(width_in: float, height_in: float) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(width_in, height_in), dpi=_DPI, layout="constrained", facecolor="white")


def _png(canvas: Any) -> bytes:
    target = io.BytesIO()
    canvas.savefig(target, format="png", metadata={"Software": None})
    return target.getvalue()


def short(name: str) -> str:
    """A class's short name; other names in words."""
    return SHORT_NAMES[Waveform(name)] if name in set(Waveform) else name.replace("_", " ")


def colour(name: str) -> tuple[float, ...]:
    return tuple(part / 255 for part in COLOURS[Waveform(name)])


def _precision_recall(figures: Mapping[str, Any]) -> Any:
    """The precision envelope over recall of each class at an overlap of 0.5, and the working points as dots."""
    canvas = _canvas(8.2, 4.6)
    axes = canvas.add_subplot()
    for row in figures["classes"]:
        if row["curve"] is None:
            continue
        reached = [(r, p) for r, p in zip(RECALLS, row["curve"], strict=True) if p > 0]
        recalls, precisions = zip(*reached, strict=True) if reached else ([0.0], [0.0])
        axes.plot(recalls, precisions, color=colour(row["waveform"]), label=f"{short(row['waveform'])}  {row['ap50']['value']:.2f}", lw=1.6)
        if row["precision"]["value"] is not None:
            axes.plot(row["recall"]["value"], row["precision"]["value"], "o", color=colour(row["waveform"]), ms=5, mec="white", mew=0.6)
    axes.set(xlim=(0, 1.01), ylim=(0, 1.02), xlabel="recall", ylabel="precision")
    axes.set_title("Precision over recall at an overlap of 0.5; dots: working points", loc="left")
    axes.grid(color=_LINE, lw=0.6)
    if axes.lines:
        axes.legend(title="AP@0.5", loc="center left", bbox_to_anchor=(1.0, 0.5), alignment="left")
    return canvas


def _confusion(figures: Mapping[str, Any]) -> Any:
    """Shares of each row as shades, counts as numbers; rows are references, columns what was found."""
    names = figures["confusion"]["names"]
    counts = np.array(figures["confusion"]["counts"], dtype=np.float64)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    canvas = _canvas(8.6, 6.4)
    axes = canvas.add_subplot()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for i, j in np.ndindex(*counts.shape):
        if counts[i, j]:
            axes.text(j, i, f"{int(counts[i, j])}", ha="center", va="center", color="white" if shares[i, j] > 0.55 else _INK, fontsize=8.5)
    axes.set_xticks(range(len(names)), [*map(short, names[:-1]), "missed"], rotation=38, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(names)), [*map(short, names[:-1]), f"{BACKGROUND} (nothing marked)"])
    axes.set(xlabel="found as", ylabel="reference")
    axes.set_title("Events at the working thresholds; shade: share of the row", loc="left")
    for edge in np.arange(0.5, len(names) - 1):
        axes.axhline(edge, color=_LINE, lw=0.5)
        axes.axvline(edge, color=_LINE, lw=0.5)
    return canvas


def _taxonomy(figures: Mapping[str, Any]) -> Any:
    """What is wrong with the wrong events, as a share of all events, and why references were missed, as a share of all references."""
    rows = [*figures["taxonomy"]["classes"], {"waveform": "all", **figures["taxonomy"]["all"]}]
    canvas = _canvas(9.4, 1.6 + 0.36 * len(rows))
    left, right = canvas.subplots(1, 2, sharey=True)
    _stacked(left, rows, "errors", list(map(str, Error)), "Wrong events, share of all events of the class")
    _stacked(right, rows, "missed", [*map(str, EXPLAINING), UNEXPLAINED], "Missed references, share of all references")
    left.set_yticks(range(len(rows)), [short(row["waveform"]) for row in rows])
    left.invert_yaxis()
    return canvas


def _stacked(axes: Any, rows: Sequence[Mapping[str, Any]], part: str, names: Sequence[str], title: str) -> None:
    ends = np.zeros(len(rows))
    for name in names:
        widths = np.array([row[part][name]["share"]["value"] or 0.0 for row in rows])
        axes.barh(range(len(rows)), widths, left=ends, height=0.66, color=_ERROR_COLOURS[name], label=name.replace("_", " "))
        ends += widths
    axes.set_xlim(0, max(0.05, min(1.0, 1.08 * ends.max(initial=0.0))))
    axes.xaxis.set_major_formatter(lambda share, _: f"{100 * share:.0f} %")
    axes.set_title(title, loc="left")
    axes.grid(axis="x", color=_LINE, lw=0.6)
    axes.set_axisbelow(True)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.09), ncols=3)


def _reliability(figures: Mapping[str, Any]) -> Any:
    """Share of hits over stated probability for all proposals of each class: the raw score, and the calibrated probability."""
    rows = figures["calibration"]["proposals"]
    columns = 4
    lines = -(-len(rows) // columns)
    canvas = _canvas(9.4, 2.45 * lines + 0.3)
    grid = canvas.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    for axes in grid.flat[len(rows) :]:
        axes.set_axis_off()
    for axes, row in zip(grid.flat, rows, strict=False):
        axes.plot([0, 1], [0, 1], color=_LINE, lw=1)
        for what, tint in (("score", _BEFORE), ("probability", _AFTER)):
            bins = row[what]["bins"]
            axes.plot([b["probability"] for b in bins], [b["hits"] for b in bins], "o-", color=tint, ms=3, lw=1.2, label=what)
        errors = [f"ECE of {what} {row[what]['ece']['value']:.3f}" for what in ("score", "probability") if row[what]["n"]]
        axes.text(
            0.98, 0.04, "\n".join([f"n = {row['score']['n']:,}", *errors]), transform=axes.transAxes, ha="right", fontsize=7, color=_SOFT
        )
        axes.set_title(short(row["waveform"]), loc="left")
        axes.set(xlim=(0, 1.01), ylim=(0, 1.01), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
    canvas.legend(*grid.flat[0].get_legend_handles_labels(), loc="outside upper right", ncols=2)
    canvas.supxlabel("stated probability (ten bins of equal mass)", fontsize=9)
    canvas.supylabel("share of hits", fontsize=9)
    return canvas
