"""The data steps: corpus, segments, annotations, samples; for the embedded corpus and for a user's folder."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Mapping
from functools import partial
from typing import Any

from cg_data import register
from cg_data.analyze.annotate import ANALYSER_VERSION
from cg_data.corpora import CORPORA, CorpusName
from cg_data.corpora.source import Source
from cg_data.errors import ConfigError, EdfError
from cg_data.instruct.general import GENERAL
from cg_data.instruct.prompt import PROMPT_VERSION
from cg_data.instruct.teacher import Taught
from cg_data.instruct.teacher_prompts import TEACHER_VERSION
from cg_data.recording import pseudonym
from cg_data.records import content_id
from cg_data.rows import ROWS_VERSION
from cg_data.settings import PUBLIC_SALT, SALT_VARIABLE
from cg_data.signal import FILTER_VERSION
from cluster.config import RunConfig
from cluster.display import Display
from cluster.pipeline import Step, Work, alone
from cluster.runfolder import RunFolder, StepResult

SYNTHETIC = CorpusName.SYNTHETIC


def shown_corpus(config: RunConfig) -> CorpusName:
    """The corpus that the report and the service show: the user's first, else the embedded one."""
    return next(iter(config.corpora), SYNTHETIC)


def data_steps(corpus: CorpusName) -> list[Step]:
    """Segments, annotations and samples of one corpus."""
    prefix = "" if corpus == SYNTHETIC else f"{corpus}-"
    of = {CorpusName.SYNTHETIC: "", CorpusName.FOLDER: " of your recordings"}.get(corpus, f" of {corpus}")
    inputs = partial(_listing, corpus=corpus)
    return [
        Step(
            name=f"{prefix}segments",
            title=f"Segments{of}",
            needs=("corpus",) if corpus == SYNTHETIC else (),
            settings=partial(_segment_settings, corpus=corpus),
            owns=(f"recordings/{corpus}", f"segments/{corpus}"),
            run=alone(partial(_segments, corpus=corpus)),
            inputs=inputs,
        ),
        Step(
            name=f"{prefix}annotations",
            title=f"Annotations{of}",
            needs=(f"{prefix}segments", "detector"),
            settings=lambda _: ANALYSER_VERSION,
            owns=(f"annotations/{corpus}",),
            run=alone(partial(_annotations, corpus=corpus)),
            inputs=inputs,
        ),
        Step(
            name=f"{prefix}samples",
            title=f"Instruction samples{of}",
            needs=(f"{prefix}annotations",),
            settings=_sample_settings,
            owns=(f"samples/{corpus}",),
            run=alone(partial(_samples, corpus=corpus)),
            inputs=inputs,
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


def is_samples(step: Step) -> bool:
    """Whether a step writes dialogues about pages, in which a teacher may have a part."""
    return step.name.rsplit("-", 1)[-1] == "samples"


def sources_of(config: RunConfig, folder: RunFolder, corpus: CorpusName) -> list[Source]:
    """The files of a corpus of this run."""
    return _sources(corpus, folder.at("corpus") if corpus == SYNTHETIC else config.corpora[corpus])


@functools.cache
def _sources(corpus: CorpusName, uri: str) -> list[Source]:
    return CORPORA[corpus].sources(uri)


def _listing(config: RunConfig, corpus: CorpusName) -> str:
    """What a user's corpus holds now, as one hash: names, sizes and times. The embedded one follows from its settings."""
    if corpus == SYNTHETIC:
        return ""
    files = register.listed(_sources(corpus, config.corpora[corpus]), config.data.subject_salt)
    return content_id("listing", sorted(file.key for file in files))


def _segment_settings(config: RunConfig, corpus: CorpusName) -> dict[str, Any]:
    chosen = config.data.model_dump(include={"validation_fraction", "test_fraction", "mains_hz"})
    return {
        **chosen,
        "salt": pseudonym("", config.data.subject_salt),
        "place": "" if corpus == SYNTHETIC else config.corpora[corpus],
        "segments_per_shard": config.data.engine.segments_per_shard,
        "filter": FILTER_VERSION,
        "rows": ROWS_VERSION,
    }


def _corpus(work: Work) -> StepResult:
    from cg_data.corpora.synthetic import write_corpus

    files = write_corpus(work.folder.at("corpus"), work.config.data.synthetic, work.progress)
    minutes = len(files) * work.config.data.synthetic.minutes_per_subject
    return StepResult(
        counts={"recordings": len(files)}, figure=f"{minutes / 60:.1f} hours, truth known to the sample", products={"corpus": "corpus"}
    )


def _segments(work: Work, corpus: CorpusName) -> StepResult:
    from cg_data.engine import build_segments, write_quarantine

    place = f"segments/{corpus}"
    if corpus != SYNTHETIC and work.config.data.subject_salt == PUBLIC_SALT:
        Display().say(
            f"Subjects of {corpus} are hashed with the public salt. Set {SALT_VARIABLE} where their codes are not public already."
        )
    made = build_segments(
        sources_of(work.config, work.folder, corpus),
        corpus=corpus,
        register_uri=work.folder.at("recordings", corpus),
        out_uri=work.folder.at(place),
        settings=work.config.data,
        progress=work.progress,
    )
    write_quarantine(work.folder.at("quarantine.parquet"), corpus, made.quarantined)
    if not made.segments:
        reasons = ", ".join(f"{n} x {reason}" for reason, n in Counter(q.reason for q in made.quarantined).items())
        raise EdfError(
            "folder.nothing_usable",
            f"{work.config.corpora.get(corpus, corpus)}: none of the {len(made.quarantined)} recordings can be used ({reasons}). "
            f"Each file's reason is in {work.folder.at('quarantine.parquet')}.",
        )
    label_faults = sum(made.problems.values())
    return StepResult(
        counts={
            "recordings": made.recordings,
            "segments": made.segments,
            "quarantined": len(made.quarantined),
            **({"label_faults": label_faults} if label_faults else {}),
        },
        figure=f"{made.subjects} subjects, {made.segments * 10 / 3600:.1f} hours of pages{_alarm(made.spilled_bytes)}",
        products={f"recordings_{corpus}": f"recordings/{corpus}", f"segments_{corpus}": place, "quarantine": "quarantine.parquet"},
    )


def _annotations(work: Work, corpus: CorpusName) -> StepResult:
    from cg_data.engine import annotate_segments

    place = f"annotations/{corpus}"
    made = annotate_segments(
        work.folder.at("segments", corpus),
        detector_uri=work.folder.at("detector"),
        out_uri=work.folder.at(place),
        settings=work.config.data.engine,
        progress=work.progress,
    )
    events, removed = made.counts.get("events", 0), made.counts.get("removed", 0)
    memory = f", {made.rss_bytes / 2**30:.1f} GiB an actor" if made.rss_bytes else ""
    return StepResult(
        counts={"segments": made.rows, "events": events, "removed": removed},
        figure=f"{events / max(1, made.rows):.1f} events a page{memory}{_alarm(made.spilled_bytes)}",
        products={f"annotations_{corpus}": place},
    )


def _samples(work: Work, corpus: CorpusName) -> StepResult:
    from cg_data.engine import build_samples

    place, teacher = f"samples/{corpus}", work.config.data.teacher
    made = build_samples(
        work.folder.at("segments", corpus),
        work.folder.at("annotations", corpus),
        out_uri=work.folder.at(place),
        settings=work.config.data.instruct,
        teacher=teacher,
        teacher_uri=teacher.store or work.folder.at("teacher"),
        engine=work.config.data.engine,
        say=Display().say,
        progress=work.progress,
    )
    figure = ", ".join(f"{n} {kind}" for kind, n in made.kinds.items())
    figure += "".join(f"; {n} rejected: {why}" for why, n in made.rejected.items()) + _alarm(made.spilled_bytes)
    return StepResult(
        counts={"samples": made.samples},
        figure=f"{figure}. {taught_figure(made.taught, made.taken)}" if made.taught else figure,
        products={f"samples_{corpus}": place},
    )


def taught_figure(taught: Taught, taken: Mapping[str, int]) -> str:
    """What became of a teacher's answers, and what they cost."""
    faults = ", ".join(f"{n} x {fault}" for fault, n in taught.failed.most_common())
    reasons = ", ".join(f"{n} x {name.removeprefix('rejected: ')}" for name, n in taken.items() if name.startswith("rejected: "))
    spent = taught.spent
    parts = [
        f"Teacher: {taken.get('answers', 0):,} answers, {taken.get('unanswered', 0):,} missing{f' ({faults})' if faults else ''}",
        f"rejected: {reasons or 'none'}",
        f"{taken.get('sentences dropped', 0):,} sentences dropped",
        f"{spent.requests:,} requests, {spent.prompt_tokens:,} + {spent.completion_tokens:,} tokens",
    ]
    parts += [f"cost {spent.cost:.2f}"] if spent.cost else []
    parts += ["stopped by the budget: what is missing is by rule"] if taught.stopped_by_budget else []
    return "; ".join(parts)


def _sample_settings(config: RunConfig) -> dict[str, Any]:
    """A teacher counts by what decides its answers; bounds, prices and patience do not."""
    teacher = config.data.teacher.model_dump(include={"model", "share", "seed", "temperature", "max_tokens"})
    teacher["version"] = TEACHER_VERSION
    return {
        "instruct": config.data.instruct.model_dump(),
        "prompt": PROMPT_VERSION,
        "teacher": teacher if config.data.teacher.url else None,
    }


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


def _alarm(spilled_bytes: int) -> str:
    """Spilling means that work was held in memory for too long: the step still ends right, but slower than it could."""
    if not spilled_bytes:
        return ""
    return f"; ALARM: Ray spilled {spilled_bytes / 2**20:.0f} MiB to disk, raise cluster.object_store_mib or use fewer actors"
