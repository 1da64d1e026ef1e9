"""A montage is made of differences of what was recorded; a derivation that lacks an electrode is masked, never invented."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from cg_data.errors import MontageError
from cg_data.montage import derive, enough_for_average, row_names
from cg_data.vocabulary import CHANNEL_INDEX, CHANNELS, LEFT_CHANNELS, RIGHT_CHANNELS, Montage

ALL = np.ones(19, dtype=np.bool_)
PAIRED = (Montage.LONGITUDINAL_BIPOLAR, Montage.TRANSVERSE_BIPOLAR, Montage.TCP, Montage.CZ)
MIRRORED = (
    "Fp2", "Fp1", "F8", "F4", "Fz", "F3", "F7", "T4", "C4", "Cz", "C3", "T3", "T6", "P4", "Pz", "P3", "T5", "O2", "O1",
)  # fmt: skip
MIRROR = dict(zip(CHANNELS, MIRRORED, strict=True))


def waves(seed: int = 0) -> npt.NDArray[np.float32]:
    return (30 * np.random.default_rng(seed).standard_normal((19, 200))).astype(np.float32)


def without(*names: str) -> npt.NDArray[np.bool_]:
    return np.array([name not in names for name in CHANNELS])


@pytest.mark.parametrize("montage", [*PAIRED, Montage.LAPLACIAN, Montage.AVERAGE])
def test_the_reference_of_the_recording_does_not_matter(montage: Montage) -> None:
    reference = waves(1)[:1]
    one, other = derive(waves(), ALL, montage)[0], derive(waves() + reference, ALL, montage)[0]
    np.testing.assert_allclose(one, other, atol=1e-4)


@pytest.mark.parametrize("montage", PAIRED)
def test_each_row_is_the_difference_that_its_name_says(montage: Montage) -> None:
    eeg_uv = waves()
    rows_uv, mask, names = derive(eeg_uv, ALL, montage)
    assert names == row_names(montage)
    assert rows_uv.dtype == np.float32
    for row_uv, there, name in zip(rows_uv, mask, names, strict=True):
        plus, minus = name.split("-")
        assert there == ("A1" not in name and "A2" not in name)
        if there:
            np.testing.assert_allclose(row_uv, eeg_uv[CHANNEL_INDEX[plus]] - eeg_uv[CHANNEL_INDEX[minus]], atol=1e-5)


def test_every_montage_has_the_rows_of_its_guideline() -> None:
    counts = {montage: len(row_names(montage)) for montage in Montage}
    assert counts == {
        Montage.AVERAGE: 19,
        Montage.LINKED_EARS: 19,
        Montage.LONGITUDINAL_BIPOLAR: 18,
        Montage.TRANSVERSE_BIPOLAR: 18,
        Montage.TCP: 22,
        Montage.LAPLACIAN: 19,
        Montage.CZ: 18,
        Montage.RECORDED: 19,
    }
    assert all(len(set(row_names(montage))) == len(row_names(montage)) for montage in Montage)


@pytest.mark.parametrize("montage", [Montage.LONGITUDINAL_BIPOLAR, Montage.TRANSVERSE_BIPOLAR])
def test_bipolar_chains_join_end_to_end_and_reach_every_electrode(montage: Montage) -> None:
    names = [name.split("-") for name in row_names(montage)]
    assert {electrode for pair in names for electrode in pair} == set(CHANNELS)
    ends = [pair[0] for before, pair in zip([["", ""], *names], names, strict=False) if before[1] != pair[0]]
    assert ends == (["Fp1", "Fp1", "Fz", "Fp2", "Fp2"] if montage is Montage.LONGITUDINAL_BIPOLAR else ["F7", "F7", "T3", "T5", "T5"])


def test_laplacian_weighs_an_electrode_against_the_mean_of_its_neighbours() -> None:
    eeg_uv = np.zeros((19, 1), dtype=np.float32)
    eeg_uv[CHANNEL_INDEX["C3"]] = 60
    rows_uv = dict(zip(CHANNELS, derive(eeg_uv, ALL, Montage.LAPLACIAN)[0][:, 0].tolist(), strict=True))
    assert {name: round(value) for name, value in rows_uv.items() if value} == {"C3": 60, "F3": -15, "T3": -20, "Cz": -15, "P3": -15}


def test_laplacian_is_the_same_on_both_sides() -> None:
    eeg_uv = waves()
    mirrored = np.stack([eeg_uv[CHANNEL_INDEX[MIRROR[name]]] for name in CHANNELS])
    one, other = derive(eeg_uv, ALL, Montage.LAPLACIAN)[0], derive(mirrored, ALL, Montage.LAPLACIAN)[0]
    np.testing.assert_allclose(other, np.stack([one[CHANNEL_INDEX[MIRROR[name]]] for name in CHANNELS]), atol=1e-4)


@pytest.mark.parametrize("montage", PAIRED)
def test_a_derivation_without_its_electrode_is_masked_and_zero_whatever_the_row_holds(montage: Montage) -> None:
    eeg_uv = waves()
    eeg_uv[CHANNEL_INDEX["C3"]] = np.nan
    rows_uv, mask, names = derive(eeg_uv, without("C3"), montage)
    whole_uv, whole_mask, _ = derive(waves(), ALL, montage)
    touched = np.array(["C3" in name.split("-") for name in names])
    np.testing.assert_array_equal(mask, whole_mask & ~touched)
    assert not rows_uv[~mask].any()
    np.testing.assert_allclose(rows_uv[mask], whole_uv[mask], atol=1e-5)


def test_a_laplacian_needs_all_neighbours() -> None:
    rows_uv, mask, _ = derive(waves(), without("Pz"), Montage.LAPLACIAN)
    assert [name for name, there in zip(CHANNELS, mask, strict=True) if not there] == ["Cz", "P3", "Pz", "P4"]
    assert not rows_uv[~mask].any()


def test_the_average_is_that_of_the_electrodes_there_are() -> None:
    eeg_uv, mask = waves(), without("O1", "Fz")
    rows_uv, there, _ = derive(eeg_uv, mask, Montage.AVERAGE)
    np.testing.assert_array_equal(there, mask)
    np.testing.assert_allclose(rows_uv[mask], eeg_uv[mask] - eeg_uv[mask].mean(axis=0), atol=1e-4)
    assert not rows_uv[~mask].any()


def test_an_average_of_too_few_electrodes_is_masked() -> None:
    rows_uv, there, _ = derive(waves(), without(*RIGHT_CHANNELS), Montage.AVERAGE)
    assert not there.any()
    assert not rows_uv.any()


@pytest.mark.parametrize(
    ("names", "enough"),
    [
        (set(CHANNELS), True),
        (set(CHANNELS) - {"Fz", "Cz", "Pz"}, True),
        ({"Fp1", "Fp2", "F3", "F4", "C3", "C4", "P3", "P4", "Fz", "Cz", "Pz", "O1"}, True),
        ({"Fp1", "Fp2", "F3", "F4", "C3", "C4", "P3", "P4", "Fz", "Cz", "Pz"}, False),
        (LEFT_CHANNELS | {"Fz", "Cz", "Pz", "Fp2", "F4"}, False),
        ({"F4", "C4", "O2", "C3"}, False),
    ],
)
def test_an_average_needs_electrodes_over_both_sides(names: set[str], enough: bool) -> None:
    assert enough_for_average(names) is enough


def test_as_recorded_is_as_it_is() -> None:
    rows_uv, mask, names = derive(waves(), without("Cz"), Montage.RECORDED)
    np.testing.assert_array_equal(rows_uv[mask], waves()[mask])
    np.testing.assert_array_equal(mask, without("Cz"))
    assert names == CHANNELS


def test_linked_ears_cannot_be_had_from_nineteen_electrodes() -> None:
    with pytest.raises(MontageError, match=r"Set data\.montage to linked_ears") as refused:
        derive(waves(), ALL, Montage.LINKED_EARS)
    assert refused.value.reason == "montage.ears_missing"


def test_a_mask_that_is_given_back_may_be_written_to() -> None:
    derive(waves(), ALL, Montage.CZ)[1][:] = False
    assert derive(waves(), ALL, Montage.CZ)[1].all()
