"""A trained model in use: pages and questions in, answers or the likelihoods of given answers out."""

from __future__ import annotations

import dataclasses
import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch

from cg_data.errors import ConfigError
from cg_data.instruct.prompt import PROMPT_VERSION
from cg_data.page import render_batch
from cg_data.records import Message
from cg_data.settings import PageSettings
from cg_train.model.encode import MERGE, TOKEN_PX, Encoded, encode_answer, encode_dialogue, image_tokens, pad_ids, page_to_patches
from cg_train.model.load import LoadedModel, load_model

_DIALOGUES_AT_ONCE = 16
_PAGES_KEPT = 64
"""Pages whose visual tokens stay in memory, so that further questions about a page do not look at it again."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """`probability` is the geometric mean of the `tokens` probabilities, end of turn included."""

    text: str
    probability: float
    tokens: int


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class OptionScore:
    """Natural logarithm of the probability of a given answer, summed over its `tokens`, end of turn included."""

    log_probability: float
    tokens: int


@dataclasses.dataclass(kw_only=True, slots=True)
class _Read:
    """Dialogues that the model has read: what it keeps of them, log-probabilities of the next token, and where that one stands."""

    cache: Any
    mask: torch.Tensor
    next_log_probabilities: torch.Tensor
    next_position: torch.Tensor

    def select(self, rows: torch.Tensor) -> None:
        """Keep, drop or repeat dialogues by row."""
        self.cache.batch_select_indices(rows)
        self.mask = self.mask[rows]
        self.next_log_probabilities = self.next_log_probabilities[rows]
        self.next_position = self.next_position[rows]


class Interpreter:
    """Answers questions about pages. Decoding is greedy: equal input gives equal answers on the CPU. One call at a time.

    Penalties and sampling in a model's generation_config.json are not applied.
    """

    def __init__(self, loaded: LoadedModel, device: str = "cpu") -> None:
        if loaded.about is None:
            raise ConfigError(
                "the model does not say with which page it was trained (no cerebragloss.json). Train it with this project first."
            )
        if loaded.about.prompt_version != PROMPT_VERSION:
            raise ConfigError(
                f"the model was trained with the words of {loaded.about.prompt_version}, "
                f"this version speaks {PROMPT_VERSION}. Train it again."
            )
        self.page: PageSettings = loaded.about.page
        self.version: str = loaded.about.version
        self._model, self._tokenizer, self._device = loaded.model.eval(), loaded.tokenizer, device
        self._image_tokens = image_tokens(self.page)
        self._ends = torch.tensor([self._tokenizer.eos_token_id, self._tokenizer.pad_token_id], device=device)
        self._seen: OrderedDict[str, torch.Tensor] = OrderedDict()

    @classmethod
    def load(cls, folder: str, device: str = "cpu") -> Self:
        """The model that `cg_train.model.export.export_folder` wrote: float32 on the CPU, as stored elsewhere.

        Raises:
            UserError: it is not there, incomplete, or was trained with other words.
        """
        dtype: Any = torch.float32 if device == "cpu" else "auto"
        return cls(load_model(folder, dtype=dtype, attention="sdpa", device=device), device)

    @torch.inference_mode()
    def answer(
        self,
        eeg_uv: npt.NDArray[np.float32],
        mask: npt.NDArray[np.bool_],
        dialogues: Sequence[Sequence[Message]],
        *,
        max_new_tokens: int,
    ) -> list[Answer]:
        """One answer for each page with its dialogue.

        Args:
            eeg_uv: `(n, 19, 2000)` microvolts.
            mask: `(n, 19)`, True where the electrode exists.
            dialogues: `n` dialogues that end with the user's question.
            max_new_tokens: longer answers are cut there.

        Raises:
            UserError: a dialogue that is none (see `encode_dialogue`).
        """
        answers: list[Answer] = []
        for start in range(0, len(dialogues), _DIALOGUES_AT_ONCE):
            rows = slice(start, start + _DIALOGUES_AT_ONCE)
            answers += self._decode(self._read(eeg_uv[rows], mask[rows], dialogues[rows]), max_new_tokens)
        return answers

    def prompt_tokens(self, dialogue: Sequence[Message]) -> int:
        """Length of a dialogue as the model reads it, visual tokens included.

        Raises:
            UserError: a dialogue that is none (see `encode_dialogue`).
        """
        return len(encode_dialogue(self._tokenizer, dialogue, self._image_tokens, with_answer=False).input_ids)

    def option_scores(
        self, eeg_uv: npt.NDArray[np.float32], mask: npt.NDArray[np.bool_], messages: Sequence[Message], options: Sequence[str]
    ) -> list[OptionScore]:
        """How likely each of `options` is as the answer to `messages` about the page `(19, 2000)` with mask `(19,)`."""
        return self.option_scores_batch(eeg_uv[None], mask[None], [messages], [options])[0]

    @torch.inference_mode()
    def option_scores_batch(
        self,
        eeg_uv: npt.NDArray[np.float32],
        mask: npt.NDArray[np.bool_],
        dialogues: Sequence[Sequence[Message]],
        options: Sequence[Sequence[str]],
    ) -> list[list[OptionScore]]:
        """`option_scores` for `n` pages, dialogues and lists of options; each dialogue is read once, whatever the number of options."""
        scores: list[list[OptionScore]] = []
        for start in range(0, len(dialogues), _DIALOGUES_AT_ONCE):
            rows = slice(start, start + _DIALOGUES_AT_ONCE)
            scores += self._score(self._read(eeg_uv[rows], mask[rows], dialogues[rows]), options[rows])
        return scores

    def _read(self, eeg_uv: npt.NDArray[np.float32], mask: npt.NDArray[np.bool_], dialogues: Sequence[Sequence[Message]]) -> _Read:
        encoded = [encode_dialogue(self._tokenizer, messages, self._image_tokens, with_answer=False) for messages in dialogues]
        pages = render_batch(eeg_uv, mask, self.page)
        visual = torch.cat([self._look(page) for page in pages])
        return self._read_encoded(encoded, visual, pages.shape[1:])

    def _look(self, page: npt.NDArray[np.uint8]) -> torch.Tensor:
        """The visual tokens of one page, `(tokens, hidden)`. Pages go one by one, so that their company cannot change a bit of them."""
        key = hashlib.sha256(page.tobytes()).hexdigest()
        if key not in self._seen:
            pixel_values, grid = page_to_patches(page[None])
            tower = self._model.model.visual
            self._seen[key] = tower(pixel_values.to(self._device, tower.dtype), grid_thw=grid.to(self._device)).pooler_output
            if len(self._seen) > _PAGES_KEPT:
                self._seen.popitem(last=False)
        self._seen.move_to_end(key)
        return self._seen[key]

    def _read_encoded(self, encoded: Sequence[Encoded], visual: torch.Tensor, shape_px: tuple[int, ...]) -> _Read:
        batch = pad_ids(encoded, self._tokenizer.pad_token_id, "left")
        ids, mask, kinds = (batch[name].to(self._device) for name in ("input_ids", "attention_mask", "mm_token_type_ids"))
        words = self._model.get_input_embeddings()(ids)
        inputs = words.masked_scatter((kinds == 1)[..., None], visual.to(words.dtype))
        grid = torch.tensor([[1, shape_px[0] // TOKEN_PX * MERGE, shape_px[1] // TOKEN_PX * MERGE]] * len(ids), device=self._device)
        positions, shift = self._model.model.get_rope_index(ids, mm_token_type_ids=kinds, image_grid_thw=grid, attention_mask=mask)
        out = self._model(inputs_embeds=inputs, position_ids=positions, attention_mask=mask, use_cache=True, logits_to_keep=1)
        return _Read(
            cache=out.past_key_values,
            mask=mask,
            next_log_probabilities=out.logits[:, -1].float().log_softmax(-1),
            next_position=mask.sum(1, keepdim=True) + shift,
        )

    def _go_on(self, read: _Read, ids: torch.Tensor) -> torch.Tensor:
        """Read `ids` `(n, length)` after the dialogues; returns log-probabilities of the token after each, `(n, length, vocabulary)`."""
        read.mask = torch.cat([read.mask, torch.ones_like(ids)], dim=1)
        positions = read.next_position + torch.arange(ids.shape[1], device=ids.device)
        out = self._model(
            input_ids=ids,
            position_ids=positions.expand(3, -1, -1),
            attention_mask=read.mask,
            past_key_values=read.cache,
            use_cache=True,
        )
        read.next_position = read.next_position + ids.shape[1]
        log_probabilities: torch.Tensor = out.logits.float().log_softmax(-1)
        return log_probabilities

    def _decode(self, read: _Read, max_new_tokens: int) -> list[Answer]:
        """Greedy decoding; a dialogue that has its answer leaves the batch."""
        ids: list[list[int]] = [[] for _ in read.mask]
        gains: list[list[float]] = [[] for _ in read.mask]
        rows = torch.arange(len(ids), device=self._device)
        for _ in range(max_new_tokens):
            gain, token = read.next_log_probabilities.max(-1)
            for row, one, of_it in zip(rows.tolist(), token.tolist(), gain.tolist(), strict=True):
                ids[row].append(one)
                gains[row].append(of_it)
            alive = torch.nonzero(~torch.isin(token, self._ends)).flatten()
            if not len(alive):
                break
            if len(alive) < len(rows):
                read.select(alive)
                rows, token = rows[alive], token[alive]
            read.next_log_probabilities = self._go_on(read, token[:, None])[:, -1]
        texts = self._tokenizer.batch_decode(ids, skip_special_tokens=True)
        return [
            Answer(text=text.strip(), probability=float(np.exp(np.mean(of_them))), tokens=len(of_them))
            for text, of_them in zip(texts, gains, strict=True)
        ]

    def _score(self, read: _Read, options: Sequence[Sequence[str]]) -> list[list[OptionScore]]:
        ids = [encode_answer(self._tokenizer, option) for of_one in options for option in of_one]
        if not ids:
            return [[] for _ in options]
        counts = [len(of_one) for of_one in options]
        read.select(torch.repeat_interleave(torch.tensor(counts)).to(self._device))
        longest = max(len(tokens) for tokens in ids)
        wanted = torch.tensor([tokens + [0] * (longest - len(tokens)) for tokens in ids], device=self._device)
        counted = torch.tensor([[1.0] * len(tokens) + [0.0] * (longest - len(tokens)) for tokens in ids], device=self._device)
        first = read.next_log_probabilities[:, None]
        after = torch.cat([first, self._go_on(read, wanted[:, :-1])], dim=1)
        sums = (after.gather(-1, wanted[..., None])[..., 0] * counted).sum(1).tolist()
        scores = iter(OptionScore(log_probability=total, tokens=len(tokens)) for total, tokens in zip(sums, ids, strict=True))
        return [[next(scores) for _ in range(count)] for count in counts]
