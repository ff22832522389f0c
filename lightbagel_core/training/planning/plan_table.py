"""The plans of a training's stages as a table that a person reads."""

from __future__ import annotations

from collections.abc import Sequence

from .stage_plan import Plan


def gb(count: float) -> str:
    """Bytes as a person reads them."""
    for unit, size, least in (("TB", 1e12, 1e12), ("GB", 1e9, 1e8), ("MB", 1e6, 1e5)):
        if count >= least:
            return f"{count / size:.1f} {unit}"
    return f"{count / 1e3:.1f} kB"


def describe(plans: Sequence[Plan], rate: float | None = None) -> str:
    """The plans of all stages as a table.

    Args:
        rate: TFLOP/s that each device really does, for hours.
    """
    rows: list[tuple[str, list[str]]] = []

    def row(name: str, *values: str) -> None:
        rows.append((name, list(values)))

    def bytes_of(name: str, part: str) -> None:
        found = [getattr(p.held, part) for p in plans]
        if any(found):
            row(f"  {name}", *(gb(n) if n else "-" for n in found))

    row("stage", *(p.stage.name for p in plans))
    row("steps", *(f"{p.stage.steps:,}" for p in plans))
    row("trained")
    for part in dict.fromkeys(part for p in plans for part in p.trained):
        said = [p.trained.get(part) for p in plans]
        row(f"  {part}", *(f"{s[1] / 1e6:,.1f} M, {s[0]} tensors" if s else "-" for s in said))
    world, shard = plans[0].world, {p.shard for p in plans}
    row(f"memory on each of {world} devices, weights shared by {', '.join(map(str, sorted(shard)))}")
    for name, part in {
        "frozen weights": "frozen",
        "trained weights": "weights",
        "gradients": "gradients",
        "optimiser": "optimiser",
        "EMA": "ema",
        "gathered from others": "unit",
    }.items():
        bytes_of(name, part)
    row("  activations", *(gb(p.kept) if p.kept else "not counted" for p in plans))
    row("  together", *(gb(p.training) for p in plans))
    if any(p.reading for p in plans):
        row("  while the cache is filled", *(gb(p.reading) if p.reading else "-" for p in plans))
    row("a step holds")
    row("  samples", *(f"{p.portions.samples:,.0f}" for p in plans))
    drawn = [p.stage.recipe == "drawing" for p in plans]
    row("  tokens", *(f"{p.portions.tokens:,.0f}" if d else "-" for p, d in zip(plans, drawn, strict=True)))
    row("  passes of each device", *(str(p.passes) if d else "-" for p, d in zip(plans, drawn, strict=True)))
    for number in range(max(len(p.portions.shares) for p in plans)):
        shares = [p.portions.shares[number] if number < len(p.portions.shares) else None for p in plans]
        names = dict.fromkeys(s.name + ("*" if s.assumed else "") for s in shares if s)
        row(
            f"  {' / '.join(names)}",
            *(
                f"{s.samples:.1%}, {s.tokens:.1%} of tokens" if s and d else "-"
                for s, d in zip(shares, drawn, strict=True)
            ),
        )
    row("disk")
    for name in dict.fromkeys(name for p in plans for name in p.disk):
        row(f"  {name}", *(gb(p.disk[name]) if name in p.disk else "-" for p in plans))
    row("  latents of a sample", *(gb(p.latents) if d else "-" for p, d in zip(plans, drawn, strict=True)))
    row("in all")
    row("  tokens", *(f"{p.tokens / 1e9:,.2f} G" if d else "-" for p, d in zip(plans, drawn, strict=True)))
    row("  PFLOP", *(f"{p.stage.steps * p.operations.all / 1e15:,.3g}" if p.operations.all else "-" for p in plans))
    if rate is not None:
        row(f"  hours at {rate:g} TFLOP/s", *(f"{p.hours(rate):,.4g}" if p.operations.all else "-" for p in plans))
    left = max(len(name) for name, values in rows if values) + 2
    widths = [max(len(values[i]) for _, values in rows if values) for i in range(len(plans))]
    lines = [
        name.ljust(left) + "  ".join(v.rjust(w) for v, w in zip(values, widths, strict=True)) if values else name
        for name, values in rows
    ]
    if any(p.kept and "understanding" in p.stage.train for p in plans):
        lines.append("activations of the VLM, which is trained too, are not counted")
    if any(s.assumed for p in plans for s in p.portions.shares):
        lines.append("* not read yet: taken for pictures of the largest size, edits with one source each")
    return "\n".join(line.rstrip() for line in lines)
