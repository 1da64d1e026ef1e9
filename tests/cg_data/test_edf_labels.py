"""Electrodes are found under every dialect of labels, and bipolar derivations are not taken for electrodes."""

from __future__ import annotations

import pytest

from cg_data.edf.labels import electrode_of, pick_channels
from cg_data.vocabulary import CHANNELS


@pytest.mark.parametrize(
    ("label", "electrode"),
    [
        ("EEG Fp1", "Fp1"), ("Fp1.", "Fp1"), ("C3..", "C3"), ("EEG FP1-REF", "Fp1"), ("EEG FP1-LE", "Fp1"), ("FP1-AVG", "Fp1"),
        ("T7", "T3"), ("T8..", "T4"), ("EEG P7-Ref", "T5"), ("p8", "T6"), ("POL Fp1", "Fp1"), ("Fp1-A1", "Fp1"), ("EEG F4-M1", "F4"),
        ("C3A2", "C3"), ("EEG  O1 - A2", "O1"), ("eeg_fz", "Fz"), ("EEG Cz-(A1+A2)/2", "Cz"), ("Pz-A1A2", "Pz"), ("EEG F7-FCz", "F7"),
        ("EEG T4-REF-0", "T4"), ("EEG C4 REF", "C4"), ("EEGP3", "P3"), (" O2 ", "O2"), ("EEG Fp2-Org", "Fp2"), ("F8-G2", "F8"),
        ("F7-CS2", "F7"),
    ],
)  # fmt: skip
def test_a_dialect_is_understood(label: str, electrode: str) -> None:
    assert electrode_of(label) == electrode


@pytest.mark.parametrize(
    "label",
    [
        "Fp1-F7", "EEG Fp1-F7", "T7-P7", "T8-P8-0", "C3-Cz", "EEG Pz-Oz", "EEG A2-A1", "A1", "Fpz", "Fc5.", "AF3", "Oz", "F9", "FT7",
        "ECG", "EOG LOC", "EEG a", "C30", "T40", "X1", "", "EEG", "EDF Annotations", "EMG C3", "C3 C4", "F7/F3",
    ],
)  # fmt: skip
def test_what_is_no_electrode_of_the_ten_twenty_system_is_none(label: str) -> None:
    assert electrode_of(label) is None


def test_channels_come_in_page_order_and_the_first_of_two_counts() -> None:
    labels = ["ECG", *(f"EEG {name.upper()}-LE" for name in reversed(CHANNELS)), "Fp1-A1"]
    assert pick_channels(labels) == tuple(range(19, 0, -1))


def test_a_missing_channel_is_none() -> None:
    picked = pick_channels([name for name in CHANNELS if name != "Cz"])
    assert picked[CHANNELS.index("Cz")] is None
    assert sum(i is not None for i in picked) == 18
