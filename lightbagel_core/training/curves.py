"""A picture of a run's record: loss, held-out loss, learning rate, gradient norm, and the suites' scores over steps."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..evaluation.show.figure import STYLES
from ..evaluation.show.fonts import cut, fonts_for, without
from ..files.writing import write_whole
from .journal import HELD_OUT, Line, Record

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, PALE, GRID = "#1b1b1b", "#6a6a6a", "#e4e6e8"
WIDTH, HEIGHT, DPI = 5.4, 3.3, 120  # inches of a panel; pixels of an inch
WIDE = 20  # largest over least value from which an axis counts in powers of ten
SUITES = "suites"  # the figure of a validation's line that holds a table of the suites' scores

Points = tuple[np.ndarray, np.ndarray]  # steps, values


def check_matplotlib() -> None:
    """Raises ValueError where matplotlib is not installed: to be asked before training begins."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise ValueError("training's pictures need matplotlib: pip install 'lightbagel[train]'") from None


def write_curves(path: Path, record: Record, title: str = "") -> None:
    """Writes a PNG with a panel for each kind of figure that the record has.

    Args:
        path: below a folder that is there or can be made; what is there is replaced as a whole.
        title: for instance the stage's name.

    Raises:
        ValueError: matplotlib is not installed, or the file could not be written.
    """
    check_matplotlib()
    fonts, lacking = fonts_for(title)
    import matplotlib
    from matplotlib.font_manager import FontProperties

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        families = [FontProperties(fname=str(font)).get_name() for font in fonts]
        plain = {"font.family": families, "font.size": 9, "text.parse_math": False, "text.color": INK}
        matplotlib.rcParams.update({**plain, "path.simplify": True, "axes.formatter.useoffset": False})
        data = io.BytesIO()
        _drawn(record, cut(without(title, lacking), 60)).savefig(data, format="png", dpi=DPI, facecolor="white")
    write_whole(path, data.getvalue(), path.parent)


def running_mean(values: np.ndarray) -> tuple[np.ndarray, int]:
    """(the mean of each value and those before it, over how many): a fiftieth of them, 10 at least."""
    width = max(10, len(values) // 50)
    sums = np.cumsum(np.concatenate([[0.0], values]))
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - width, 0)
    return (sums[ends] - sums[starts]) / (ends - starts), width


def points(lines: Sequence[Line], name: str) -> Points:
    """(steps, values) of the lines that have a figure."""
    found = [(line["step"], line[name]) for line in lines if isinstance(line.get(name), int | float)]
    steps, values = zip(*found, strict=True) if found else ((), ())
    return np.array(steps), np.array(values, np.float64)


@dataclass(frozen=True)
class Panel:
    """Points by name under one heading. thin: whether each is a noisy line beside its running mean."""

    heading: str
    points: dict[str, Points]
    thin: bool = False

    def draw(self, axes: Axes) -> None:
        """Draws all that the panel shows but the range of steps, which all panels share."""
        from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

        for (name, (steps, values)), (colour, marker) in zip(self.points.items(), STYLES, strict=False):
            style: dict[str, Any] = {"color": colour, "label": name}
            if self.thin and name != "held out":
                mean, width = running_mean(values)
                axes.plot(steps, values, color=colour, linewidth=0.5, alpha=0.35)
                axes.plot(steps, mean, linewidth=1.6, **style | {"label": f"{name}, running mean of {width}"})
            elif self.heading == "learning rate":
                axes.plot(steps, values, linewidth=1.4, **style)
            else:
                axes.plot(steps, values, marker=marker, markersize=4.5, linewidth=1.2, **style)
        every = np.concatenate([values for _, values in self.points.values()])
        if self.thin and every.min() > 0 and every.max() > WIDE * every.min():
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_minor_locator(NullLocator())
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        elif not self.thin and every.min() >= 0:
            axes.set_ylim(0, 1 if self.heading == SUITES and every.max() <= 1 else None)
        axes.set_title(self.heading, loc="left", fontsize=11, weight="bold", color=INK)
        axes.grid(color=GRID, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.tick_params(colors=PALE, length=3)
        for name, spine in axes.spines.items():
            spine.set_visible(name in ("left", "bottom"))
            spine.set_color(PALE)
        if len(self.points) > 1 or self.thin:
            axes.legend(edgecolor="none", framealpha=0.8, fontsize=8)


def panels(record: Record) -> list[Panel]:
    """What there is to show."""
    steps, validations = list(record.of("step")), list(record.of("validation"))
    loss = {"loss": points(steps, "loss"), "held out": points(validations, HELD_OUT)}
    tables = [{**line[SUITES], "step": line["step"]} for line in validations if isinstance(line.get(SUITES), dict)]
    suites = dict.fromkeys(name for table in tables for name in table if name != "step")
    found = [
        Panel("loss", loss, thin=True),
        Panel("gradient norm", {"norm": points(steps, "gradient_norm")}, thin=True),
        Panel("learning rate", {"rate": points(steps, "lr")}),
        Panel(SUITES, {name: points(tables, name) for name in suites}),
    ]
    full = [Panel(p.heading, {name: at for name, at in p.points.items() if len(at[0])}, p.thin) for p in found]
    return [panel for panel in full if panel.points]


def _drawn(record: Record, title: str) -> Any:
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    shown = panels(record)
    columns = 2 if len(shown) > 1 else 1
    rows = -(-len(shown) // columns) or 1
    head, foot = 0.55, 0.35
    tall = rows * HEIGHT + head + foot
    figure = Figure(figsize=(columns * WIDTH, tall))
    figure.text(0.02, 1 - 0.32 / tall, title or "training", size=14, weight="bold", va="center")
    figure.text(0.02, 0.14 / tall, _footer(record, bool(shown)), size=8, color=PALE, va="center")
    if not shown:
        return figure
    grid = figure.subplots(rows, columns, squeeze=False)
    resumed = [line["step"] for line in record.of("start")][1:]
    ends = [(at[0][0], at[0][-1]) for panel in shown for at in panel.points.values()]
    low, high = min(end[0] for end in ends), max(end[1] for end in ends)
    margin = 0.02 * max(high - low, 1)
    for axes, panel in zip(grid.flat, shown, strict=False):
        panel.draw(axes)
        for step in resumed:
            axes.axvline(step, color=PALE, linewidth=0.8, linestyle=(0, (4, 4)), zorder=1)
        axes.set_xlim(low - margin, high + margin)
        axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10], integer=True))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    for axes in grid.flat[len(shown) :]:
        axes.set_visible(False)
    figure.tight_layout(rect=(0, foot / tall, 1, 1 - head / tall), h_pad=1.5, w_pad=1.5)
    return figure


def _footer(record: Record, any_shown: bool) -> str:
    if not any_shown:
        return "The record has no figures yet."
    done = max((line["step"] for line in record.lines), default=0)
    hours = max((line.get("seconds") or 0 for line in record.lines), default=0) / 3600
    again = len(list(record.of("start"))) - 1
    time = f"{hours:.1f} hours" if hours >= 1 else f"{60 * hours:.0f} minutes"
    said = [f"{done:,} step{'s' * (done != 1)} in {time}"]
    if again > 0:
        said.append(f"resumed {'once' if again == 1 else f'{again} times'} (dashed)")
    return ", ".join(said) + "." + (f" {record.note[0].upper()}{record.note[1:]}." if record.note else "")
