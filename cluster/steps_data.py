"""The data steps: corpus, segments, annotations, samples; for the embedded corpus and for a user's folder."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Any

from cg_data.corpora.folder import list_recordings
from cg_data.errors import ConfigError, EdfError
from cg_data.instruct.general import GENERAL
from cluster.config import RunConfig
from cluster.pipeline import Step, Work, alone
from cluster.runfolder import StepResult

SYNTHETIC = "synthetic"
EDF = "edf"


def data_steps(corpus: str) -> list[Step]:
    """Segments, annotations and samples of one corpus."""
    prefix = "" if corpus == SYNTHETIC else f"{corpus}-"
    of = "" if corpus == SYNTHETIC else " of your recordings"
    return [
        Step(
            name=f"{prefix}segments",
            title=f"Segments{of}",
            needs=("corpus",) if corpus == SYNTHETIC else (),
            settings=partial(_segment_settings, corpus=corpus),
            owns=(f"segments/{corpus}",),
            run=alone(partial(_segments, corpus=corpus)),
        ),
        Step(
            name=f"{prefix}annotations",
            title=f"Annotations{of}",
            needs=(f"{prefix}segments", "detector"),
            settings=lambda _: None,
            owns=(f"annotations/{corpus}",),
            run=alone(partial(_annotations, corpus=corpus)),
        ),
        Step(
            name=f"{prefix}samples",
            title=f"Instruction samples{of}",
            needs=(f"{prefix}annotations",),
            settings=lambda config: config.data.instruct.model_dump(),
            owns=(f"samples/{corpus}",),
            run=alone(partial(_samples, corpus=corpus)),
        ),
    ]


def corpus_step() -> Step:
    return Step(
        name="corpus",
        title="Synthetic corpus (EDF+)",
        needs=(),
        settings=lambda config: config.data.synthetic.model_dump(),
        owns=("corpus",),
        run=alone(_corpus),
        uses_ray=False,
    )


def general_step() -> Step:
    return Step(
        name=GENERAL,
        title="General samples",
        needs=(),
        settings=lambda config: config.data.general and config.data.general.model_dump(),
        owns=(f"samples/{GENERAL}", f"refused/{GENERAL}"),
        run=alone(_general),
    )


def _segment_settings(config: RunConfig, corpus: str) -> dict[str, Any]:
    chosen = config.data.model_dump(include={"subject_salt", "validation_fraction", "test_fraction", "mains_hz"})
    files = {} if corpus == SYNTHETIC else {"edf": config.edf}
    return {**chosen, **files, "segments_per_shard": config.data.engine.segments_per_shard}


def _corpus(work: Work) -> StepResult:
    from cg_data.corpora.synthetic import write_corpus

    files = write_corpus(work.folder.at("corpus"), work.config.data.synthetic, work.progress)
    minutes = len(files) * work.config.data.synthetic.minutes_per_subject
    return StepResult(
        counts={"recordings": len(files)}, figure=f"{minutes / 60:.1f} hours, truth known to the sample", products={"corpus": "corpus"}
    )


def _segments(work: Work, corpus: str) -> StepResult:
    from cg_data.engine import build_segments, write_quarantine

    source = work.folder.at("corpus") if corpus == SYNTHETIC else str(work.config.edf)
    place = f"segments/{corpus}"
    made = build_segments(
        list_recordings(source), corpus=corpus, out_uri=work.folder.at(place), settings=work.config.data, progress=work.progress
    )
    write_quarantine(work.folder.at("quarantine.parquet"), corpus, made.quarantined)
    if not made.segments:
        reasons = ", ".join(f"{n} x {reason}" for reason, n in Counter(q.reason for q in made.quarantined).items())
        raise EdfError(
            "folder.nothing_usable",
            f"{source}: none of the {len(made.quarantined)} recordings can be used ({reasons}). "
            f"Each file's reason is in {work.folder.at('quarantine.parquet')}.",
        )
    return StepResult(
        counts={"recordings": made.recordings, "segments": made.segments, "quarantined": len(made.quarantined)},
        figure=f"{made.subjects} subjects, {made.segments * 10 / 3600:.1f} hours of pages",
        products={f"segments_{corpus}": place, "quarantine": "quarantine.parquet"},
    )


def _annotations(work: Work, corpus: str) -> StepResult:
    from cg_data.engine import annotate_segments

    place = f"annotations/{corpus}"
    counts = annotate_segments(
        work.folder.at("segments", corpus),
        detector_uri=work.folder.at("detector"),
        out_uri=work.folder.at(place),
        settings=work.config.data.engine,
        progress=work.progress,
    )
    per_page = counts["events"] / max(1, counts["segments"])
    return StepResult(counts=counts, figure=f"{per_page:.1f} events a page", products={f"annotations_{corpus}": place})


def _samples(work: Work, corpus: str) -> StepResult:
    from cg_data.engine import build_samples

    place = f"samples/{corpus}"
    counts = build_samples(
        work.folder.at("segments", corpus),
        work.folder.at("annotations", corpus),
        out_uri=work.folder.at(place),
        settings=work.config.data.instruct,
        engine=work.config.data.engine,
        progress=work.progress,
    )
    figure = ", ".join(f"{n} {kind}" for kind, n in counts.items())
    return StepResult(counts={"samples": sum(counts.values())}, figure=figure, products={f"samples_{corpus}": place})


def _general(work: Work) -> StepResult:
    from cg_data.engine import build_general, write_quarantine

    assert work.config.data.general is not None
    place = f"samples/{GENERAL}"
    made = build_general(
        work.config.data.general,
        out_uri=work.folder.at(place),
        refused_uri=work.folder.at("refused", GENERAL),
        engine=work.config.data.engine,
        progress=work.progress,
    )
    write_quarantine(work.folder.at("quarantine.parquet"), GENERAL, made.refused)
    reasons = ", ".join(f"{n} x {reason}" for reason, n in Counter(row.reason for row in made.refused).most_common())
    if not made.samples:
        raise ConfigError(
            f"{work.config.data.general.json_file}: none of its {len(made.refused)} items can be used ({reasons}). "
            f"Each item's reason is in {work.folder.at('quarantine.parquet')}."
        )
    return StepResult(
        counts={"samples": made.samples, "quarantined": len(made.refused)},
        figure=f"refused: {reasons}" if reasons else "none refused",
        products={f"samples_{GENERAL}": place, "quarantine": "quarantine.parquet"},
    )
