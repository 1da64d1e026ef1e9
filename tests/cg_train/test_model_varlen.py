"""Attention without a mask sees where samples begin, and gives what sdpa gives with one."""

from __future__ import annotations

import pytest
import torch

from cg_train.model.varlen import extents, use_varlen
from tests.cg_train.model_small import build
from tests.cg_train.test_model_pack import MIXED, _gradients, pack_of

ON_CUDA = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA")]
DEVICES = [
    pytest.param("cpu", torch.float32, 1e-5, id="cpu"),
    pytest.param("cuda", torch.bfloat16, 0.05, id="cuda", marks=ON_CUDA),
]


def test_samples_begin_where_positions_are_zero() -> None:
    positions = torch.cat([torch.arange(n) for n in (3, 1, 5)])[None]
    ends, longest = extents(positions)
    assert ends.dtype == torch.int32
    assert (ends.tolist(), longest) == ([0, 3, 4, 9], 5)


def test_padded_batches_are_refused() -> None:
    model, _ = build()
    use_varlen(model)
    with pytest.raises(ValueError, match="takes packs"):
        model(input_ids=torch.ones(2, 4, dtype=torch.int64), attention_mask=torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]]))


@pytest.mark.parametrize(("device", "dtype", "within"), DEVICES)
def test_loss_and_gradients_of_a_pack_are_those_of_sdpa(device: str, dtype: torch.dtype, within: float) -> None:
    """Within a share of each gradient's norm; all parameters learn, the tower's too."""
    model, processor = build()
    model = model.to(device, dtype)
    model.config.text_config.use_cache = False
    pack = {name: tensor.to(device) for name, tensor in pack_of(MIXED, model, processor).items()}
    share = torch.tensor(100.0, device=device)
    expected_loss, expected = _gradients(model, [pack], share)
    use_varlen(model)
    loss, found = _gradients(model, [pack], share)
    assert loss == pytest.approx(expected_loss, rel=within / 5)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        distance = (found[name].double() - gradient.double()).norm() / gradient.double().norm().clamp(min=1e-3)
        assert distance < within, (name, float(distance))
