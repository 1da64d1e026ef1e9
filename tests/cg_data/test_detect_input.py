"""What a detector cannot look at is refused in a sentence, and where there is no signal there is no event."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cg_data.analyze.artefacts import CLIP_UV
from cg_data.detect.detector import Detector
from cg_data.detect.network import build_network
from cg_data.detect.signals import Silence, checked, seen, silences, sounding
from cg_data.detect.spec import DetectorSpec, NetworkSettings, PageNetworkSettings, SignalNetworkSettings
from cg_data.errors import SignalError
from cg_data.records import Event
from cg_data.settings import PageSettings
from cg_data.vocabulary import CHANNEL_INDEX, CHANNELS, N_CHANNELS

PAGE = PageSettings(pixels_per_row=8, pixels_per_second=32, microvolts_per_row=100.0, subcolumns=2, multiple_of=32)
NETWORKS: dict[str, NetworkSettings] = {
    "signal": SignalNetworkSettings(width=8, depth=1),
    "page": PageNetworkSettings(width_multiple=0.0625, max_channels=256, distance_bins=4, page=PAGE),
}


def eager_detector(kind: str) -> Detector:
    """An untrained detector that has a score of some hundredths everywhere, so that it finds events wherever it may."""
    torch.manual_seed(0)
    spec = DetectorSpec(network=NETWORKS[kind], min_box_s=0.15, nms_iou=0.5, score_floor=0.005, weights_sha256="0" * 64)
    network = build_network(spec.network)
    if kind == "page":
        for branch in network.yolo.model[-1].cv3:  # type: ignore[union-attr]
            torch.nn.init.constant_(branch[-1].bias, -4.6)
    return Detector(network, spec)


@pytest.fixture(scope="module", params=list(NETWORKS))
def detector(request: pytest.FixtureRequest) -> Detector:
    return eager_detector(request.param)


def noise(count: int = 1, rms_uv: float = 30.0) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    rng = np.random.default_rng(1)
    eeg_uv = (rms_uv * rng.standard_normal((count, N_CHANNELS, 2000))).astype(np.float32)
    return eeg_uv, np.ones((count, N_CHANNELS), dtype=np.bool_)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 18, 2000), r"\(1, 18, 2000\) do not have 19 channels.*2000\): 10 s at 200 Hz of Fp1, Fp2.*microvolts"),
        ((1, 21, 2000), "do not have 19 channels"),
        ((19, 2000), "do not have 19 channels"),
        ((1, 19, 2560), r"2560 samples a page, 256 Hz if they last 10 s;.*10 s at 200 Hz.*Resample or cut"),
        ((1, 19, 1999), "1999 samples a page"),
    ],
)
def test_another_shape_is_refused_with_the_one_that_is_needed(detector: Detector, shape: tuple[int, ...], message: str) -> None:
    eeg_uv = np.ones(shape, dtype=np.float32)
    with pytest.raises(SignalError, match=message):
        detector.detect(eeg_uv, np.ones(shape[:2], dtype=np.bool_))


def test_a_mask_of_another_shape_or_type_is_refused(detector: Detector) -> None:
    eeg_uv, mask = noise(2)
    for wrong in (mask[:1], mask[:, :18], mask.astype(np.float32)):
        with pytest.raises(SignalError, match=r"give bool \(2, 19\), True where the electrode exists"):
            detector.detect(eeg_uv, wrong)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_refused_by_page_and_channel(detector: Detector, value: float) -> None:
    eeg_uv, mask = noise(3)
    eeg_uv[2, CHANNEL_INDEX["T3"], 100:112] = value
    with pytest.raises(SignalError, match=r"Page 2, channel T3: 12 of 2000 samples are not finite\. Mask the channel or repair"):
        detector.detect(eeg_uv, mask)


def test_what_is_on_a_masked_channel_changes_nothing(detector: Detector) -> None:
    eeg_uv, mask = noise()
    mask[:, CHANNEL_INDEX["T3"]] = False
    clean = detector.propose(eeg_uv, mask)
    given_uv = eeg_uv.copy()
    for value in (np.nan, 1e9):
        eeg_uv[:, CHANNEL_INDEX["T3"]] = value
        before = eeg_uv.copy()
        assert detector.propose(eeg_uv, mask) == clean
        np.testing.assert_array_equal(eeg_uv, before)
    assert sum(map(len, clean)) > 20
    np.testing.assert_array_equal(np.delete(eeg_uv, CHANNEL_INDEX["T3"], axis=1), np.delete(given_uv, CHANNEL_INDEX["T3"], axis=1))


@given(st.lists(st.booleans(), min_size=N_CHANNELS, max_size=N_CHANNELS))
@settings(max_examples=8, deadline=None)
def test_no_event_is_on_a_masked_channel_whatever_the_mask(detector: Detector, exists: list[bool]) -> None:
    eeg_uv, mask = noise()
    mask[0] = exists
    (events,) = detector.propose(eeg_uv, mask)
    assert {event.channel for event in events} <= {name for name, there in zip(CHANNELS, exists, strict=True) if there}
    assert bool(events) == any(exists)


@pytest.mark.parametrize("scale", [1e-6, 1e-3])
def test_volts_and_millivolts_are_refused(detector: Detector, scale: float) -> None:
    eeg_uv, mask = noise(2, rms_uv=10.0)
    eeg_uv[1] *= scale
    with pytest.raises(SignalError, match=r"Page 1: the median deviation is .* too little for an EEG in microvolts; is it in volts"):
        detector.detect(eeg_uv, mask)


def test_raw_integers_are_refused(detector: Detector) -> None:
    eeg_uv, mask = noise()
    with pytest.raises(SignalError, match="Signals of type int16 are no microvolts"):
        detector.detect((eeg_uv * 10).astype(np.int16), mask)  # type: ignore[arg-type]
    with pytest.raises(SignalError, match=r"more than the 3276\.7 uV that a segment holds"):
        detector.detect(eeg_uv * 1000, mask)


def test_a_quiet_or_offset_page_is_looked_at() -> None:
    eeg_uv, mask = noise(rms_uv=0.5)
    checked(eeg_uv, mask)
    checked(eeg_uv + np.float32(5000.0), mask)
    checked(np.zeros_like(eeg_uv), mask)


@pytest.mark.parametrize("seed", range(10))
def test_a_flat_electrode_beside_a_live_one_makes_no_page_of_volts(seed: int) -> None:
    eeg_uv, mask = noise(rms_uv=10.0)
    mask[0, 2:] = False
    eeg_uv[0, 0] = 10 * np.random.default_rng(seed).standard_normal(2000)
    eeg_uv[0, 1] = 0.0
    checked(eeg_uv, mask)
    for scale, words in ((1e-6, "too little"), (1e4, "more than the")):
        with pytest.raises(SignalError, match=words):
            checked(eeg_uv * np.float32(scale), mask)


def test_an_empty_page_has_no_event(detector: Detector) -> None:
    eeg_uv, mask = noise(2)
    mask[0] = False
    eeg_uv[1] = 7.0
    assert detector.propose(eeg_uv, mask) == [(), ()]


def test_a_channel_flat_for_most_of_the_page_is_not_shown_and_named() -> None:
    eeg_uv, mask = noise()
    eeg_uv[0, CHANNEL_INDEX["O1"], 200:1700] = 12.0
    (silence,) = silences(eeg_uv[0], mask[0])
    assert (silence.channel, silence.reason) == ("O1", "flat")
    assert silence.onset_s == 1.0
    assert silence.duration_s == 7.5
    assert [CHANNELS[row] for row in np.flatnonzero(~seen(mask[0], (silence,)))] == ["O1"]


def test_a_flat_stretch_holds_no_event_and_the_rest_of_the_channel_does(detector: Detector) -> None:
    eeg_uv, mask = noise()
    (before,) = detector.propose(eeg_uv, mask)
    eeg_uv[0, CHANNEL_INDEX["C3"], 1000:1700] = 0.0
    (events,) = detector.propose(eeg_uv, mask)

    def flat_s(event: Event) -> float:
        return min(event.onset_s + event.duration_s, 8.5) - max(event.onset_s, 5.0)

    here, once = ([e for e in found if e.channel == "C3"] for found in (events, before))
    assert here
    assert not [e for e in here if flat_s(e) > 0.52 * e.duration_s]
    assert [e for e in once if flat_s(e) > 0.52 * e.duration_s]


def test_a_clipped_sample_is_in_no_event(detector: Detector) -> None:
    eeg_uv, mask = noise()
    row = CHANNEL_INDEX["F7"]
    eeg_uv[0, row, 400:440] = CLIP_UV
    eeg_uv[0, row, 1200:1203] = -CLIP_UV
    found = [(s.channel, s.onset_s, s.duration_s, s.reason) for s in silences(eeg_uv[0], mask[0])]
    assert found == [("F7", 2.0, 0.2, "clipped"), ("F7", 6.0, 0.015, "clipped")]
    (events,) = detector.propose(eeg_uv, mask)
    times_s = np.concatenate([np.arange(400, 440), np.arange(1200, 1203)]) / 200 + 0.001
    ours = [e for e in events if e.channel == "F7"]
    assert not any(((e.onset_s < times_s) & (times_s < e.onset_s + e.duration_s)).any() for e in ours)
    assert ours


def test_one_sample_at_the_end_of_the_range_is_a_summit() -> None:
    eeg_uv, mask = noise()
    eeg_uv[0, 3, 700] = CLIP_UV
    assert silences(eeg_uv[0], mask[0]) == ()


def test_marks_are_kept_by_what_lies_under_them() -> None:
    silent = (
        Silence(channel="Fp1", onset_s=2.0, duration_s=3.0, reason="flat"),
        Silence(channel="Fp1", onset_s=8.0, duration_s=0.1, reason="clipped"),
    )
    row = float(CHANNEL_INDEX["Fp1"])
    marks = np.array([[0, row, 1.0, 3.0], [0, row, 1.5, 3.0], [0, row, 7.5, 8.05], [0, row, 8.1, 9.0], [0, row + 1, 2.0, 5.0]])
    assert sounding(marks, silent).tolist() == [True, False, False, True, True]
