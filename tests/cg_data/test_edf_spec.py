"""Clause by clause: EDF (Kemp, Värri, Rosa, Nielsen and Gade 1992, "the 1992 text" below) and EDF+ (Kemp and Olivan 2003).

Section numbers are those of https://www.edfplus.info/specs/edfplus.html; "rule" is an item of its section 2.1.3.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cg_data.edf.header import parse_header
from cg_data.edf.reader import EdfFile
from cg_data.edf.tal import read_notes
from cg_data.errors import EdfError
from tests.cg_data.edf_bytes import Spec, digital_signal, make, note, patched, signal_field

SPEC = Spec()
PLUS = Spec(plus="EDF+C", notes=(note(3.5, 2, "Eyes closed"), note(1, 0, "Sleep stage W")))
SOUND = make(SPEC)
SOUND_PLUS = make(PLUS)
UV = digital_signal(SPEC) * 0.1


def opened(data: bytes) -> EdfFile:
    return EdfFile.from_bytes(data, "x.edf")


def reason_of(data: bytes) -> str:
    with pytest.raises(EdfError) as caught:
        opened(data)
    assert str(caught.value).startswith("x.edf: ")
    return caught.value.reason


def reads_as(data: bytes, flags: tuple[str, ...] = (), records: int = 12) -> None:
    """The signal of `data` is that of the sound file, as far as `records` go, and it carries just these flags."""
    edf = opened(data)
    assert edf.flags == flags
    assert edf.runs_s == ((0.0, float(records)),)
    np.testing.assert_allclose(edf.read_uv(range(19), 0, records), UV[:, : records * 200], atol=2e-4)


# --- The header record of the 1992 text ---


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "file.empty"),
        (SOUND[:100], "file.header_cut"),
        (patched(SOUND, 0, b"1", 8), "format.unknown"),
        (patched(SOUND, 0, b"", 8), "format.unknown"),
        (b"\xffBIOSEMI" + SOUND[8:], "format.bdf"),
        (patched(SOUND, 192, b"24BIT", 44), "format.bdf"),
        (b"\x1f\x8b\x08" + bytes(500), "format.gzip"),
        (b"PK\x03\x04" + bytes(500), "format.zip"),
        (b"%PDF-1.4 and so on", "format.unknown"),
        (bytes(4096), "format.unknown"),
        (np.random.default_rng(0).bytes(9000), "format.unknown"),
    ],
)
def test_1992_version_of_this_data_format_is_0(data: bytes, reason: str) -> None:
    assert reason_of(data) == reason


@pytest.mark.parametrize("date", [b"99.99.99", b"yy.yy.yy", b"", b"2.8.51"])
def test_1992_startdate_and_starttime_do_not_matter_to_the_signal(date: bytes) -> None:
    reads_as(patched(patched(SOUND, 168, date, 8), 176, b"25.61.61", 8))


@pytest.mark.parametrize("value", [b"5376", b"0", b"", b"5120.0", b"-5120"])
def test_1992_number_of_bytes_in_header_record_is_256_and_256_for_each_signal(value: bytes) -> None:
    assert reason_of(patched(SOUND, 184, value, 8)) in {"header.bytes", "header.header_bytes"}


@pytest.mark.parametrize(("value", "reason"), [(b"abc", "header.n_records"), (b"-7", "header.n_records"), (b"1e3", "header.n_records")])
def test_1992_number_of_data_records_is_a_whole_number(value: bytes, reason: str) -> None:
    assert reason_of(patched(SOUND, 236, value, 8)) == reason


@pytest.mark.parametrize(
    ("data", "records", "flag"),
    [
        (SOUND[: 256 * 20 + 7600 * 5 + 99], 5, "records.fewer_than_header"),
        (patched(SOUND, 236, b"10000000", 8), 12, "records.fewer_than_header"),
        (patched(SOUND, 236, b"0", 8), 12, "records.count_corrected"),
        (patched(SOUND, 236, b"10", 8), 10, "data.trailing_bytes"),
        (SOUND + bytes(777), 12, "data.trailing_bytes"),
    ],
)
def test_1992_number_of_data_records_that_is_not_what_is_there_is_flagged(data: bytes, records: int, flag: str) -> None:
    reads_as(data, (flag,), records)


@pytest.mark.parametrize("value", [b"0", b"nan", b"inf", b"-1", b"", b"1e-9", b"3601", b"1,000", b"1s"])
def test_1992_duration_of_a_data_record_is_a_possible_number_of_seconds(value: bytes) -> None:
    assert reason_of(patched(SOUND, 244, value, 8)) == "header.record_duration"


@pytest.mark.parametrize("value", [b"0", b"-5", b"9999", b"513", b"", b"19.0"])
def test_1992_number_of_signals_is_a_possible_number(value: bytes) -> None:
    assert reason_of(patched(SOUND, 252, value, 4)) == "header.n_signals"


def test_1992_ascii_strings_are_filled_out_with_spaces_or_with_nuls() -> None:
    nuls = bytes(0 if byte == 0x20 else byte for byte in SOUND[: 256 * 20])
    # labels hold a space of their own: "EEG Fp1-REF"
    nuls = nuls[:256] + SOUND[256 : 256 + 16 * 19] + nuls[256 + 16 * 19 :]
    reads_as(nuls + SOUND[256 * 20 :])


@pytest.mark.parametrize(
    ("unit", "most"),
    [(b"uV", "3276.7"), (b"\xb5V", "3276.7"), ("μV".encode(), "3276.7"), (b"mV", "3.2767"), (b"V", "3.277e-3"), (b"nV", "3276700")],
)
def test_1992_physical_dimension_of_every_voltage_becomes_microvolts(unit: bytes, most: str) -> None:
    data = make(Spec(unit=unit, physical=(f"-{most}"[:8], most), digital=("-32767", "32767")))
    for i in range(19 if most.startswith("3.277e") else 0):
        data = patched(data, signal_field(19, "physical_min", i), b"-.003277", 8)
    edf = opened(data)
    np.testing.assert_allclose(edf.read_uv(range(19), 0, 12), UV, rtol=1e-4, atol=1e-6)
    edf.check(range(19))


@pytest.mark.parametrize("unit", [b"%", b"", b"uV/s", b"degC", b"kV"])
def test_1992_physical_dimension_that_is_no_voltage_costs_the_signal_not_the_file(unit: bytes) -> None:
    edf = opened(patched(SOUND, signal_field(19, "unit", 18), unit, 8))
    edf.check(range(18))
    for read in (lambda: edf.check([18]), lambda: edf.read_uv([18], 0, 1)):
        with pytest.raises(EdfError) as caught:
            read()
        assert caught.value.reason == "signal.unit"
    assert edf.read_digital([18], 0, 1).shape == (1, 200)


@pytest.mark.parametrize("limits", [("7", "7"), ("nan", "7"), ("-inf", "7"), ("", "7"), ("-1e308", "1e308"), ("1e-320", "2e-320")])
def test_1992_physical_minimum_and_maximum_fix_the_scale_or_the_signal_is_refused(limits: tuple[str, str]) -> None:
    with pytest.raises(EdfError) as caught:
        opened(make(Spec(physical=limits))).read_uv([0], 0, 1)
    assert caught.value.reason == "signal.physical_range"


@pytest.mark.parametrize("limits", [("5", "5"), ("-99999", "99999"), ("0", "65535"), ("-2048", "2047.5"), ("-32,768", "32,767"), ("", "")])
def test_1992_digital_minimum_and_maximum_are_two_whole_numbers_of_16_bits(limits: tuple[str, str]) -> None:
    with pytest.raises(EdfError) as caught:
        opened(make(Spec(digital=limits))).check([0])
    assert caught.value.reason == "signal.digital_range"


def test_1992_digital_minimum_and_maximum_are_the_extreme_values_that_can_occur() -> None:
    steps = digital_signal(SPEC)
    most = int(np.abs(steps).max())
    assert opened(make(Spec(digital=(str(-most), str(most))))).flags == ()
    rare = opened(
        make(Spec(digital=(str(-most), str(most - 1)))) if steps.max() == most else make(Spec(digital=(str(1 - most), str(most))))
    )
    rare.check(range(19))
    assert rare.flags == ("data.beyond_digital_range",)
    common = opened(make(Spec(digital=("-100", "100"))))
    with pytest.raises(EdfError) as caught:
        common.check(range(19))
    assert caught.value.reason == "data.beyond_digital_range"


@pytest.mark.parametrize("physical", [("-3e9", "3e9"), ("-0.03", "0.03")])
def test_1992_an_amplification_that_makes_no_eeg_is_refused(physical: tuple[str, str]) -> None:
    with pytest.raises(EdfError) as caught:
        opened(make(Spec(physical=physical))).check(range(19))
    assert caught.value.reason == "signal.amplitude"


@pytest.mark.parametrize("value", [b"0", b"-256", b"99999999", b"", b"200.0", b"2e2"])
def test_1992_number_of_samples_in_each_data_record_is_a_possible_number(value: bytes) -> None:
    assert reason_of(patched(SOUND, signal_field(19, "samples", 0), value, 8)) == "header.samples_per_record"


def test_1992_header_that_is_cut_is_refused() -> None:
    assert reason_of(SOUND[:3000]) == "file.header_cut"


def test_1992_a_data_record_of_absurd_size_is_refused() -> None:
    data = SOUND
    for i in range(19):
        data = patched(data, signal_field(19, "samples", i), b"1000000", 8)
    data = patched(data, 244, b"3000", 8)
    assert reason_of(patched(data, signal_field(19, "samples", 0), b"999999", 8)) == "data.none"
    wide = make(Spec(labels=[f"s{i}" for i in range(40)], n_records=0), np.zeros((40, 0), np.int16))
    for i in range(40):
        wide = patched(wide, signal_field(40, "samples", i), b"1000000", 8)
    assert reason_of(patched(wide, 244, b"3000", 8)) == "header.record_bytes"


def test_1992_samples_are_two_byte_integers_in_twos_complement_little_endian() -> None:
    """Rule 7 of EDF+ too."""
    steps = digital_signal(SPEC)
    steps[0, :4] = (-32768, 32767, -1, 256)
    data = make(SPEC, steps)
    assert data[256 * 20 : 256 * 20 + 8] == b"\x00\x80\xff\x7f\xff\xff\x00\x01"
    np.testing.assert_array_equal(opened(data).read_digital([0], 0, 0.02)[0], (-32768, 32767, -1, 256))


def test_1992_no_data_record_is_refused() -> None:
    assert reason_of(SOUND[: 256 * 20]) == "data.none"
    assert reason_of(SOUND[: 256 * 20 + 7599]) == "data.none"


# --- EDF+ section 2.1.3 ---


def test_rule_1_a_header_beyond_ascii_is_read_as_latin_1_and_flagged() -> None:
    edf = opened(patched(SOUND, 256, b"EEG \xdcbung", 16))
    assert edf.labels[0] == "EEG Übung"
    assert edf.flags == ("header.not_ascii",)


@pytest.mark.parametrize("digital", [("32767", "-32768"), ("2047", "-2048")])
def test_rule_5_digital_maximum_must_be_larger_than_digital_minimum(digital: tuple[str, str]) -> None:
    with pytest.raises(EdfError) as caught:
        opened(make(Spec(digital=digital))).read_uv([0], 0, 1)
    assert caught.value.reason == "signal.digital_range"


def test_rule_5_a_physical_maximum_below_the_minimum_is_a_negative_gain() -> None:
    inverted = opened(make(Spec(physical=("3276.7", "-3276.8"))))
    np.testing.assert_allclose(inverted.read_uv([0], 0, 2), -opened(SOUND).read_uv([0], 0, 2) - 0.1, atol=1e-3)


@pytest.mark.parametrize("limits", [("-3276,8", "3276,7"), ("-3276,80", "+3276,70")])
def test_rule_6_a_decimal_comma_is_read_and_flagged(limits: tuple[str, str]) -> None:
    reads_as(make(Spec(physical=limits)), ("header.decimal_comma",))


@pytest.mark.parametrize("limits", [("-3,276", "3,276"), ("-1,000,0", "1,000,0"), ("-3.276,8", "3.276,7")])
def test_rule_6_digit_grouping_leaves_the_scale_open_and_is_refused(limits: tuple[str, str]) -> None:
    with pytest.raises(EdfError) as caught:
        opened(make(Spec(physical=limits))).read_uv([0], 0, 1)
    assert caught.value.reason == "signal.physical_range"


@pytest.mark.parametrize("value", [b"-1", b"-1\x00\x00\x00\x00\x00\x00"])
def test_rule_10_a_recording_that_was_never_closed_is_read_to_its_end_and_flagged(value: bytes) -> None:
    reads_as(patched(SOUND, 236, value, 8), ("records.unclosed",))
    reads_as(patched(SOUND, 236, value, 8) + bytes(99), ("records.unclosed", "data.trailing_bytes"))


# --- EDF+ section 2.2 ---


def test_2_2_1_a_file_of_annotations_alone_is_no_recording() -> None:
    for record_s in (0.0, 1.0):
        spec = Spec(labels=(), record_s=record_s, n_records=2, plus="EDF+C")
        assert reason_of(make(spec, np.empty((0, 0), dtype=np.int16))) == "header.no_signal"


def test_2_2_1_an_edf_plus_file_without_annotation_signal_has_no_clock() -> None:
    assert opened(patched(SOUND, 192, b"EDF+C", 44)).flags == ("annotations.absent",)
    assert reason_of(patched(SOUND, 192, b"EDF+D", 44)) == "records.start_unreadable"


def test_2_2_2_onset_duration_and_texts_of_a_tal() -> None:
    notes, flags = read_notes(b"+180\x14Lights off\x14Close door\x14\x00+1800.2\x1525.5\x14Apnea\x14\x00-5\x14before\x14\x00" + bytes(9))
    found = [(n.onset_s, n.duration_s, n.text) for n in notes]
    assert found == [(180, 0, "Lights off"), (180, 0, "Close door"), (1800.2, 25.5, "Apnea"), (-5, 0, "before")]
    assert flags == set()


@pytest.mark.parametrize(
    "part", [b"180\x14no sign\x14\x00", b"+1\x15-2\x14minus\x14\x00", b"+1\x15\x14empty\x14\x00", b"+1\x14no end", b"+nan\x14x\x14\x00"]
)
def test_2_2_2_what_is_no_tal_is_flagged(part: bytes) -> None:
    assert read_notes(b"+7\x14\x14\x00" + part) == ([], {"annotations.unreadable"})


def test_2_2_2_tals_in_several_annotation_signals_are_all_read() -> None:
    spec = dataclasses.replace(PLUS, labels=[*SPEC.labels[:18], "EDF Annotations"])
    steps = digital_signal(SPEC)
    texts = note(2, 0, "from the other one").ljust(400, b"\x00")
    steps[18, :200], steps[18, 200:] = np.frombuffer(texts, "<i2"), 0
    # the signal that comes first keeps the time, so that one gets each record's start
    for k in range(12):
        tal = (f"+{k}".encode() + b"\x14\x14\x00" + (note(2, 0, "from the other one") if k == 0 else b"")).ljust(400, b"\x00")
        steps[18, k * 200 : (k + 1) * 200] = np.frombuffer(tal, "<i2")
    edf = opened(make(spec, steps))
    assert edf.flags == ()
    assert [n.text for n in edf.annotations] == ["Sleep stage W", "from the other one", "Eyes closed"]


def test_2_2_2_unreadable_notes_cost_the_notes_and_not_the_signal() -> None:
    damaged = SOUND_PLUS.replace(note(3.5, 2, "Eyes closed"), b"\x01" * len(note(3.5, 2, "Eyes closed")))
    edf = opened(damaged)
    assert edf.flags == ("annotations.unreadable",)
    assert edf.annotations == ()
    np.testing.assert_array_equal(edf.read_uv([7], 0, 12), opened(SOUND_PLUS).read_uv([7], 0, 12))


def test_2_2_3_texts_are_utf_8_and_what_is_not_is_read_as_latin_1_and_flagged() -> None:
    assert opened(make(Spec(plus="EDF+C", notes=("+1\x14Müller 日本\x14\x00".encode(),)))).annotations[0].text == "Müller 日本"
    edf = opened(make(Spec(plus="EDF+C", notes=("+1\x14Müller\x14\x00".encode("latin-1"),))))
    assert (edf.annotations[0].text, edf.flags) == ("Müller", ("annotations.not_utf8",))


def test_2_2_4_the_first_record_starts_a_fraction_of_a_second_after_the_start_time() -> None:
    starts = [0.25 + k for k in range(12)]
    spec = Spec(plus="EDF+C", starts_s=starts, notes=PLUS.notes)
    edf = opened(make(spec))
    assert [(n.onset_s, n.duration_s, n.text) for n in edf.annotations] == [(0.75, 0.0, "Sleep stage W"), (3.25, 2.0, "Eyes closed")]
    assert edf.runs_s == ((0.0, 12.0),)


def test_2_2_4_other_annotations_may_follow_the_empty_one() -> None:
    data = make(Spec(plus="EDF+D")).replace(b"+3\x14\x14" + bytes(6), b"+3\x14\x14wave\x14\x00")
    edf = opened(data)
    assert edf.flags == ()
    assert [(n.onset_s, n.text) for n in edf.annotations] == [(3.0, "wave")]


@pytest.mark.parametrize("plus", ["EDF+D", "EDF+C", "EDF"])
def test_2_2_4_a_gap_splits_the_recording_into_runs(plus: str) -> None:
    starts = [float(k if k < 5 else k + 100) for k in range(12)]
    edf = opened(make(Spec(plus=plus, starts_s=starts)))
    assert edf.runs_s == ((0.0, 5.0), (105.0, 112.0))
    assert edf.flags == (() if plus == "EDF+D" else ("records.gap_in_edf_plus_c",))
    np.testing.assert_allclose(edf.read_uv([2], 106, 108)[0], UV[2, 1200:1600], atol=2e-4)
    with pytest.raises(ValueError, match="not within one contiguous run"):
        edf.read_uv([2], 4, 106)


@pytest.mark.parametrize("gap_s", [0.005, 0.1, 0.9])
def test_2_2_4_a_gap_of_less_than_a_second_is_a_gap(gap_s: float) -> None:
    edf = opened(make(Spec(plus="EDF+D", starts_s=[k + gap_s * (k >= 6) for k in range(12)])))
    assert [round(b - a, 6) for a, b in edf.runs_s] == [6.0, 6.0]
    assert edf.runs_s[1][0] == pytest.approx(6 + gap_s)


def test_2_2_4_a_clock_that_drifts_is_flagged_and_never_more_than_a_tenth_of_a_second_off() -> None:
    starts = [k * 1.002 for k in range(120)]
    spec = Spec(plus="EDF+D", starts_s=starts, n_records=120)
    edf = opened(make(spec))
    assert edf.flags == ("records.clock_drift",)
    stated = [a + k for a, b in edf.runs_s for k in range(round(b - a))]
    assert np.abs(np.array(stated) - starts).max() <= 0.1 + 1e-9


@pytest.mark.parametrize(
    "starts", [[0.0, 1.0, 2.0, 1.5, *range(4, 12)], [0.0, 1.0, 1.0, *range(3, 12)], [float(11 - k) for k in range(12)]]
)
def test_2_2_4_records_that_go_back_in_time_or_repeat_it_are_refused(starts: list[float]) -> None:
    assert reason_of(make(Spec(plus="EDF+C", starts_s=starts))) == "records.not_increasing"
    assert reason_of(make(Spec(plus="EDF+D", starts_s=starts))) == "records.not_increasing"


def test_2_2_4_a_discontinuous_file_without_record_times_is_refused() -> None:
    assert reason_of(make(Spec(plus="EDF+D")).replace(b"+7\x14\x14", b"????")) == "records.start_unreadable"


def test_2_2_4_a_continuous_file_is_read_over_an_unreadable_time_but_not_over_a_gap_beside_it() -> None:
    reads_as(make(Spec(plus="EDF+C")).replace(b"+7\x14\x14", b"????"), ("annotations.unreadable",))
    first = make(Spec(plus="EDF+C", starts_s=[k + 0.25 for k in range(12)], notes=[])).replace(b"+0.25\x14\x14", b"???????")
    assert opened(first).runs_s == ((0.0, 12.0),)
    starts = [float(k if k < 8 else k + 50) for k in range(12)]
    assert reason_of(make(Spec(plus="EDF+C", starts_s=starts)).replace(b"+7\x14\x14", b"????")) == "records.start_unreadable"


@pytest.mark.parametrize(("stated", "reason"), [(b"0.5", "header.record_duration"), (b"2", "records.not_increasing")])
def test_2_2_4_a_record_duration_that_the_record_times_contradict_is_refused(stated: bytes, reason: str) -> None:
    assert reason_of(patched(SOUND_PLUS, 244, stated, 8)) == reason


# --- Whatever the bytes ---


@settings(max_examples=300, deadline=None)
@given(part=st.binary(max_size=200) | st.text("+-0123456789.\x14\x15\x00ab", max_size=80).map(str.encode))
def test_any_bytes_are_notes_or_flagged(part: bytes) -> None:
    notes, flags = read_notes(part)
    rest = part.strip(b"\x00")
    assert flags <= {"annotations.unreadable", "annotations.not_utf8"}
    assert all(np.isfinite(n.onset_s) and n.duration_s >= 0 for n in notes)
    if "annotations.unreadable" not in flags and rest:
        assert rest[:1] in b"+-"
        assert rest.endswith(b"\x14")


@settings(max_examples=300, deadline=None)
@given(
    at=st.integers(0, 256 * 4 - 1),
    junk=st.binary(min_size=1, max_size=16) | st.text("0123456789-+.,eE naif", min_size=1, max_size=8).map(str.encode),
)
def test_any_header_is_parsed_within_its_bounds_or_refused(at: int, junk: bytes) -> None:
    head = make(Spec(labels=["a", "b"], plus="EDF+C", n_records=1))[: 256 * 4]
    head = (head[:at] + junk + head[at + len(junk) :])[: 256 * 4]
    try:
        header = parse_header(head, "x.edf")
    except EdfError:
        return
    assert len(header.signals) == 3
    assert 0 < header.record_s <= 3600 or not header.has_signal
    assert 0 < header.record_bytes <= 64 << 20
    assert all(1 <= s.samples_per_record <= 1_000_000 for s in header.signals)
