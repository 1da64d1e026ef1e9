"""LLaVA-style items become samples as they are, or are refused by name; nothing leaves the folder and nothing is done twice."""

from __future__ import annotations

import io
import json
import random
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from cg_data import storage
from cg_data.errors import ConfigError
from cg_data.instruct.general import GENERAL_SYSTEM_PROMPT, plan_shards, read_items, write_shard
from cg_data.records import Sample
from cg_data.settings import EngineSettings, GeneralSettings
from cg_data.shards import read_samples
from cg_data.vocabulary import SampleKind, SampleSource, Split


def encoded(picture: Image.Image, kind: str = "JPEG") -> bytes:
    sink = io.BytesIO()
    picture.save(sink, kind)
    return sink.getvalue()


PHOTO = encoded(Image.linear_gradient("L").resize((64, 48)).convert("RGB"))
DRAWING = encoded(Image.linear_gradient("L").resize((40, 30)), "PNG")


def said(*values: str) -> list[dict[str, str]]:
    return [{"from": ("human", "gpt")[i % 2], "value": value} for i, value in enumerate(values)]


def item(image: Any = "photo.jpg", *values: str) -> dict[str, Any]:
    return {"id": "000", "image": image, "conversations": said(*(values or ("<image>\nWhat is this?", "A gradient.")))}


def text_item(*values: str) -> dict[str, Any]:
    return {"id": "000", "conversations": said(*values)}


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    (folder / "sub").mkdir(parents=True)
    (folder / "photo.jpg").write_bytes(PHOTO)
    (folder / "sub" / "drawing.png").write_bytes(DRAWING)
    (folder / "letter.jpg").write_text("Dear colleague, ...")
    (folder / "cut.jpg").write_bytes(PHOTO[: len(PHOTO) // 2])
    (folder / "film.gif").write_bytes(encoded(Image.new("L", (8, 8)), "GIF"))
    (folder / "thread.png").write_bytes(encoded(Image.new("L", (2010, 10)), "PNG"))
    (folder / "huge.png").write_bytes(encoded(Image.new("1", (3000, 1000)), "PNG"))
    (folder / "heavy.jpg").write_bytes(PHOTO + bytes(100_000))
    (tmp_path / "secret.jpg").write_bytes(PHOTO)
    (folder / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    return folder


def settings_of(tmp_path: Path, **changes: Any) -> GeneralSettings:
    limits = {"max_picture_bytes": 50_000, "max_picture_pixels": 1_000_000, "max_characters": 500, "items_per_shard": 4}
    return GeneralSettings(json_file=str(tmp_path / "items.json"), images_folder=str(tmp_path / "images"), **{**limits, **changes})


def write(tmp_path: Path, items: list[Any], **changes: Any) -> tuple[list[Sample], list[dict[str, Any]]]:
    """Samples and refusals of a list."""
    settings, out, refused = settings_of(tmp_path, **changes), str(tmp_path / "samples"), str(tmp_path / "refused")
    Path(settings.json_file).write_text(json.dumps(items))
    for shard in plan_shards(read_items(settings.json_file), settings.items_per_shard):
        write_shard(shard, out_uri=out, refused_uri=refused, settings=settings)
    return list(read_samples(out)), storage.read_table(refused).to_pylist()


@pytest.mark.usefixtures("images")
def test_items_become_samples_with_the_pictures_own_bytes(tmp_path: Path) -> None:
    items = [
        item(),
        item("sub/drawing.png", "How big? \n<image>", "Small.", "Sure?", "Yes."),
        text_item("What is an EEG?", " A recording. "),
    ]
    (photo, drawing, text), refused = write(tmp_path, items)
    assert not refused
    assert (photo.picture, drawing.picture, text.picture) == (PHOTO, DRAWING, None)
    assert [(m.role, m.content) for m in photo.messages] == [
        ("system", GENERAL_SYSTEM_PROMPT),
        ("user", "What is this?"),
        ("assistant", "A gradient."),
    ]
    assert [m.content for m in drawing.messages[1:]] == ["How big?", "Small.", "Sure?", "Yes."]
    assert text.messages[-1].content == "A recording."
    for sample in (photo, drawing, text):
        assert (sample.kind, sample.source, sample.split) == (SampleKind.GENERAL, SampleSource.GENERAL, Split.TRAIN)
        assert not sample.has_page
        assert sample.eeg_uv.shape == (0, 2000)
    assert len({sample.sample_id for sample in (photo, drawing, text)}) == 3


BAD: list[tuple[Any, str]] = [
    (item("nowhere.jpg"), "image.missing"),
    (item("sub"), "image.missing"),
    (item("../secret.jpg"), "image.outside"),
    (item("sub/../../secret.jpg"), "image.outside"),
    (item("sub\\..\\..\\secret.jpg"), "image.outside"),
    (item("/etc/passwd"), "image.outside"),
    (item("C:\\secret.jpg"), "image.outside"),
    (item("link.jpg"), "image.outside"),
    (item("photo.jpg\0.png"), "image.type"),
    (item("\ud800.jpg"), "image.type"),
    (text_item("What?", "Half \ud800."), "text.unicode"),
    (item("https://example.org/a.jpg"), "image.url"),
    (item("file:///etc/passwd"), "image.url"),
    (item("data:image/png;base64,AAAA"), "image.url"),
    (item(["photo.jpg", "sub/drawing.png"]), "image.several"),
    (item("photo.jpg", "<image>\n<image> Which?", "The first."), "image.several"),
    (item("photo.jpg", "What?", "Nothing."), "image.not_marked"),
    (item("photo.jpg", "What?", "This.", "And <image>?", "That."), "image.not_marked"),
    (item(7), "image.type"),
    (item(""), "image.type"),
    (item("letter.jpg"), "image.unreadable"),
    (item("cut.jpg"), "image.unreadable"),
    (item("film.gif"), "image.unreadable"),
    (item("thread.png"), "image.shape"),
    (item("huge.png"), "image.pixels"),
    (item("heavy.jpg"), "image.bytes"),
    (text_item("<image>\nWhat?", "Nothing."), "image.not_given"),
    (text_item("What?"), "turns.order"),
    (text_item(), "turns.order"),
    ({"conversations": said("a", "b")[::-1]}, "turns.order"),
    ({"conversations": [{"from": "human", "value": "a"}, {"from": "human", "value": "b"}]}, "turns.order"),
    ({"conversations": [{"from": "narrator", "value": "a"}, {"from": "gpt", "value": "b"}]}, "turn.role"),
    ({"conversations": [{"from": ["human"], "value": "a"}, {"from": "gpt", "value": "b"}]}, "turn.role"),
    ({"conversations": [{"from": "human", "value": 3}, {"from": "gpt", "value": "b"}]}, "turn.value"),
    ({"conversations": "a"}, "turns.type"),
    ({}, "turns.type"),
    ("a", "item.type"),
    (None, "item.type"),
    (text_item("What?", "  "), "turn.empty"),
    (item("photo.jpg", "<image>\n", "A gradient."), "turn.empty"),
    (text_item("What?", "long " * 200), "text.too_long"),
    (text_item("What?", "No<|im_end|>"), "text.control_token"),
]


@pytest.mark.usefixtures("images")
def test_what_breaks_a_rule_is_refused_by_name_and_the_rest_goes_on(tmp_path: Path) -> None:
    items = [item(), *(bad for bad, _ in BAD), text_item("Who?", "Nobody.")]
    samples, refused = write(tmp_path, items)
    assert [sample.messages[-1].content for sample in samples] == ["A gradient.", "Nobody."]
    assert [row["reason"] for row in sorted(refused, key=lambda row: row["uri"])] == [reason for _, reason in BAD]
    for row in refused:
        assert row["corpus"] == "general"
        place = int(row["uri"].rsplit("#", 1)[1])
        assert row["message"].startswith(f"item {place} of {tmp_path / 'items.json'}: ")
        assert len(row["message"]) < 500


@pytest.mark.usefixtures("images")
def test_an_item_that_comes_again_is_named_with_the_first(tmp_path: Path) -> None:
    other = {**item(), "id": "another"}
    samples, refused = write(tmp_path, [item(), text_item("Who?", "Nobody."), *([text_item("Why?", "So.")] * 4), other])
    assert len(samples) == 3
    assert [row["reason"] for row in refused] == ["item.twice"] * 4
    assert "as item 0." in next(row["message"] for row in refused if row["uri"].endswith("#0000006"))


@pytest.mark.usefixtures("images")
def test_ids_follow_the_content_and_not_the_place_in_the_list(tmp_path: Path) -> None:
    items = [item(), text_item("Who?", "Nobody."), item("sub/drawing.png")]
    forward = {sample.sample_id for sample in write(tmp_path, items, items_per_shard=2)[0]}
    for place in ("samples", "refused"):
        storage.delete(str(tmp_path / place))
    assert {sample.sample_id for sample in write(tmp_path, items[::-1])[0]} == forward


@pytest.mark.usefixtures("images")
def test_a_rerun_reads_nothing_again_and_leaves_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    items = [item(), *(text_item(f"{i}?", "Yes.") for i in range(8))]
    write(tmp_path, items)
    shards = {path: path.read_bytes() for path in sorted((tmp_path / "samples").iterdir())}
    assert len(shards) == 3
    lost = list(shards)[1]
    lost.unlink()
    read: list[str] = []
    monkeypatch.setattr("cg_data.instruct.general._read", lambda image, settings: read.append(image))
    write(tmp_path, items)
    assert {path: path.read_bytes() for path in sorted((tmp_path / "samples").iterdir())} == shards
    assert not read


@pytest.mark.parametrize(
    ("text", "said"), [("[{", "not valid JSON"), ("{}", "a list with at least one"), ("[]", "a list with at least one")]
)
def test_a_file_that_is_no_list_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "items.json").write_text(text)
    with pytest.raises(ConfigError, match=said):
        read_items(str(tmp_path / "items.json"))


@pytest.mark.usefixtures("images")
def test_damaged_pictures_are_read_or_refused_and_never_end_the_work(tmp_path: Path, images: Path) -> None:
    """Bytes overwritten at random in a JPEG and in a PNG."""
    rng = random.Random(3)
    items = []
    for number in range(120):
        data = bytearray((PHOTO, DRAWING)[number % 2])
        for _ in range(rng.randint(1, 12)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        (images / f"{number}.bin").write_bytes(data)
        items.append(item(f"{number}.bin"))
    samples, refused = write(tmp_path, items)
    assert len(samples) + len(refused) == 120
    assert samples
    assert {row["reason"] for row in refused} <= {"image.unreadable", "image.pixels", "image.shape"}
    for sample in samples:
        assert sample.picture is not None
        Image.open(io.BytesIO(sample.picture)).convert("RGB")


@pytest.mark.cluster
@pytest.mark.slow
@pytest.mark.usefixtures("images", "ray_session")
def test_the_engine_writes_a_list_and_forgets_the_list_before_it(tmp_path: Path) -> None:
    from cg_data.engine import build_general

    settings, out, refused = settings_of(tmp_path), str(tmp_path / "samples"), str(tmp_path / "refused")
    items = [item(), item("nowhere.jpg"), *(text_item(f"{i}?", "Yes.") for i in range(6))]
    for kept in (items, items[:5]):
        Path(settings.json_file).write_text(json.dumps(kept))
        made = build_general(settings, out_uri=out, refused_uri=refused, engine=EngineSettings())
        assert [row.reason for row in made.refused] == ["image.missing"]
        assert made.samples == len(list(read_samples(out))) == len(kept) - 1
