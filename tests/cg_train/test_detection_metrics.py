"""cg_train.detection_metrics: average precision is COCO's, and each reference is found once."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from cg_data.detect.boxes import Marks, boxes_of_marks, marks_of_events
from cg_data.records import Event
from cg_data.settings import PageSettings
from cg_data.vocabulary import WAVEFORMS, Waveform
from cg_train.detection_metrics import IOU, IOUS, RECALLS, STRICT, average_precision, detection_metrics, match, take
from tests.detections_small import random_pages
from tests.records_small import event

PAGE = PageSettings(pixels_per_row=16, pixels_per_second=128)


def coco(found: Sequence[Sequence[Event]], truth: Sequence[Marks]) -> npt.NDArray[np.float64]:
    """Precision of pycocotools, `(10 overlaps, 101 recalls, 9 classes)`, -1 for classes without references."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    images = [{"id": i, "width": 1280, "height": 304} for i in range(1, len(found) + 1)]
    categories = [{"id": i, "name": str(w)} for i, w in enumerate(WAVEFORMS)]
    marks = [row for i, page in enumerate(truth, start=1) for row in _rows(i, page)]
    boxes = [{**row, "score": e.score} for i, es in enumerate(found, 1) for row, e in zip(_rows(i, marks_of_events(es)), es, strict=True)]
    with contextlib.redirect_stdout(io.StringIO()):
        reference = COCO()
        reference.dataset = {"images": images, "categories": categories, "annotations": [{**m, "id": i} for i, m in enumerate(marks, 1)]}
        reference.createIndex()
        judged = COCOeval(reference, reference.loadRes(boxes), "bbox")
        judged.params.maxDets = [10_000]
        judged.params.areaRng, judged.params.areaRngLbl = [[0, 1e10]], ["all"]
        judged.evaluate()
        judged.accumulate()
    np.testing.assert_array_equal(judged.params.iouThrs, IOUS)
    np.testing.assert_array_equal(judged.params.recThrs, RECALLS)
    return np.asarray(judged.eval["precision"])[:, :, :, 0, 0]


def _rows(image: int, marks: Marks) -> list[dict[str, Any]]:
    boxes = boxes_of_marks(marks, PAGE).astype(np.float64)
    # Single precision would move overlaps of double-precision marks: times are scaled anew.
    left, right = marks[:, 2] * PAGE.pixels_per_second, marks[:, 3] * PAGE.pixels_per_second
    return [
        {"image_id": image, "category_id": int(c), "bbox": [x, box[1], r - x, box[3] - box[1]], "area": (r - x) * 16, "iscrowd": 0}
        for c, x, r, box in zip(marks[:, 0], left, right, boxes, strict=True)
    ]


@pytest.mark.parametrize("seed", range(4))
def test_average_precision_equals_that_of_pycocotools(seed: int) -> None:
    found, truth = random_pages(seed)
    theirs = coco(found, truth)
    ours = match(found, truth)
    for index, waveform in enumerate(WAVEFORMS):
        expected = theirs[:, :, index].mean(axis=1)
        own = [average_precision(ours[waveform], level) for level in range(len(IOUS))]
        if ours[waveform].references:
            np.testing.assert_allclose(own, expected, rtol=0, atol=1e-9)
        else:
            assert np.isnan(own).all()
            assert (expected == -1).all()
    known = theirs[:, 0, :] > -1
    figures = detection_metrics(found, truth, dict.fromkeys(WAVEFORMS, 0.5))
    mean = theirs.mean(axis=1)
    assert 0.1 < figures["map5095"] < figures["map50"] < 0.95
    assert figures["map50"] == pytest.approx(mean[0][known[0]].mean(), abs=1e-9)
    assert figures["map75"] == pytest.approx(mean[STRICT][known[0]].mean(), abs=1e-9)
    assert figures["map5095"] == pytest.approx(mean[known].mean(), abs=1e-9)
    assert IOUS[0] == IOU
    assert IOUS[STRICT] == pytest.approx(0.75)


def test_each_reference_is_taken_once_and_the_best_free_one_first() -> None:
    overlap = np.array([[0.9, 0.6, 0.0], [0.8, 0.7, 0.0], [0.95, 0.1, 0.4], [0.0, 0.0, 0.5]])
    assert take(overlap, np.array([0.5])).tolist() == [[0, 1, -1, 2]]
    assert take(overlap, np.array([0.5, 0.75])).tolist() == [[0, 1, -1, 2], [0, -1, -1, -1]]
    assert take(np.array([[0.6, 0.6]]), np.array([0.5])).tolist() == [[1]]
    assert take(np.zeros((2, 0)), IOUS).tolist() == [[-1, -1]] * 10
    assert take(np.zeros((0, 3)), IOUS).shape == (10, 0)


def test_a_detector_without_events_has_nothing_and_one_without_references_is_not_judged() -> None:
    spike = np.array([[0.0, 0.0, 1.0, 1.2]])
    nothing = detection_metrics([[]], [spike], dict.fromkeys(WAVEFORMS, 0.5))
    assert (nothing["map50"], nothing["map75"], nothing["map5095"], nothing["recall"]) == (0.0, 0.0, 0.0, 0.0)
    unjudged = detection_metrics([[event(Waveform.SPIKE, "Fp1", 1.0, 0.2)]], [np.zeros((0, 4))], dict.fromkeys(WAVEFORMS, 0.5))
    assert unjudged["waveforms"]["spike"]["ap5095"] is None
    assert unjudged["waveforms"]["spike"]["events"] == 1
