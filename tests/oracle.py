"""A slow, obvious implementation of the model's design, for comparison: one dense sequence, one mask, no cache.

Every token of a sample stands in one list, in order; who sees whom is asked pair by pair; everything is computed anew
for every velocity. Only the base libraries' own layers are shared with the core, not the sequence or the fusion. Where
weights want gradients, it runs under autograd.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lightbagel_core.model.forward import CleanImage
from lightbagel_core.model.understanding import VitImage


@dataclass
class Token:
    segment: int
    kind: str  # text, vit, clean, noised
    und: bool
    position: tuple[int, int, int]


@dataclass
class Noised:
    """A target at flow time t. What follows one stands at the positions that it has: a chain's next turns."""

    latents: Tensor
    t: float


def list_tokens(parts: list, patch: int) -> list[Token]:
    tokens: list[Token] = []
    p = 0
    pieces = []
    for part in parts:
        if isinstance(part, VitImage):
            pieces.append(("vit", part.rows, part.cols))
        elif isinstance(part, CleanImage | Noised):
            kind = "clean" if isinstance(part, CleanImage) else "noised"
            pieces.append((kind, part.latents.shape[1] // patch, part.latents.shape[2] // patch))
        else:
            pieces.append(("text", len(part), 0))
    for number, (kind, a, b) in enumerate(pieces):
        if kind == "text":
            for _ in range(a):
                tokens.append(Token(number, kind, True, (p, p, p)))
                p += 1
        else:
            tokens.append(Token(number, kind, True, (p, p, p)))
            largest = 0
            for r in range(a):
                for c in range(b):
                    at = (p + 1, p + 1 + r, p + 1 + c)
                    largest = max(largest, *at)
                    tokens.append(Token(number, kind, kind == "vit", at))
            tokens.append(Token(number, kind, True, (largest + 1,) * 3))
            if kind != "noised":
                p = largest + 2
    return tokens


def sees(tokens: list[Token], q: int, k: int) -> bool:
    a, b = tokens[q], tokens[k]
    if a.segment == b.segment:
        return k <= q if a.kind == "text" else True
    return b.segment < a.segment and b.kind != "noised"


def rms(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return x / torch.sqrt((x * x).mean(-1, keepdim=True) + eps) * weight


def rope(x: Tensor, positions: list[tuple[int, int, int]], theta: float, section: tuple[int, ...]) -> Tensor:
    """x [N, heads, D]; frequency j belongs to t, h or w by section; dims j and j + D/2 turn together."""
    half = x.shape[-1] // 2
    axis_of = [axis for axis, count in enumerate(section) for _ in range(count)]
    angles = [[at[axis_of[j]] * theta ** (-2 * j / x.shape[-1]) for j in range(half)] for at in positions]
    angle = torch.tensor(angles)[:, None]
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()], dim=-1)


def velocity(model, parts: list, latents: Tensor, t: float) -> Tensor:
    """Velocity [1, C, h, w] of one sample at flow time t, for parts as `LightBagel.encode` takes them."""
    return velocities(model, [*parts, Noised(latents[0], t)])[0]


def velocities(model, parts: list) -> list[Tensor]:
    """Velocity [1, C, h, w] of each noised target of one sequence."""
    und, dit, fusion, config = model.und, model.gen.dit, model.fusion, model.fusion.config
    patch = dit.config.patch_size[1]
    tokens = list_tokens(parts, patch)
    n = len(tokens)
    mask = torch.tensor([[sees(tokens, q, k) for k in range(n)] for q in range(n)])
    und_at = [i for i, token in enumerate(tokens) if token.und]
    positions = [token.position for token in tokens]

    # the und stream: every marker, word and ViT token as an embedding, in order
    embed = und.vlm.get_input_embeddings()
    special = {name: embed(torch.tensor(und.token_id(f"<|{name}|>"))) for name in ("vision_start", "vision_end")}
    rows_of_u: list[Tensor] = []
    for part in parts:
        if isinstance(part, list | tuple):
            rows_of_u += [embed(torch.tensor(i)) for i in part]
        else:
            inner = list(part.features) if isinstance(part, VitImage) else []
            rows_of_u += [special["vision_start"], *inner, special["vision_end"]]
    u = torch.stack(rows_of_u)[None]
    language = und.vlm.model.language_model
    u_positions = torch.tensor([positions[i] for i in und_at]).T[:, None]
    u_mask = torch.where(mask[und_at][:, und_at], 0.0, float("-inf"))[None, None]
    u_rope = language.rotary_emb(u, u_positions)

    # the gen stream: each image alone, clean ones at t = 0
    images = [(i, part.latents[None], 0.0) for i, part in enumerate(parts) if isinstance(part, CleanImage)]
    targets = [(i, part.latents[None], part.t) for i, part in enumerate(parts) if isinstance(part, Noised)]
    g, rotary, temb, modulation = {}, {}, {}, {}
    context = None
    for number, x, time in images + targets:
        x = x[:, :, None]
        rotary[number] = dit.rope(x)
        g[number] = dit.patch_embedding(x).flatten(2).transpose(1, 2)
        temb[number], m, context, _ = dit.condition_embedder(torch.tensor([time * 1000.0]), fusion.context[None])
        modulation[number] = m.unflatten(1, (6, -1))

    for i, block in enumerate(dit.blocks):
        if i < len(language.layers):
            out = language.layers[i](u, attention_mask=u_mask, position_embeddings=u_rope)
            u = out[0] if isinstance(out, tuple) else out
        for number in g:
            g[number] = block(g[number], context, modulation[number], rotary[number])
        if i == len(dit.blocks) - 1:
            break
        layer, heads = fusion.layers[i], config.heads
        key = torch.zeros(n, heads, config.head_dim)
        value, query = torch.zeros_like(key), torch.zeros_like(key)

        def split(x: Tensor, heads: int = heads) -> Tensor:
            return x.reshape(x.shape[0], heads, -1)

        u_n = rms(u[0], layer.und_norm.weight, config.eps)
        key[und_at] = rms(split(layer.und_k(u_n)), layer.k_norm.weight, config.eps)
        value[und_at] = split(layer.und_v(u_n))
        for number in g:
            at = [j for j, token in enumerate(tokens) if token.segment == number and not token.und]
            g_n = rms(g[number][0], layer.gen_norm.weight, config.eps)
            query[at] = rms(split(layer.gen_q(g_n)), layer.q_norm.weight, config.eps)
            key[at] = rms(split(layer.gen_k(g_n)), layer.k_norm.weight, config.eps)
            value[at] = split(layer.gen_v(g_n))
        query = rope(query, positions, config.rope_theta, config.mrope_section)
        key = rope(key, positions, config.rope_theta, config.mrope_section)
        scores = torch.einsum("qhd,khd->hqk", query, key) / config.head_dim**0.5
        weights = scores.masked_fill(~mask[None], float("-inf")).softmax(-1)
        attended = torch.einsum("hqk,khd->qhd", weights, value).reshape(n, -1)
        for number in g:
            at = [j for j, token in enumerate(tokens) if token.segment == number and not token.und]
            g[number] = g[number] + (attended[at] @ layer.gen_out.weight.T)[None]

    found = []
    for number, x, _ in targets:
        shift, scale = (dit.scale_shift_table + temb[number][:, None]).chunk(2, dim=1)
        out = dit.proj_out(dit.norm_out(g[number]) * (1 + scale) + shift)
        picture = torch.zeros_like(x)
        cols = x.shape[-1] // patch
        for n, row in enumerate(out[0]):
            r, c = n // cols * patch, n % cols * patch
            picture[0, :, r : r + patch, c : c + patch] = row.reshape(patch, patch, -1).permute(2, 0, 1)
        found.append(picture)
    return found


def relative(a: Tensor, b: Tensor) -> float:
    """The largest difference of a from b, in parts of the largest of b."""
    return float((a - b).abs().max() / b.abs().max())
