"""Each way of computing the fusion's attention against attention written out."""

from __future__ import annotations

import pytest
import torch
from diffusers.models import attention_dispatch
from tiny import make_tiny

from lightbagel_core.model import attention
from lightbagel_core.model.attention import SDPA, Reach, by_name, choose, for_training

N, H, D = 3, 2, 8
CPU = torch.device("cpu")
H100 = torch.device("cuda", 0)


def buffers(lengths: tuple[int, ...], width: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, Reach]:
    """Queries, keys, values and reach. What is not reached would spoil the result."""
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(len(lengths), N, H, D, generator=generator)
    k, v = (torch.randn(len(lengths), width, H, D, generator=generator) for _ in range(2))
    return q, k, v, Reach(width, lengths, CPU)


def written_out(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, reach: Reach) -> torch.Tensor:
    rows = []
    for b, length in enumerate(reach.lengths):
        scores = torch.einsum("qhd,khd->hqk", q[b], k[b, reach.width - length :]) / D**0.5
        rows.append(torch.einsum("hqk,khd->qhd", scores.softmax(-1), v[b, reach.width - length :]))
    return torch.stack(rows)


LENGTHS = {
    "one": (7,),
    "equal": (7, 7),
    "all shorter than the buffer": (5, 5),
    "guidance of two prompts": (7, 6, 5, 5),
    "all different": (7, 3, 6, 4, 5, 7),
}


@pytest.mark.parametrize("which", [SDPA, for_training(CPU, torch.bfloat16)], ids=["sdpa", "for training"])
@pytest.mark.parametrize("lengths", list(LENGTHS.values()), ids=list(LENGTHS))
def test_every_row_attends_to_what_it_reaches_and_no_more(lengths, which):
    q, k, v, reach = buffers(lengths, 7)
    torch.testing.assert_close(which(q, k, v, reach), written_out(q, k, v, reach), rtol=1e-5, atol=1e-6)


def test_in_bfloat16_training_rounds_and_no_more():
    q, k, v, reach = buffers(LENGTHS["all different"], 7)
    half = for_training(CPU, torch.bfloat16)(q.bfloat16(), k.bfloat16(), v.bfloat16(), reach)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), written_out(q, k, v, reach), rtol=0, atol=0.03)


def test_training_on_a_card_takes_the_fastest_kernel_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(attention_dispatch, "_CAN_USE_FLASH_ATTN", True)
    monkeypatch.setattr(attention_dispatch, "_CAN_USE_FLASH_ATTN_3", False)
    assert for_training(H100, torch.bfloat16).backend == by_name("flash").backend
    assert for_training(H100, torch.float32).backend == SDPA.backend


def test_no_call_has_a_mask_where_few_lengths_differ(monkeypatch):
    """Guidance has two or three lengths; kernels without a mask are quicker."""
    masks = []
    stock = torch.nn.functional.scaled_dot_product_attention

    def watched(*args, attn_mask=None, **options):
        masks.append(attn_mask is not None)
        return stock(*args, attn_mask=attn_mask, **options)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", watched)
    q, k, v, reach = buffers((7, 7, 6, 5), 7)
    SDPA(q, k, v, reach)
    assert masks == [False] * 3
    masks.clear()
    q, k, v, reach = buffers((7, 6, 5, 4, 3), 7)
    SDPA(q, k, v, reach)
    assert masks == [True]


@pytest.fixture
def card(monkeypatch):
    """Pretends a CUDA card of a generation, and that packages are installed."""

    def pretend(capability: tuple[int, int], *packages: str) -> None:
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
        for name, (flag, _) in attention.USABLE.items():
            monkeypatch.setattr(attention_dispatch, flag, name in packages)

    return pretend


@pytest.mark.parametrize(
    ("capability", "packages", "dtype", "chosen"),
    [
        ((9, 0), ("flash", "flash3"), torch.bfloat16, "flash3"),
        ((9, 0), ("flash",), torch.float16, "flash"),
        ((9, 0), ("flash", "flash3"), torch.float32, "sdpa"),
        ((9, 0), (), torch.bfloat16, "sdpa"),
        ((8, 6), ("flash", "flash3"), torch.bfloat16, "flash"),
        ((7, 5), ("flash", "flash3"), torch.float16, "sdpa"),
    ],
)
def test_the_fastest_that_is_there_and_fits_is_chosen(card, capability, packages, dtype, chosen):
    card(capability, *packages)
    assert choose(H100, dtype) == chosen


def test_on_a_cpu_it_is_sdpa_whatever_is_installed(card):
    card((9, 0), "flash", "flash3")
    assert choose(CPU, torch.bfloat16) == "sdpa"


def test_what_cannot_be_had_is_refused_with_the_reason(card):
    card((8, 6))
    for name, device, dtype, reason in (
        ("fast", CPU, torch.float32, "one of sdpa, flash, flash3, not 'fast'"),
        ("flash", CPU, torch.bfloat16, "cannot be used on cpu in torch.bfloat16: it needs a CUDA card from Ampere on"),
        ("flash", H100, torch.float32, "it needs bfloat16 or float16"),
        ("flash3", H100, torch.bfloat16, "needs a Hopper card"),
        ("flash", H100, torch.bfloat16, "the package flash_attn, which is not installed"),
    ):
        with pytest.raises(ValueError, match=reason):
            choose(device, dtype, name)


def test_the_dits_own_attention_uses_the_same_kernels():
    model = make_tiny()
    other = make_tiny()
    model.gen.use_attention(by_name("flash"))
    asked = {str(p._attention_backend.value) for p in model.gen.dit.attn_processors.values()}
    assert asked == {"flash"}
    assert {p._attention_backend.value for p in other.gen.dit.attn_processors.values()} == {"native"}
    assert attention_dispatch._AttentionBackendRegistry.get_active_backend()[0].value == "native"
