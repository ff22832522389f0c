"""Each way of computing the fusion's attention against attention written out."""

from __future__ import annotations

import pytest
import torch
from diffusers.models import attention_dispatch
from tiny import make_tiny

from lightbagel_core.model import attention
from lightbagel_core.model.attention import SDPA, Attention, Reach, choose

N, H, D = 3, 2, 8
CPU = torch.device("cpu")
H100 = torch.device("cuda", 0)


def buffers(lengths: tuple[int, ...], width: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, Reach]:
    """Queries, keys, values and reach. What is not reached would spoil the result: it is not a number."""
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(len(lengths), N, H, D, generator=generator)
    k, v = (torch.randn(len(lengths), width, H, D, generator=generator) for _ in range(2))
    return q, k, v, Reach(width, lengths, N, CPU)


def written_out(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, reach: Reach) -> torch.Tensor:
    rows = []
    for b, length in enumerate(reach.lengths):
        scores = torch.einsum("qhd,khd->hqk", q[b], k[b, reach.width - length :]) / D**0.5
        rows.append(torch.einsum("hqk,khd->qhd", scores.softmax(-1), v[b, reach.width - length :]))
    return torch.stack(rows)


def varlen(q, k, v, q_at, k_at, most_q, most_k):
    """flash_attn_varlen_func's contract, sequence by sequence: rows q_at[i] to q_at[i + 1] see those of k_at alike."""
    assert q_at.dtype == k_at.dtype == torch.int32
    assert (len(q), len(k)) == (q_at[-1], k_at[-1])
    out = torch.full_like(q, float("nan"))
    for i in range(len(q_at) - 1):
        own, seen = slice(q_at[i], q_at[i + 1]), slice(k_at[i], k_at[i + 1])
        assert q_at[i + 1] - q_at[i] <= most_q
        assert k_at[i + 1] - k_at[i] <= most_k
        scores = torch.einsum("qhd,khd->hqk", q[own], k[seen]) / D**0.5
        out[own] = torch.einsum("hqk,khd->qhd", scores.softmax(-1), v[seen])
    return out


LENGTHS = {
    "one": (7,),
    "equal": (7, 7),
    "all shorter than the buffer": (5, 5),
    "guidance of two prompts": (7, 6, 5, 5),
    "all different": (7, 3, 6, 4, 5, 7),
}


@pytest.mark.parametrize("lengths", list(LENGTHS.values()), ids=list(LENGTHS))
@pytest.mark.parametrize("way", ["sdpa", "packed", "packed with sums", "run by run"])
def test_every_row_attends_to_what_it_reaches_and_no_more(way, lengths, monkeypatch):
    q, k, v, reach = buffers(lengths, 7)
    attend = {
        "sdpa": SDPA,
        "packed": Attention("flash", varlen),
        "packed with sums": Attention("flash", lambda *args: (varlen(*args), None)),
        "run by run": lambda *args: attention.run_by_run(SDPA.dense, *args),
    }[way]
    monkeypatch.setitem(attention.DIFFUSERS, "flash", attention.DIFFUSERS["sdpa"])  # for equal lengths
    torch.testing.assert_close(attend(q, k, v, reach), written_out(q, k, v, reach), rtol=1e-5, atol=1e-6)


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
        for name, flag in attention.USABLE.items():
            monkeypatch.setattr(attention_dispatch, flag, name in packages)
        for name, module in attention.MODULES.items():
            if name in packages:
                made = type(torch)(module)
                made.flash_attn_varlen_func = varlen
                monkeypatch.setitem(__import__("sys").modules, module, made)

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
    found = choose(H100, dtype)
    assert found.name == chosen
    if chosen != "sdpa":
        assert found.varlen is varlen


def test_on_a_cpu_it_is_sdpa_whatever_is_installed(card):
    card((9, 0), "flash", "flash3")
    assert choose(CPU, torch.bfloat16) == SDPA


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
    model.gen.use_attention(Attention("flash"))
    asked = {str(p._attention_backend.value) for p in model.gen.dit.attn_processors.values()}
    assert asked == {"flash"}
    assert {p._attention_backend.value for p in other.gen.dit.attn_processors.values()} == {"native"}
    assert attention_dispatch._AttentionBackendRegistry.get_active_backend()[0].value == "native"
