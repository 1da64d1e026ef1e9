"""Electrodes are found in referential and bipolar recordings; what does not follow from the signals is missing."""

from __future__ import annotations

import dataclasses
from typing import cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cg_data.electrodes import Electrodes, find_electrodes, montage_of, parse_derivation, potentials_matrix, with_ears
from cg_data.errors import MontageError
from cg_data.signal_file import SignalFile
from cg_data.vocabulary import CHANNELS, RIGHT_CHANNELS, Montage


def _words(text: str) -> list[str]:
    return text.split()


CHB_MIT = _words(
    "FP1-F7 F7-T7 T7-P7 P7-O1 FP1-F3 F3-C3 C3-P3 P3-O1 FP2-F4 F4-C4 C4-P4 P4-O2 FP2-F8 F8-T8 T8-P8 P8-O2 FZ-CZ CZ-PZ "
    "P7-T7 T7-FT9 FT9-FT10 FT10-T8 T8-P8"
)
"""T8-P8 is there twice."""
CHB_MIT_NUMBERED = [*CHB_MIT[:14], "T8-P8-0", *CHB_MIT[15:22], "T8-P8-1"]
CHB_MIT_DUMMIES = _words(
    "FP1-F7 F7-T7 T7-P7 P7-O1 - FP1-F3 F3-C3 C3-P3 P3-O1 - FZ-CZ CZ-PZ - FP2-F4 F4-C4 C4-P4 P4-O2 - FP2-F8 F8-T8 T8-P8 P8-O2 - "
    "P7-T7 T7-FT9 FT9-FT10 FT10-T8 T8-P8"
)
"""Other cases: with empty signals between the chains."""
CHB_MIT_MNE = [label if label != "-" else f"--{i}" for i, label in enumerate(CHB_MIT_DUMMIES)]
CHB_MIT_SPINE = [f"{n}-CS2" for n in _words("F7 T7 P7 FP1 F3 C3 P3 O1 FZ CZ PZ FP2 F4 C4 P4 O2 F8 T8 P8 C2 C6 CP2 CP4 CP6")]
"""Some recordings of case 12: against an electrode over the second cervical vertebra."""
WITHOUT_MIDLINE = tuple(name for name in CHANNELS if name not in ("Fz", "Cz", "Pz"))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Signals:
    """What `find_electrodes` looks at of a file."""

    labels: tuple[str, ...]
    rates_hz: tuple[float, ...]
    name: str = "x.edf"

    def sfreq_hz(self, signal: int) -> float:
        return self.rates_hz[signal]


def file_of(labels: list[str] | tuple[str, ...], rates_hz: list[float] | None = None) -> SignalFile:
    return cast(SignalFile, Signals(labels=tuple(labels), rates_hz=tuple(rates_hz or [256.0] * len(labels))))


def found(labels: list[str] | tuple[str, ...], rates_hz: list[float] | None = None, at_least: int = 3) -> Electrodes:
    return find_electrodes(file_of(labels, rates_hz), at_least)


@pytest.mark.parametrize("labels", [CHB_MIT, CHB_MIT_NUMBERED, CHB_MIT_DUMMIES, CHB_MIT_MNE])
def test_the_two_hemispheres_of_chb_mit_hang_together_and_the_midline_does_not(labels: list[str]) -> None:
    electrodes = found(labels)
    assert electrodes.is_bipolar
    assert electrodes.names == WITHOUT_MIDLINE
    assert electrodes.flags == ("montage.from_bipolar", "montage.duplicate_channel")
    assert not {"Fz-Cz", "Cz-Pz"} & set(electrodes.channels)
    assert len(set(electrodes.channels)) == len(electrodes.channels) == 19
    assert all(
        labels[i].split("-")[0].upper() == "T8" for i, c in zip(electrodes.signals, electrodes.channels, strict=True) if c == "T4-T6"
    )
    assert montage_of(electrodes, Montage.AVERAGE) == (Montage.AVERAGE, ())


def test_without_the_bridge_one_hemisphere_is_left() -> None:
    electrodes = found([label for label in CHB_MIT if "FT" not in label])
    assert electrodes.names == ("Fp1", "F7", "F3", "T3", "C3", "T5", "P3", "O1")
    assert montage_of(electrodes, Montage.AVERAGE) == (Montage.AVERAGE, ("montage.few_electrodes",))


def test_an_electrode_over_the_spine_is_a_reference() -> None:
    electrodes = found(CHB_MIT_SPINE)
    assert electrodes.names == CHANNELS
    assert not electrodes.is_bipolar
    assert electrodes.references == {"CS2"}


@pytest.mark.parametrize(
    ("labels", "names", "flags"),
    [
        (
            ["EEG F4-M1", "EEG C4-M1", "EEG O2-M1", "EEG C3-M2", "EMG chin", "EOG E1-M2"],
            ("F4", "C3", "C4", "O2"),
            ("montage.mixed_reference",),
        ),
        (["FP2-A1", "CZ-A1", "O2-A1", "EOG1-A1"], ("Fp2", "Cz", "O2"), ()),
    ],
    ids=["HMC", "DREAMS"],
)
def test_a_few_electrodes_keep_the_reference_of_the_recording(labels: list[str], names: tuple[str, ...], flags: tuple[str, ...]) -> None:
    electrodes = found(labels)
    assert (electrodes.names, electrodes.flags) == (names, flags)
    assert montage_of(electrodes, Montage.AVERAGE) == (Montage.RECORDED, ("montage.few_electrodes",))


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        (["Cz", "ECG"], "montage.channels_missing"),
        (["EOG LOC", "EOG ROC"], "montage.channels_missing"),
        (["EEG", "EEG(sec)", "EEG 3", "1", "2"], "montage.channels_missing"),
        ([], "montage.channels_missing"),
        (["EEG Fpz-Cz", "EEG Pz-Oz", "EOG horizontal"], "montage.bipolar"),
    ],
)
def test_what_holds_too_few_electrodes_is_refused(labels: list[str], reason: str) -> None:
    with pytest.raises(MontageError) as refused:
        found(labels)
    assert refused.value.reason == reason


def test_how_many_electrodes_are_too_few_is_configured() -> None:
    assert len(found(["FP2-A1", "CZ-A1", "O2-A1"], at_least=3).names) == 3
    with pytest.raises(MontageError, match="4 are needed"):
        found(["FP2-A1", "CZ-A1", "O2-A1"], at_least=4)


def test_electrodes_of_another_rate_are_missing() -> None:
    electrodes = found([*CHANNELS, "ECG"], [256.0] * 17 + [128.0] * 2 + [512.0])
    assert electrodes.names == CHANNELS[:17]
    assert electrodes.sfreq_hz == 256.0
    assert electrodes.flags == ("montage.rates_differ",)
    with pytest.raises(MontageError, match=r"Export the recording at one rate\.") as refused:
        found(["Fp1", "Fp2", "C3", "C4"], [100.0, 200.0, 100.0, 200.0])
    assert refused.value.reason == "montage.rates_differ"


def test_a_second_copy_at_another_rate_is_not_missed() -> None:
    electrodes = found([*CHANNELS, *CHANNELS], [128.0] * 19 + [256.0] * 19)
    assert (electrodes.sfreq_hz, electrodes.signals) == (256.0, tuple(range(19, 38)))
    assert electrodes.flags == ()


def test_a_recording_against_a_scalp_electrode_gives_that_electrode_too() -> None:
    electrodes = found([f"{name}-Cz" for name in CHANNELS if name != "Cz"])
    assert electrodes.names == CHANNELS
    assert electrodes.flags == ("montage.from_bipolar",)


def test_two_ears_are_one_reference_where_a_signal_joins_them() -> None:
    labels = [f"{name}-A{1 + (name in RIGHT_CHANNELS)}" for name in CHANNELS]
    assert found(labels).flags == ("montage.mixed_reference",)
    joined = found([*labels, "A2-A1"])
    assert (joined.names, joined.flags) == (CHANNELS, ("montage.from_bipolar",))


def test_the_reading_with_more_electrodes_is_taken() -> None:
    assert found([*CHB_MIT, "FC1-Ref", "C3-Ref", "C4-Ref"]).is_bipolar
    assert not found([*CHANNELS, "Fp1-F7", "F7-T3"]).is_bipolar


@pytest.mark.parametrize(
    ("label", "pair"),
    [
        ("FP1-F7", ("Fp1", "F7")), ("T7-FT9", ("T3", "FT9")), ("T8-P8-0", ("T4", "T6")), ("EEG Fp1-F7", ("Fp1", "F7")),
        ("EEG FZ-CZ-REF", ("Fz", "Cz")), ("A1-T3", ("A1", "T3")), ("EEG Fpz-Cz", ("Fpz", "Cz")), ("P7 - O1", ("T5", "O1")),
        ("-", None), ("--0", None), (".-1", None), ("ECG", None), ("LOC-ROC", None), ("EKG1-CHIN", None), ("C3-C3", None), ("VNS", None),
    ],
)  # fmt: skip
def test_a_difference_is_read_from_its_label(label: str, pair: tuple[str, str] | None) -> None:
    assert parse_derivation(label) == pair


@given(st.data())
def test_potentials_follow_exactly_from_differences(data: st.DataObject) -> None:
    """Any connected set of derivations, in any order and direction, with loops or without."""
    names = data.draw(st.lists(st.sampled_from([*CHANNELS, "FT9", "FT10", "A1"]), min_size=2, max_size=22, unique=True))
    pairs = [(name, names[data.draw(st.integers(0, i))]) for i, name in enumerate(names[1:])]
    loops = data.draw(st.lists(st.tuples(st.sampled_from(names), st.sampled_from(names)).filter(lambda p: p[0] != p[1]), max_size=6))
    turned = [pair[::-1] if data.draw(st.booleans()) else pair for pair in data.draw(st.permutations([*pairs, *loops]))]
    uv = dict(zip(names, np.random.default_rng(len(names)).normal(0, 50, (len(names), 5)), strict=True))
    differences = np.stack([uv[plus] - uv[minus] for plus, minus in turned])
    wanted = tuple(name for name in CHANNELS if name in names)
    got = potentials_matrix(tuple(f"{plus}-{minus}" for plus, minus in turned), wanted) @ differences
    average = np.mean(list(uv.values()), axis=0)
    np.testing.assert_allclose(got, np.reshape([uv[name] - average for name in wanted], (len(wanted), 5)), atol=1e-3)


def test_ears_are_found_where_they_share_the_reference_of_the_electrodes() -> None:
    labels = ["ECG", *(f"EEG {name}-REF" for name in CHANNELS), "EEG A2-REF", "EEG A1-REF"]
    electrodes = with_ears(file_of(labels), found(labels))
    assert electrodes.channels == (*CHANNELS, "A1", "A2")
    assert electrodes.signals == (*range(1, 20), 21, 20)
    assert electrodes.names == CHANNELS


@pytest.mark.parametrize("reference", ["LE", "A1A2", "(M1+M2)/2", "LER"])
def test_what_is_against_linked_ears_needs_none(reference: str) -> None:
    labels = [f"EEG {name}-{reference}" for name in CHANNELS]
    assert with_ears(file_of(labels), found(labels)) == found(labels)


@pytest.mark.parametrize(
    "labels",
    [
        list(CHANNELS),
        [*CHANNELS, "A1"],
        [*(f"{name}-REF" for name in CHANNELS), "A1-AVG", "A2-AVG"],
        [*(f"{name}-A{1 + i % 2}" for i, name in enumerate(CHANNELS))],
        CHB_MIT,
    ],
    ids=["none", "one", "another reference", "each its own ear", "bipolar"],
)
def test_linked_ears_without_both_ears_are_refused(labels: list[str]) -> None:
    with pytest.raises(MontageError, match=r"Set data.montage to average or recorded\.") as refused:
        with_ears(file_of(labels), found(labels))
    assert refused.value.reason == "montage.ears_missing"
