"""Thousands of damaged EDF files: each is read with the right values, read with a flag, or refused by name; nothing else may happen.

    python -m benchmarks.edf_mutations [--files 10000] [--seed 1] [--workers 2]

Each file follows from its seed alone: a sound file of one of six makes and one mutation of one of fifteen kinds. Worker processes read
them under a limit of time and of memory. What the reader gives (values, times, notes) is held against slow decoders of the same bytes that
know nothing of the reader, and, where bytes were lost or added inside the signal, must not come without a flag. Prints a table by kind
and a line of JSON with the seeds of all failures; exit code 1 where there is one.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import multiprocessing
import random
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable
from multiprocessing.connection import Connection

import numpy as np
import numpy.typing as npt

from cg_data.edf.reader import EdfFile
from cg_data.errors import EdfError
from tests.cg_data.edf_bytes import TAL_SAMPLES, Spec, make, note

TIME_LIMIT_S = 20.0
MEMORY_LIMIT_BYTES = 512 << 20
"""On top of what an idle worker has; the largest file has 300 KB."""

MAKES = (
    Spec(n_records=24),
    Spec(n_records=24, plus="EDF+C", notes=(note(1.5, 0.5, "Eyes closed"), note(8.0, 1.0, "Sleep stage N2"))),
    Spec(n_records=24, plus="EDF+D", starts_s=[float(k if k < 9 else k + 7) for k in range(24)]),
    Spec(n_records=40, sfreq_hz=256.0, record_s=0.5, unit=b"mV", physical=("-3.2768", "3.2767")),
    Spec(n_records=6, record_s=4.0, labels=("EEG Fp1", "EEG Fp2", "EEG C3", "EEG C4", "EOG", "ECG"), plus="EDF+C"),
    Spec(n_records=24, physical=("3276.7", "-3276.8"), labels=("Fp1", "F7", "T3", "T5", "O1", "Fp2", "F8", "T4", "T6", "O2")),
)
NUMBERS = ("", "-1", "0", "1", "2", "1e9", "nan", "inf", "1,5", "0x10", "99999999", "+5", "1 2", "-0.5", "\x00\x00", "uV", "1e-30", "32768")
HEADER_FIELDS = ((8, 80), (88, 80), (168, 8), (176, 8), (184, 8), (192, 44), (236, 8), (244, 8), (252, 4))
SIGNAL_FIELDS = ((0, 16), (96, 8), (104, 8), (112, 8), (120, 8), (128, 8), (216, 8))

Mutation = Callable[[random.Random, bytearray, Spec], bytes]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verdict:
    """What became of one file. `outcome` is "right values", "flagged" or "refused"; anything else is a failure."""

    seed: int
    kind: str
    outcome: str
    detail: str
    seconds: float


def _header_size(spec: Spec) -> int:
    return 256 * (1 + _n_signals(spec))


def _n_signals(spec: Spec) -> int:
    return len(spec.labels) + bool(spec.plus)


def _record_size(spec: Spec) -> int:
    return 2 * (len(spec.labels) * round(spec.sfreq_hz * spec.record_s) + (TAL_SAMPLES if spec.plus else 0))


def _in_payload(rng: random.Random, data: bytearray, spec: Spec) -> int:
    return rng.randrange(_header_size(spec), len(data))


def header_byte(rng: random.Random, data: bytearray, spec: Spec) -> bytes:
    data[rng.randrange(_header_size(spec))] = rng.randrange(256)
    return bytes(data)


def header_field(rng: random.Random, data: bytearray, spec: Spec) -> bytes:
    at, width = rng.choice(HEADER_FIELDS)
    data[at : at + width] = rng.choice(NUMBERS).encode().ljust(width)[:width]
    return bytes(data)


def signal_field(rng: random.Random, data: bytearray, spec: Spec) -> bytes:
    before, width = rng.choice(SIGNAL_FIELDS)
    at = 256 + before * _n_signals(spec) + width * rng.randrange(_n_signals(spec))
    data[at : at + width] = rng.choice(NUMBERS).encode().ljust(width)[:width]
    return bytes(data)


def header_text_noise(rng: random.Random, data: bytearray, spec: Spec) -> bytes:
    at, width = rng.choice(HEADER_FIELDS)
    data[at : at + width] = rng.randbytes(width)
    return bytes(data)


def cut_anywhere(rng: random.Random, data: bytearray, spec: Spec) -> bytes:
    return bytes(data[: rng.randrange(len(data))])


def bytes_added(rng: random.Random, data: bytearray, spec: Spec) -> bytes:
    at = rng.randrange(_header_size(spec), _header_size(spec) + (len(data) - _header_size(spec)) // 2)
    return bytes(data[:at] + rng.randbytes(rng.randint(1, 400)) + data[at:])


def _loss(rng: random.Random, spec: Spec) -> int:
    """Of no whole number of signals: nothing in an EDF file tells such a loss (`cg_data.edf.alignment`)."""
    signal_bytes = 2 * round(spec.sfreq_hz * spec.record_s)
    return next(n for n in iter(lambda: rng.randint(1, 400), 0) if n % signal_bytes)


def bytes_lost(rng: random.Random, data: bytearray, spec: Spec) -> bytes:
    at = rng.randrange(_header_size(spec), _header_size(spec) + (len(data) - _header_size(spec)) // 2)
    return bytes(data[:at] + data[at + _loss(rng, spec) :])


def bytes_lost_and_padded(rng: random.Random, data: bytearray, spec: Spec) -> bytes:
    """The size is as the header says, so only the samples themselves can tell."""
    return bytes_lost(rng, data, spec).ljust(len(data), b"\x00")


def payload_bytes(rng: random.Random, data: bytearray, spec: Spec) -> bytes:
    for _ in range(rng.randint(1, 50)):
        data[_in_payload(rng, data, spec)] = rng.randrange(256)
    return bytes(data)


def line_ends(rng: random.Random, data: bytearray, spec: Spec) -> bytes:
    return bytes(data).replace(b"\n", b"\r\n")


def notes_noise(rng: random.Random, data: bytearray, spec: Spec) -> bytes:
    if spec.plus:
        record = rng.randrange(spec.n_records)
        at = _header_size(spec) + (record + 1) * _record_size(spec) - 2 * TAL_SAMPLES
        for _ in range(rng.randint(1, 8)):
            data[at + rng.randrange(20)] = rng.randrange(256)
    return bytes(data)


def records_swapped(rng: random.Random, data: bytearray, spec: Spec) -> bytes:
    size, head = _record_size(spec), _header_size(spec)
    a, b = (head + size * k for k in rng.sample(range(spec.n_records), 2))
    data[a : a + size], data[b : b + size] = data[b : b + size], data[a : a + size]
    return bytes(data)


def sector_lost(rng: random.Random, data: bytearray, spec: Spec) -> bytes:
    at = _in_payload(rng, data, spec) // 512 * 512
    stop = min(at + 512 * rng.randint(1, 8), len(data))
    at = max(at, _header_size(spec))
    data[at:stop] = bytes([rng.choice((0x00, 0xFF))]) * (stop - at)
    return bytes(data)


def bytes_behind(rng: random.Random, data: bytearray, spec: Spec) -> bytes:
    return bytes(data) + rng.randbytes(rng.randint(1, 5000))


def noise(rng: random.Random, data: bytearray, spec: Spec) -> bytes:
    head = bytes(data[: rng.choice((0, 8, 256, _header_size(spec)))])
    return head + rng.randbytes(rng.randint(0, 20_000))


MUTATIONS: tuple[Mutation, ...] = (
    header_byte, header_field, signal_field, header_text_noise, cut_anywhere, bytes_added, bytes_lost, bytes_lost_and_padded,
    payload_bytes, line_ends, notes_noise, records_swapped, sector_lost, bytes_behind, noise,
)  # fmt: skip
SHIFTED = frozenset({"bytes_added", "bytes_lost", "bytes_lost_and_padded", "line_ends"})
"""After these the samples no longer lie where the header says: values without a flag would be garbage."""


def mutated(seed: int) -> tuple[str, bytes, bytes]:
    """Kind of mutation, the sound file and the damaged one."""
    rng = random.Random(seed)
    spec, mutation = rng.choice(MAKES), rng.choice(MUTATIONS)
    sound = make(spec)
    return mutation.__name__, sound, mutation(rng, bytearray(sound), spec)


def judge(seed: int) -> Verdict:
    """Read the damaged file of `seed` and hold the result against its bytes."""
    kind, sound, data = mutated(seed)
    start = time.monotonic()
    outcome, detail = _outcome(kind, sound, data)
    return Verdict(seed=seed, kind=kind, outcome=outcome, detail=detail, seconds=time.monotonic() - start)


def _outcome(kind: str, sound: bytes, data: bytes) -> tuple[str, str]:
    try:
        file = EdfFile.from_bytes(data, "damaged.edf")
        signals = [i for i, signal in enumerate(file.header.signals) if not signal.is_annotations]
        file.check(signals)
        wrong = _wrong(file, signals, data) or _wrong_times(file, data)
    except EdfError as error:
        return ("refused", error.reason) if "damaged.edf" in str(error) else ("refused without the file's name", str(error))
    except Exception as error:  # noqa: BLE001 - whatever else escapes is what is looked for here
        return "crash", f"{type(error).__name__}: {error}"
    if wrong:
        return "wrong values", wrong
    if file.flags:
        return "flagged", ",".join(file.flags)
    return ("silent shift", "no flag") if kind in SHIFTED and data != sound else ("right values", "")


def _wrong(file: EdfFile, signals: list[int], data: bytes) -> str:
    """Where the reader's values differ from what the bytes say; every run, at its ends and in its middle."""
    for run_start_s, run_stop_s in file.runs_s:
        for start_s in {run_start_s, (run_start_s + run_stop_s) / 2, max(run_start_s, run_stop_s - 2.0)}:
            stop_s = min(start_s + 2.0, run_stop_s)
            for signal in signals:
                steps = file.read_digital([signal], start_s, stop_s)[0]
                expected_steps, expected_uv = plain_values(data, signal, file, start_s, len(steps))
                if not np.array_equal(steps, expected_steps):
                    return f"signal {signal} at {start_s} s: digital values"
                if not np.allclose(file.read_uv([signal], start_s, stop_s)[0], expected_uv, rtol=1e-6, atol=1e-4):
                    return f"signal {signal} at {start_s} s: microvolts"
    return ""


def _wrong_times(file: EdfFile, data: bytes) -> str:
    """Where record starts or notes differ from what the bytes say, in a file of which the reader says nothing about either."""
    if any(flag.startswith(("records.", "annotations.")) for flag in file.flags):
        return ""
    starts_s, notes = plain_times(data, file)
    if not starts_s:
        return ""
    told_s = [start_s + k * file.header.record_s for _, count, start_s in file.runs for k in range(count)]
    slack_s = max(0.001, 0.5 / file.header.fastest_hz) * 1.001
    if len(told_s) != len(starts_s) or any(abs(a - b + starts_s[0]) > slack_s for a, b in zip(starts_s, told_s, strict=True)):
        return "times of the records"
    told = sorted((round(note.onset_s + starts_s[0], 6), round(note.duration_s, 6), note.text) for note in file.annotations)
    return "" if told == sorted(notes) else "notes"


def plain_times(data: bytes, file: EdfFile) -> tuple[list[float], list[tuple[float, float, str]]]:
    """Start of each record, and (onset, duration, text) of each note as written, by splitting the annotation signals at their marks."""
    n_signals = int(data[252:256])
    counts = [int(float(data[256 + 216 * n_signals + 8 * i :][:8].decode())) for i in range(n_signals)]
    labels = [data[256 + 16 * i :][:16].rstrip(b" \x00") for i in range(n_signals)]
    if b"EDF Annotations" not in labels or file.header.kind == "EDF":
        return [], []
    number, starts_s, notes = labels.index(b"EDF Annotations"), [], []
    for record in range(sum(count for _, count, _ in file.runs)):
        at = 256 * (n_signals + 1) + 2 * (sum(counts) * record + sum(counts[:number]))
        lists = [part for part in data[at : at + 2 * counts[number]].split(b"\x00") if part]
        starts_s.append(float(lists[0].split(b"\x14")[0]))
        for part in lists:
            time_s, *texts = part.split(b"\x14")
            onset_s, _, duration_s = time_s.partition(b"\x15")
            notes += [(round(float(onset_s), 6), round(float(duration_s or 0), 6), text.decode().strip()) for text in texts if text]
    return starts_s, notes


def plain_values(data: bytes, signal: int, file: EdfFile, start_s: float, n: int) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.float64]]:
    """`n` samples from `start_s` on, one after the other, from the bytes alone but for the start of the run that they lie in."""
    n_signals = int(data[252:256])
    counts = [int(float(data[256 + 216 * n_signals + 8 * i :][:8].decode())) for i in range(n_signals)]
    record_s = float(data[244:252].decode().strip(" \x00").replace(",", "."))
    number = [
        float(data[256 + at * n_signals + 8 * signal :][:8].decode("latin-1").strip(" \x00").replace(",", "."))
        for at in (104, 112, 120, 128)
    ]
    unit = {"uv": 1.0, "mv": 1e3, "v": 1e6, "nv": 1e-3}[
        data[256 + 96 * n_signals + 8 * signal :][:8].decode("latin-1").strip(" \x00").lower()
    ]
    first_record, run_start_s = _record_of(file, start_s)
    first = round((start_s - run_start_s) * counts[signal] / record_s)
    steps = []
    for k in range(first, first + n):
        record, rest = divmod(k, counts[signal])
        at = 256 * (n_signals + 1) + 2 * (sum(counts) * (first_record + record) + sum(counts[:signal]) + rest)
        steps.append(int.from_bytes(data[at : at + 2], "little", signed=True))
    physical = (np.array(steps) - number[2]) * (number[1] - number[0]) / (number[3] - number[2]) + number[0]
    return np.array(steps, dtype=np.int16), physical * unit


def _record_of(file: EdfFile, start_s: float) -> tuple[int, float]:
    """First record of the run that holds a time, counted over the file, and its start."""
    before = 0
    for run_start_s, run_stop_s in file.runs_s:
        if run_start_s <= start_s <= run_stop_s:
            return before, run_start_s
        before += round((run_stop_s - run_start_s) / file.header.record_s)
    raise AssertionError("the time lies in no run")


def _work(pipe: Connection) -> None:
    limit = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize() + MEMORY_LIMIT_BYTES  # noqa: PTH123, SIM115
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    while (seed := pipe.recv()) is not None:
        pipe.send(judge(seed))


class Worker:
    """A process that judges one seed at a time; one that hangs or dies is replaced."""

    def __init__(self) -> None:
        self._start()
        self.seed: int | None = None

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe()
        self._process = context.Process(target=_work, args=(other,), daemon=True)
        self._process.start()
        other.close()

    def give(self, seed: int) -> None:
        self.seed, self._given = seed, time.monotonic()
        self.pipe.send(seed)

    def take(self) -> Verdict | None:
        """The verdict, if there is one by now."""
        assert self.seed is not None
        if self.pipe.poll(0):
            try:
                verdict: Verdict = self.pipe.recv()
            except EOFError:
                return self._replaced("died", f"exit code {self._process.exitcode}")
            self.seed = None
            return verdict
        if time.monotonic() - self._given > TIME_LIMIT_S:
            return self._replaced("hang", f"no answer within {TIME_LIMIT_S:g} s")
        return None

    def _replaced(self, outcome: str, detail: str) -> Verdict:
        self._process.kill()
        self._process.join()
        seed, self.seed = self.seed, None
        assert seed is not None
        self._start()
        return Verdict(seed=seed, kind=mutated(seed)[0], outcome=outcome, detail=detail, seconds=time.monotonic() - self._given)

    def end(self) -> None:
        self.pipe.send(None)
        self._process.join()


def run(seeds: range, n_workers: int) -> list[Verdict]:
    """Verdicts of all `seeds`."""
    workers, waiting, verdicts = [Worker() for _ in range(n_workers)], iter(seeds), []
    while len(verdicts) < len(seeds):
        for worker in workers:
            if worker.seed is None and (seed := next(waiting, None)) is not None:
                worker.give(seed)
        multiprocessing.connection.wait([worker.pipe for worker in workers if worker.seed is not None], timeout=0.5)
        for worker in workers:
            if worker.seed is not None and (verdict := worker.take()) is not None:
                verdicts.append(verdict)
    for worker in workers:
        worker.end()
    return verdicts


def table(verdicts: list[Verdict]) -> list[str]:
    """Outcomes by kind of mutation."""
    sound = ("right values", "flagged", "refused")
    lines = [f"{'kind':<24}{'files':>7}" + "".join(f"{name:>14}" for name in (*sound, "failures"))]
    for kind in [mutation.__name__ for mutation in MUTATIONS]:
        own = Counter(v.outcome for v in verdicts if v.kind == kind)
        counts = [own[name] for name in sound]
        lines.append(f"{kind:<24}{own.total():>7}" + "".join(f"{n:>14}" for n in (*counts, own.total() - sum(counts))))
    return lines


def failures(verdicts: list[Verdict]) -> list[Verdict]:
    return [v for v in verdicts if v.outcome not in ("right values", "flagged", "refused")]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--files", type=int, default=10_000)
    options.add_argument("--seed", type=int, default=1, help="of the first file; the others follow it")
    options.add_argument("--workers", type=int, default=2)
    asked = options.parse_args()
    verdicts = run(range(asked.seed, asked.seed + asked.files), asked.workers)
    bad = failures(verdicts)
    reasons = Counter(v.detail for v in verdicts if v.outcome == "refused")
    say = sys.stdout.write
    say("\n".join(table(verdicts)) + "\n")
    say(f"slowest {max(v.seconds for v in verdicts):.2f} s; refused for: {', '.join(f'{n} x {r}' for r, n in reasons.most_common())}\n")
    say(json.dumps({"files": asked.files, "seed": asked.seed, "failures": [dataclasses.asdict(v) for v in bad]}) + "\n")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
