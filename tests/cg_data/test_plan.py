"""The prediction is plain arithmetic on measured rates: linear in hours, shared by nodes, bound by what is slower."""

from __future__ import annotations

import pytest

from cg_data.errors import ConfigError
from cg_data.plan import Machines, Rates, measure_rates, plan_of
from cg_data.settings import DataSettings

RATES = Rates(
    machine="a test",
    segment_pages_per_core_s=100,
    analyse_pages_per_core_s=50,
    instruct_pages_per_core_s=200,
    detect_pages_per_device_s=1000,
    detect_device="cuda",
    segment_bytes=50_000,
    annotation_bytes=1_000,
    samples_bytes=90_000,
)
ON_CPU = RATES.model_copy(update={"detect_device": "cpu", "detect_pages_per_device_s": 25.0})


def test_ten_hours_take_ten_times_one() -> None:
    one, ten = (plan_of(hours, ON_CPU, Machines(nodes=2, cores_per_node=4)) for hours in (1.0, 10.0))
    assert (one.pages, ten.pages) == (360, 3600)
    assert ten.wall_hours == pytest.approx(10 * one.wall_hours)
    assert ten.bytes == pytest.approx(10 * one.bytes) == pytest.approx(3600 * 141_000)


def test_twice_the_nodes_take_half_the_time_and_the_same_core_hours() -> None:
    few, many = (plan_of(100.0, ON_CPU, Machines(nodes=nodes, cores_per_node=8)) for nodes in (1, 2))
    assert many.wall_hours == pytest.approx(few.wall_hours / 2)
    assert [s.core_hours for s in many.stages] == [s.core_hours for s in few.stages]


def test_the_stages_are_what_the_rates_say() -> None:
    segments, annotations, samples = plan_of(1.0, ON_CPU, Machines(nodes=1, cores_per_node=1)).stages
    assert segments.core_hours == pytest.approx(360 / 100 / 3600)
    assert annotations.core_hours == pytest.approx((360 / 50 + 360 / 25) / 3600)
    assert samples.core_hours == pytest.approx(360 / 200 / 3600)


def test_a_gpu_takes_the_detection_and_waits_where_cores_are_few() -> None:
    few = plan_of(100.0, RATES, Machines(nodes=1, cores_per_node=4, gpus=1))
    many = plan_of(100.0, RATES, Machines(nodes=1, cores_per_node=64, gpus=1))
    assert (few.stages[1].bound_by, many.stages[1].bound_by) == ("cores", "gpus")
    assert many.stages[1].gpu_hours == pytest.approx(36_000 / 1000 / 3600) == many.stages[1].wall_hours
    assert few.cores_per_gpu == pytest.approx(20.0)


def test_gpus_cannot_be_planned_with_rates_of_a_machine_without() -> None:
    with pytest.raises(ConfigError, match="--detector"):
        plan_of(1.0, ON_CPU, Machines(nodes=1, cores_per_node=1, gpus=1))


def test_detection_that_was_not_measured_is_said_and_not_counted() -> None:
    without = RATES.model_copy(update={"detect_pages_per_device_s": None, "detect_device": "cpu"})
    plan = plan_of(1.0, without, Machines(nodes=1, cores_per_node=1))
    assert plan.stages[1].core_hours == pytest.approx(360 / 50 / 3600)
    assert any("detection is not counted" in said for said in plan.assumptions)


@pytest.mark.slow
def test_rates_are_measured_with_the_engines_own_functions() -> None:
    rates = measure_rates(DataSettings())
    assert rates.detect_pages_per_device_s is None
    assert min(rates.segment_pages_per_core_s, rates.analyse_pages_per_core_s, rates.instruct_pages_per_core_s) > 1
    assert rates.samples_bytes > rates.annotation_bytes
    assert 10_000 < rates.segment_bytes < 2 * 19 * 2000
