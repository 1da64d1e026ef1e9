from __future__ import annotations

import random
import unicodedata
from typing import Any

import numpy as np
import pytest
import torch

from cg_data.errors import ConfigError
from cg_data.settings import PageSettings
from cg_train.model.build import SPECIAL_TOKENS, build_tiny, train_tokenizer
from cg_train.model.encode import END_OF_TURN, IMAGE, PAD, VIDEO, VISION_END, VISION_START, page_to_patches
from cg_train.recipe import TinyModel
from tests.cg_train.model_small import PAGE, SIZES, build, texts


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return train_tokenizer(texts(), SIZES.vocabulary)


def _resized(**changes: float) -> TinyModel:
    return TinyModel.model_validate(SIZES.model_dump() | changes)


def _random_text(seed: int) -> str:
    drawn = random.Random(seed)
    planes = [(0x20, 0x7F), (0xA0, 0x250), (0x370, 0x530), (0x4E00, 0x9FFF), (0x1F300, 0x1FAFF)]
    letters = [chr(drawn.randrange(*drawn.choice(planes))) for _ in range(200)]
    return "".join(letter + drawn.choice(["", "", " ", "  ", "\n", "\t"]) for letter in letters)


@pytest.mark.parametrize(
    "text",
    [
        "A rhythm at Fp1.",
        "50 µV, 8–13 Hz, ≥ 3 s",
        "Ça où déjà naïve Ærø Straße",
        "🧠 ⚡ 👩‍⚕️",
        "  two\n\n lines\r\n\ttab ",
        "ΑΒΓ жука 脳波",
        "\x00\x7f",
    ],
)
def test_the_tokenizer_gives_back_text_that_it_never_saw(tokenizer: Any, text: str) -> None:
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


@pytest.mark.parametrize("seed", range(5))
def test_the_tokenizer_gives_back_random_text_in_composed_form(tokenizer: Any, seed: int) -> None:
    text = _random_text(seed)
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == unicodedata.normalize("NFC", text)


def test_the_tokenizer_learns_the_words_of_the_texts_as_far_as_they_go(tokenizer: Any) -> None:
    assert len(tokenizer) == SIZES.vocabulary
    all_learnt = train_tokenizer(texts(), 5000)
    assert SIZES.vocabulary < len(all_learnt) < 5000
    assert len(all_learnt("A rhythm at")["input_ids"]) == 3
    assert len(all_learnt("A zyzzyva at")["input_ids"]) > 5


def test_each_control_token_is_one_token_of_its_own(tokenizer: Any) -> None:
    ids = [tokenizer(token)["input_ids"] for token in SPECIAL_TOKENS]
    assert [len(one) for one in ids] == [1] * len(SPECIAL_TOKENS)
    assert len({one[0] for one in ids}) == len(SPECIAL_TOKENS)
    assert tokenizer.decode([one[0] for one in ids], skip_special_tokens=True) == ""


def test_the_order_of_the_texts_does_not_change_the_tokenizer(tokenizer: Any) -> None:
    for seed in range(3):
        shuffled = texts()
        random.Random(seed).shuffle(shuffled)
        assert shuffled != texts()
        other = train_tokenizer(shuffled, SIZES.vocabulary)
        assert other.backend_tokenizer.to_str() == tokenizer.backend_tokenizer.to_str()


def test_other_texts_give_another_tokenizer(tokenizer: Any) -> None:
    other = train_tokenizer([text.upper() for text in texts()], SIZES.vocabulary)
    assert other.get_vocab() != tokenizer.get_vocab()


def test_a_vocabulary_that_leaves_nothing_to_learn_is_refused() -> None:
    least = 256 + len(SPECIAL_TOKENS)
    with pytest.raises(ConfigError, match=rf"train\.tiny\.vocabulary: {least} tokens are too few\. Give more than {least}"):
        train_tokenizer(texts(), least)
    assert len(train_tokenizer(texts(), least + 1)) == least + 1


def test_equal_settings_give_equal_weights_and_leave_the_random_numbers_of_others_alone() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    model, _ = build()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    again, _ = build()
    assert all(torch.equal(one, other) for one, other in zip(model.state_dict().values(), again.state_dict().values(), strict=True))


def test_another_seed_gives_other_weights(tokenizer: Any) -> None:
    model, _ = build_tiny(SIZES, tokenizer, PAGE)
    other, _ = build_tiny(_resized(seed=SIZES.seed + 1), tokenizer, PAGE)
    name = "model.visual.merger.mlp.0.weight"
    assert not torch.equal(model.state_dict()[name], other.state_dict()[name])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"text_hidden": 60}, r"text_hidden 60 must be a multiple of 4 x text_heads = 8"),
        ({"text_heads": 3}, r"text_hidden 64 must be a multiple of 4 x text_heads = 12"),
        ({"vision_heads": 3}, r"vision_hidden 32 must be a multiple of 4 x vision_heads = 12"),
        ({"text_heads": 4, "text_kv_heads": 3}, r"text_heads 4 must be a multiple of text_kv_heads 3"),
    ],
)
def test_heads_that_do_not_divide_the_width_are_refused(tokenizer: Any, changes: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_tiny(_resized(**changes), tokenizer, PAGE)


def test_a_page_that_does_not_divide_into_tokens_is_refused_before_anything_is_built(tokenizer: Any) -> None:
    with pytest.raises(ConfigError, match=r"do not divide into 28-pixel tokens\. Set multiple_of to 28"):
        build_tiny(SIZES, tokenizer, PageSettings(pixels_per_row=16, pixels_per_second=128, multiple_of=32))


def test_the_model_knows_the_tokens_of_its_tokenizer(tokenizer: Any) -> None:
    model, processor = build_tiny(SIZES, tokenizer, PAGE)
    end, pad, image, video, start, stop = tokenizer.convert_tokens_to_ids([END_OF_TURN, PAD, IMAGE, VIDEO, VISION_START, VISION_END])
    generation, config = model.generation_config, model.config
    assert (generation.eos_token_id, generation.pad_token_id, generation.bos_token_id) == ([end, pad], pad, pad)
    assert (config.image_token_id, config.video_token_id) == (image, video)
    assert (config.vision_start_token_id, config.vision_end_token_id) == (start, stop)
    assert (config.text_config.eos_token_id, config.text_config.pad_token_id) == (end, pad)
    assert model.get_input_embeddings().weight.shape == (len(tokenizer), SIZES.text_hidden)
    assert model.lm_head.weight is model.get_input_embeddings().weight
    assert (processor.image_token_id, processor.tokenizer.padding_side) == (image, "left")


def test_the_last_block_of_the_vision_tower_sees_the_whole_page() -> None:
    model, _ = build()
    tower = model.model.visual
    assert tower.fullatt_block_indexes == [SIZES.vision_depth - 1]
    page = np.full((1, 84, 140), 255, dtype=np.uint8)
    marked = page.copy()
    marked[0, :28, :28] = 0  # the first visual token; the last one lies in another window
    seen = [tower(pixels, grid_thw=grid).pooler_output[-1] for pixels, grid in (page_to_patches(page), page_to_patches(marked))]
    assert (seen[0] - seen[1]).abs().max() > 1e-4


def test_positions_in_time_height_and_width_share_the_heads_between_them() -> None:
    model, _ = build()
    shares = model.config.text_config.rope_parameters["mrope_section"]
    assert sum(shares) == SIZES.text_hidden // SIZES.text_heads // 2
    assert min(shares) > 0
