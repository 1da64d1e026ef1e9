"""Dipoles of discharges, against a conducting sphere whose truth is known and on real discharges marked by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from scipy.special import eval_legendre

from cg_data.analyze.annotate import annotate
from cg_data.analyze.dipoles import LONGITUDINAL, TRANSVERSE, dipoles_of
from cg_data.analyze.layout import SPHERE_XYZ
from cg_data.records import Dipole, Event
from cg_data.rows import ANNOTATION_SCHEMA, annotation_from_row, table_of
from cg_data.vocabulary import CHANNEL_INDEX, CHANNELS, SFREQ_HZ, Orientation, Polarity, Region, Side, Waveform
from tests.cg_data.planted_signals import real_pages
from tests.records_small import event
from tests.signals_small import TIME_S, pink_uv, segment_of

ALL = np.ones(19, dtype=np.bool_)
DEPTH = 0.75
"""Distance of the dipoles from the centre of the head: the cortex lies at about 0.85, its larger patches act deeper."""


def sphere_map(place: npt.NDArray[np.float64], moment: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Potential of a dipole at the surface of a homogeneous sphere, `(19,)`, greatest 1, average reference.

    Series of Legendre polynomials (Nunez and Srinivasan 2006, appendix): a radial moment p gives (2n+1) b^(n-1) p P_n(cos g), a tangential
    one (2n+1)/n b^(n-1) p cos(a) P_n^1(cos g); b is the eccentricity, g the angle to the electrode, a that to the moment's direction.
    """
    b = float(np.linalg.norm(place))
    radial = place / b
    p_radial = float(moment @ radial)
    along = moment - p_radial * radial
    cos_g = np.clip(SPHERE_XYZ @ radial, -1, 1)
    across = SPHERE_XYZ - np.outer(cos_g, radial)  # length sin(g)
    uv = np.zeros(19)
    for n in range(1, 60):
        slope = n * (cos_g * eval_legendre(n, cos_g) - eval_legendre(n - 1, cos_g)) / (cos_g**2 - 1 - 1e-12)
        uv += (2 * n + 1) * b ** (n - 1) * (p_radial * eval_legendre(n, cos_g) + (across @ along) * slope / n)
    uv -= uv.mean()
    return uv / np.abs(uv).max()


def at(name: str) -> npt.NDArray[np.float64]:
    return DEPTH * SPHERE_XYZ[CHANNEL_INDEX[name]]


def dipole_of(uv: npt.NDArray[np.float64], noise_uv: float = 2.0, height_uv: float = 100.0) -> Dipole:
    """The dipole found for one spike of 60 ms with this map, marked where it reaches half of its maximum."""
    eeg_uv = pink_uv(rms_uv=noise_uv) + np.outer(height_uv * uv, np.exp(-(((TIME_S - 5.03) / 0.015) ** 2))).astype(np.float32)
    marked = [event(Waveform.SPIKE, CHANNELS[i], 5.0, 0.06) for i in np.flatnonzero(np.abs(uv) >= 0.5)]
    (found,) = dipoles_of("s0", marked, eeg_uv, ALL)
    assert set(found.event_ids) == {e.event_id for e in marked}
    assert found.peak_s == pytest.approx(5.03, abs=0.01)
    return found


@pytest.mark.parametrize("name", CHANNELS)
def test_a_radial_dipole_beneath_an_electrode_is_negative_there_and_has_no_second_pole(name: str) -> None:
    found = dipole_of(sphere_map(at(name), -at(name)))
    assert (found.maximum, found.polarity, found.orientation, found.opposite) == (name, Polarity.NEGATIVE, Orientation.RADIAL, "")
    assert name in found.field
    assert found.amplitude_uv == pytest.approx(100, abs=12)


def inside(chains: tuple[tuple[str, ...], ...]) -> set[str]:
    return {name for chain in chains for name in chain[1:-1]}


@pytest.mark.parametrize("name", CHANNELS)
def test_phase_reverses_at_the_maximum_wherever_it_does_not_end_its_chain(name: str) -> None:
    found = dipole_of(sphere_map(at(name), -at(name)))
    assert found.longitudinal_reversal == (name if name in inside(LONGITUDINAL) else "")
    assert found.transverse_reversal == (name if name in inside(TRANSVERSE) else "")
    assert found.end_of_chain == (name not in inside(LONGITUDINAL))


def test_a_positive_discharge_is_told_as_positive() -> None:
    found = dipole_of(sphere_map(at("C4"), at("C4")))
    assert (found.maximum, found.polarity, found.longitudinal_reversal) == ("C4", Polarity.POSITIVE, "C4")


def test_a_maximum_between_two_electrodes_reverses_over_the_isoelectric_derivation() -> None:
    between = at("F7") + at("T3")
    between *= DEPTH / np.linalg.norm(between)
    found = dipole_of(sphere_map(between, -between), noise_uv=0.5)
    assert found.longitudinal_reversal == found.maximum
    assert found.maximum in ("F7", "T3")
    assert {"F7", "T3"} <= set(found.field)


def test_a_rolandic_dipole_is_negative_centrotemporally_and_positive_frontally() -> None:
    place = at("C3") + at("T3")
    radial = place / np.linalg.norm(place)
    forward = np.array([0.0, 1.0, 0.0]) - radial[1] * radial  # the positive pole: the source lies in the wall of the central sulcus
    found = dipole_of(sphere_map(DEPTH * radial, forward / np.linalg.norm(forward) - 0.6 * radial))
    assert found.polarity == Polarity.NEGATIVE
    assert found.side == Side.LEFT
    assert found.maximum in ("C3", "T3", "T5", "P3")
    assert found.orientation == Orientation.TANGENTIAL
    assert found.opposite in ("Fp1", "F3", "Fz", "F7")
    assert found.opposite_uv >= 0.4 * found.amplitude_uv


def test_the_side_and_the_region_are_those_of_the_field() -> None:
    assert [(d.side, d.region) for d in (dipole_of(sphere_map(at(n), -at(n))) for n in ("T6", "O1", "Cz", "F3"))] == [
        (Side.RIGHT, Region.TEMPORAL),
        (Side.LEFT, Region.POSTERIOR),
        (Side.MIDLINE, Region.CENTRAL),
        (Side.LEFT, Region.FRONTAL),
    ]


def test_a_missing_electrode_is_never_named() -> None:
    mask = ALL.copy()
    mask[CHANNEL_INDEX["C3"]] = False
    uv = sphere_map(at("C3"), -at("C3"))
    eeg_uv = np.outer(100 * uv, np.exp(-(((TIME_S - 5.03) / 0.015) ** 2))).astype(np.float32)
    (found,) = dipoles_of("s0", [event(Waveform.SPIKE, "P3", 5.0, 0.06), event(Waveform.SPIKE, "F3", 5.0, 0.06)], eeg_uv, mask)
    assert "C3" not in (found.maximum, found.longitudinal_reversal, found.transverse_reversal, *found.field)


def test_discharges_one_after_the_other_are_told_apart_and_artefacts_have_no_dipole() -> None:
    events = [event(Waveform.SPIKE_AND_SLOW_WAVE, name, 2.0 + 0.33 * i, 0.3) for i in range(5) for name in ("F3", "Fz")]
    events.append(event(Waveform.POSITIVE_SHARP_TRANSIENT, "Fp1", 5.0, 0.3))
    found = dipoles_of("s0", events, pink_uv(), ALL)
    assert [round(d.onset_s, 2) for d in found] == [2.0, 2.33, 2.66, 2.99, 3.32]
    assert all(len(d.event_ids) == 2 for d in found)


@pytest.mark.parametrize("onset_s", [0.0, 0.01, 9.97, 9.999])
def test_a_discharge_at_the_edge_of_the_page_has_a_dipole(onset_s: float) -> None:
    (found,) = dipoles_of("s0", [event(Waveform.SPIKE, "C3", onset_s, 10.0 - onset_s if onset_s > 5 else 0.05)], pink_uv(), ALL)
    assert 0.0 <= found.peak_s <= 10.0


def test_dipoles_stand_in_the_annotation_and_survive_parquet() -> None:
    events = tuple(event(Waveform.SPIKE, name, 5.0, 0.06) for name in ("C3", "T3"))
    annotation = annotate(segment_of(pink_uv()), events, detector_version="d1")
    assert len(annotation.dipoles) == 1
    (row,) = table_of([annotation], ANNOTATION_SCHEMA).to_pylist()
    assert annotation_from_row(row).dipoles == annotation.dipoles


def marked(onsets_s: list[float], names: tuple[str, ...], waveform: Waveform, duration_s: float) -> list[Event]:
    return [event(waveform, name, onset_s, duration_s) for onset_s in onsets_s for name in names]


def test_real_lateralised_discharges_lie_right_posteriorly_and_reverse_there(real_eeg: Path) -> None:
    page = real_pages(real_eeg / "iiic_LPD_sample1.edf")[2]
    events = marked([1.15, 2.2, 3.5, 4.72, 6.05, 7.3, 8.55, 9.7], ("C4", "P4", "T6"), Waveform.SHARP_WAVE, 0.2)
    found = dipoles_of("s0", events, page.eeg_uv, page.mask)
    assert {d.side for d in found} == {Side.RIGHT}
    assert {d.maximum for d in found} <= {"P4", "T6"}
    assert all(d.longitudinal_reversal == d.maximum for d in found)
    assert len({d.polarity for d in found}) == 1
    assert all(SFREQ_HZ * abs(d.peak_s - d.onset_s) <= 40 for d in found)


def test_real_spikes_and_waves_of_a_seizure_are_generalised_with_a_frontal_negative_maximum(real_eeg: Path) -> None:
    page = real_pages(real_eeg / "iiic_SZ_sample1.edf")[2]
    names = ("Fp1", "Fp2", "F3", "Fz", "F4", "C3", "Cz", "C4", "O1", "O2")
    found = dipoles_of(
        "s0", marked([2.2, 2.5, 2.8, 3.1, 3.42, 3.75, 4.07], names, Waveform.SPIKE_AND_SLOW_WAVE, 0.3), page.eeg_uv, page.mask
    )
    assert {(d.side, d.region, d.polarity) for d in found} == {(Side.GENERALISED, Region.FRONTAL, Polarity.NEGATIVE)}
