"""Pages drawn at random with every record that an annotation can hold, consistent in themselves: what rules and checks are tried on.

The signal is quiet noise; the annotation is written, not measured, so that combinations come up which no analyser would give for years.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence

import numpy as np

from cg_data.analyze.annotate import event_findings
from cg_data.analyze.background import finding
from cg_data.analyze.layout import NEIGHBOURS, in_page_order
from cg_data.instruct.facts import side_of
from cg_data.records import Annotation, Dipole, Event, Finding, PosteriorRhythm, RegionRhythm, Segment
from cg_data.vocabulary import (
    BAND_EDGES_HZ,
    CHANNEL_INDEX,
    CHANNELS,
    FINDING_OF_WAVEFORM,
    LEFT_CHANNELS,
    REGION_CHANNELS,
    RIGHT_CHANNELS,
    Band,
    Eyes,
    FindingKind,
    Orientation,
    Polarity,
    Region,
    Side,
    Split,
    Stage,
    Waveform,
)
from tests import records_small

K, W = FindingKind, Waveform
TEMPORAL = {Side.LEFT: ("F7", "T3", "T5"), Side.RIGHT: ("F8", "T4", "T6")}
FIELDS: dict[Waveform, tuple[tuple[str, ...], ...]] = {
    W.SPIKE: (*TEMPORAL.values(), ("C4",), ("F3", "Fz", "F4"), ("O1", "O2"), ("T3", "C3", "P3")),
    W.SHARP_WAVE: (*TEMPORAL.values(), ("T6", "O2"), ("Fp1", "F3", "F7")),
    W.SPIKE_AND_SLOW_WAVE: (CHANNELS, ("F3", "Fz", "F4", "C3", "Cz", "C4")),
    W.K_COMPLEX: (("Fz", "Cz"), ("F3", "Fz", "F4", "C3", "Cz", "C4")),
    W.SLEEP_SPINDLE: (("C3", "Cz", "C4"), ("F3", "Fz", "F4")),
    W.HIGH_FREQUENCY_NOISE: (("T3",), ("T3", "T4"), ("Fp1", "Fp2", "F7", "F8", "T3", "T4")),
    W.POSITIVE_SHARP_TRANSIENT: (("Fp1", "Fp2"),),
    W.NEGATIVE_SQUARE_WAVE: (("F7", "F8"),),
}
AWAKE = (W.SPIKE, W.SHARP_WAVE, W.SPIKE_AND_SLOW_WAVE, W.HIGH_FREQUENCY_NOISE, W.POSITIVE_SHARP_TRANSIENT, W.NEGATIVE_SQUARE_WAVE)
ASLEEP = (W.K_COMPLEX, W.SLEEP_SPINDLE, W.SPIKE, W.HIGH_FREQUENCY_NOISE)
ONE_CHANNEL = (K.ELECTRODE_FAULT, K.FLAT_CHANNEL, K.ELECTRODE_POP, K.CLIPPING)
SEVERAL = {K.MAINS: 12, K.RESPIRATION: 4, K.ECG: 3, K.SWEAT: 3}
ACTIVITY = {Band.BETA: K.BETA_ACTIVITY, Band.THETA: K.THETA_ACTIVITY, Band.DELTA: K.DELTA_ACTIVITY}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Draw:
    name: str
    rng: random.Random
    recorded: tuple[str, ...]
    stage: Stage

    def there(self, channels: Sequence[str]) -> tuple[str, ...]:
        return tuple(name for name in channels if name in self.recorded)

    def often(self, share: float) -> bool:
        return self.rng.random() < share

    def measured(
        self, kind: FindingKind, at: Sequence[str], *, value: float = 6.0, threshold: float = 5.0, unit: str = "times", short: bool = False
    ) -> Finding:
        when_s = (round(self.rng.uniform(0.5, 7.5), 2), 1.0) if short else (0.0, 10.0)
        return finding(self.name, kind, tuple(at), value, threshold, unit, when_s)


def random_page(seed: int) -> tuple[Segment, Annotation]:
    """A page and its annotation; equal seeds give equal pages."""
    rng = random.Random(seed)
    missing = set(rng.sample(CHANNELS, rng.choice((1, 2, 4)))) if rng.random() < 0.3 else set()
    stage = rng.choice((Stage.WAKE, Stage.WAKE, Stage.N1, Stage.N2, Stage.N3, Stage.REM, Stage.UNKNOWN))
    draw = _Draw(name=f"page-{seed}", rng=rng, recorded=tuple(c for c in CHANNELS if c not in missing), stage=stage)
    events = _events(draw)
    posterior = _posterior(draw) if stage in (Stage.WAKE, Stage.UNKNOWN) and draw.often(0.6) else None
    background = _background(draw, posterior)
    order = {kind: i for i, kind in enumerate(FindingKind)}
    findings = [*_background_findings(draw, background, posterior), *_artefacts(draw), *event_findings(draw.name, events)]
    eyes = rng.choice((Eyes.OPEN, Eyes.CLOSED, Eyes.UNKNOWN)) if stage is Stage.WAKE else Eyes.UNKNOWN
    annotation = Annotation(
        segment_id=draw.name,
        recording_id=f"recording-{seed % 20}",
        corpus="test",
        subject=f"subject-{seed % 20}",
        split=Split.TRAIN,
        start_s=10.0 * seed,
        events=events,
        removed=(),
        background=background,
        posterior=posterior,
        dipoles=_dipoles(draw, events),
        findings=tuple(sorted(findings, key=lambda f: (order[f.kind], f.onset_s, f.finding_id))),
        stage=stage,
        eyes=eyes,
        seizure=draw.often(0.05),
        detector_version="detector",
        analyser_version="analyser",
    )
    return _segment(draw, annotation), annotation


def _segment(draw: _Draw, annotation: Annotation) -> Segment:
    mask = np.array([name in draw.recorded for name in CHANNELS], dtype=np.bool_)
    noise = np.random.default_rng(int(annotation.start_s)).normal(0, 60, (19, 2000)).astype(np.int16)
    return Segment(
        segment_id=annotation.segment_id,
        recording_id=annotation.recording_id,
        sha256="0" * 64,
        corpus=annotation.corpus,
        subject=annotation.subject,
        split=annotation.split,
        start_s=annotation.start_s,
        montage=random.Random(annotation.segment_id).choice(("average", "average", "linked_ears", "recorded")),
        sfreq_recorded_hz=200.0,
        filter_version="f",
        flags=(),
        mask=mask,
        eeg_steps=np.where(mask[:, None], noise, 0).astype(np.int16),
        labels=(),
    )


def _events(draw: _Draw) -> tuple[Event, ...]:
    asleep = draw.stage in (Stage.N2, Stage.N3)
    events: list[Event] = []
    for waveform in ASLEEP if asleep else AWAKE:
        fields = [field for field in FIELDS[waveform] if draw.there(field)]
        if not fields or not draw.often(0.3):
            continue
        length_s = 0.06 if waveform is W.SPIKE else 0.5
        for _ in range(draw.rng.choice((1, 1, 2, 3, 5))):
            onset_s = round(draw.rng.uniform(0.5, 9.0), 2)
            for channel in draw.there(draw.rng.choice(fields)):
                events.append(_event(draw, waveform, channel, onset_s, length_s))
    unique = {(e.waveform, e.channel, e.onset_s): e for e in events}
    return tuple(sorted(unique.values(), key=lambda e: (e.onset_s, CHANNELS.index(e.channel), e.waveform)))


def _event(draw: _Draw, waveform: Waveform, channel: str, onset_s: float, duration_s: float) -> Event:
    made = records_small.event(waveform, channel, onset_s, duration_s)
    return dataclasses.replace(made, event_id=f"{draw.name}-{made.event_id}")


def _dipoles(draw: _Draw, events: Sequence[Event]) -> tuple[Dipole, ...]:
    """One for each discharge that begins at a time of its own."""
    groups: dict[tuple[Waveform, float], list[Event]] = {}
    for event in events:
        if event.waveform in (W.SPIKE, W.SHARP_WAVE, W.SPIKE_AND_SLOW_WAVE):
            groups.setdefault((event.waveform, event.onset_s), []).append(event)
    return tuple(_dipole(draw, members) for members in groups.values())


def _dipole(draw: _Draw, members: Sequence[Event]) -> Dipole:
    own = {e.channel for e in members}
    beside = [name for name in draw.recorded if any(NEIGHBOURS[CHANNEL_INDEX[name], CHANNEL_INDEX[c]] for c in own)]
    field = in_page_order(own | set(beside if draw.often(0.3) else ()))
    maximum = draw.rng.choice(field)
    ends = maximum in ("Fp1", "Fp2", "O1", "O2", "Fz", "Pz")
    tangential = draw.often(0.2)
    far = next(name for name in reversed(draw.recorded) if name not in field or name != maximum)
    return Dipole(
        dipole_id=f"dipole-{members[0].event_id}",
        kind=FINDING_OF_WAVEFORM[members[0].waveform],
        onset_s=members[0].onset_s,
        duration_s=members[0].duration_s,
        peak_s=members[0].onset_s + 0.03,
        maximum=maximum,
        polarity=draw.rng.choice((Polarity.NEGATIVE, Polarity.NEGATIVE, Polarity.POSITIVE)),
        amplitude_uv=round(draw.rng.uniform(30, 250), 2),
        field=field,
        side=side_of(field, len(draw.recorded)),
        region=next(region for region, names in REGION_CHANNELS.items() if maximum in names),
        longitudinal_reversal="" if ends or draw.often(0.3) else maximum,
        transverse_reversal=maximum if draw.often(0.2) else "",
        end_of_chain=ends,
        orientation=Orientation.TANGENTIAL if tangential else Orientation.RADIAL,
        opposite=far if tangential else "",
        opposite_uv=20.0 if tangential else 0.0,
        event_ids=tuple(e.event_id for e in members),
    )


def _posterior(draw: _Draw) -> PosteriorRhythm | None:
    channels = draw.there(REGION_CHANNELS[Region.POSTERIOR])
    if len(channels) < 2:
        return None
    hz, uv = round(draw.rng.uniform(6.0, 12.5), 2), round(draw.rng.uniform(8, 60), 2)
    left = round(hz + draw.rng.choice((0.0, 0.2, -1.6)), 2) if draw.there(("P3", "O1")) else None
    right = hz if draw.there(("P4", "O2")) else None
    return PosteriorRhythm(
        rhythm_id=f"rhythm-{draw.name}",
        channels=channels,
        frequency_hz=hz,
        peak_ratio=12.0,
        amplitude_uv=uv,
        left_hz=left,
        right_hz=right,
        left_uv=uv if left else None,
        right_uv=uv if right else None,
        symmetric=None if left is None or right is None else abs(left - right) <= 1,
        reactivity=draw.rng.choice((None, None, 1.2, 3.5)),
    )


def _background(draw: _Draw, posterior: PosteriorRhythm | None) -> tuple[RegionRhythm, ...]:
    rhythms = []
    for region, names in REGION_CHANNELS.items():
        if not draw.there(names):
            continue
        band = draw.rng.choice(tuple(Band))
        hz, uv = round(draw.rng.uniform(*BAND_EDGES_HZ[band]), 2), round(draw.rng.uniform(4, 90), 2)
        if region is Region.POSTERIOR and posterior is not None and draw.often(0.8):  # else another band is stronger there
            band = Band.ALPHA if posterior.frequency_hz >= 8 else Band.THETA
            hz, uv = posterior.frequency_hz, posterior.amplitude_uv
        rhythms.append(RegionRhythm(region=region, band=band, dominant_hz=hz, amplitude_uv=uv, alpha_uv=uv / 3))
    return tuple(rhythms)


def _background_findings(draw: _Draw, background: Sequence[RegionRhythm], posterior: PosteriorRhythm | None) -> list[Finding]:
    found = []
    if posterior is not None and posterior.frequency_hz >= 8:
        found.append(draw.measured(K.ALPHA_RHYTHM, posterior.channels))
    for rhythm in background:
        if rhythm.band in ACTIVITY and draw.often(0.5):
            found.append(draw.measured(ACTIVITY[rhythm.band], draw.there(REGION_CHANNELS[rhythm.region])))
    if draw.often(0.15):
        lower = draw.there(sorted(draw.rng.choice((LEFT_CHANNELS, RIGHT_CHANNELS)), key=CHANNELS.index)[:3])
        found += [draw.measured(K.ASYMMETRY, lower, value=0.4, threshold=0.5, unit="of the other side")] if lower else []
    if draw.often(0.1):
        found.append(draw.measured(K.LOW_VOLTAGE, draw.recorded, value=15.0, threshold=20.0, unit="uV peak to peak"))
    slowed = draw.there(draw.rng.choice((TEMPORAL[Side.LEFT], TEMPORAL[Side.RIGHT], CHANNELS)))
    if draw.stage in (Stage.WAKE, Stage.UNKNOWN) and draw.often(0.2) and len(slowed) > 1:
        found.append(draw.measured(K.SLOWING, slowed, unit="times the power from 8 to 20 Hz"))
    elif posterior is not None and posterior.frequency_hz < 8:
        found.append(draw.measured(K.SLOWING, posterior.channels, value=posterior.frequency_hz, threshold=8.0, unit="Hz posterior rhythm"))
    return found


def _artefacts(draw: _Draw) -> list[Finding]:
    found = [
        draw.measured(kind, (draw.rng.choice(draw.recorded),), short=draw.often(0.5) and kind is not K.FLAT_CHANNEL)
        for kind in ONE_CHANNEL
        if draw.often(0.1)
    ]
    for kind, many in SEVERAL.items():
        if draw.often(0.1):
            where = in_page_order(draw.rng.sample(draw.recorded, many))
            found.append(draw.measured(kind, where, value=50.0, threshold=10.0, unit="uV"))
    return found
