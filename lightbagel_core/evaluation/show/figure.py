"""A picture of runs beside each other and beside the paper: a panel for each bench, a dot with its interval for each
figure.
"""

from __future__ import annotations

import io
import logging
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ...files.writing import write_beside
from .figure_panel import INK, PALE, PAPER_MARK, Panel
from .fonts import cut, fonts_for, without
from .paper import PAPER, SOURCE
from .runs import Run, by_bench, row_names
from .targets import MADE_BY
from .words import narrow

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's, which the colour-blind can tell apart, from the darkest; each with a shape of its own.
STYLES = (("#0072B2", "o"), ("#D55E00", "s"), ("#009E73", "^"), ("#CC79A7", "D"), ("#56B4E9", "v"), ("#E69F00", "P"))
MARGIN, GAP, WIDTH_ALONE, WIDTH = 0.4, 0.5, 9.2, 7.2  # inches
DPI = 150
MOST_ROWS = 16  # of a panel that shows parts of groups too

Entry = tuple[tuple[str, str] | None, str]  # of the key: a run's colour and marker, or None for the paper; its name


def write_figure(
    path: Path, runs: Sequence[Run], titles: Mapping[str, str] | None = None, heading: str | None = None
) -> None:
    """Writes a PNG with a panel for each bench.

    Args:
        titles: what benches are called, by name, as in `markdown`.
        heading: of the whole; the run's name where there is one, else how many are compared.

    Raises:
        ValueError: matplotlib is not installed, there is no run or are more than six, two runs of a bench have figures
            in different units, or the file could not be written.
    """
    names = names_of(runs)
    fonts, lacking = fonts_for("".join([*names, *(titles or {}).values(), heading or ""]))
    shown = {name: cut(without(name, lacking), 44) for name in names}
    heading = heading or (names[0] if len(names) == 1 else f"{len(names)} runs compared")
    heading = cut(without(heading, lacking), 60)

    import matplotlib
    from matplotlib.font_manager import FontProperties

    with matplotlib.rc_context(), _quiet():
        matplotlib.rcdefaults()
        families = [FontProperties(fname=str(font)).get_name() for font in fonts]
        matplotlib.rcParams.update({"font.family": families, "text.parse_math": False, "text.color": INK})
        figure = _drawn(runs, shown, titles or {}, heading)
        data = io.BytesIO()
        figure.savefig(data, format="png", dpi=DPI, facecolor="white", metadata={"Software": MADE_BY})
    write_beside(path, data.getvalue())


def names_of(runs: Sequence[Run]) -> list[str]:
    """The names of the runs of a figure, each once. Raises ValueError when there is none or are more than six."""
    names = list(dict.fromkeys(run.name for run in runs))
    if not names:
        raise ValueError("there is no run to make a figure of; name a folder that `lightbagel bench score` has seen")
    if len(names) > len(STYLES):
        raise ValueError(f"a figure shows at most {len(STYLES)} runs, these are {len(names)}; leave some out")
    return names


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps matplotlib from printing that a font of the system has no bold."""
    logger = logging.getLogger("matplotlib.font_manager")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _drawn(runs: Sequence[Run], shown: Mapping[str, str], titles: Mapping[str, str], heading: str) -> Figure:
    from matplotlib.figure import Figure

    styles = dict(zip(shown, STYLES, strict=False))
    panels = []
    for bench, of in by_bench(runs).items():
        paper = PAPER.get(bench)
        title = titles.get(bench) or (paper.title if paper else bench)
        overall, groups = row_names(of, paper)
        coarse = groups if len(overall) + len(groups) <= MOST_ROWS else _coarse(groups)
        panels.append(Panel(title, of, paper, overall, coarse, styles, finer=len(groups) - len(coarse)))
    columns = 1 if len(panels) == 1 else 2
    width = WIDTH_ALONE if columns == 1 else WIDTH
    places, bottoms = _places([panel.height for panel in panels], columns)
    has_paper = any(panel.paper for panel in panels)
    total = 2 * MARGIN + columns * width + (columns - 1) * GAP
    entries = [*((styles[name], text) for name, text in shown.items()), *([(None, "the paper")] if has_paper else [])]
    lines = _lines(entries, total - 2 * MARGIN) if len(entries) > 1 else []
    foot = textwrap.wrap(_footer(panels, has_paper), int(total * 16.5))
    head = 0.75 + 0.3 * len(lines)
    tall = head + max(bottoms) + 0.17 * len(foot) + 0.35
    figure = Figure(figsize=(total, tall))
    figure.text(MARGIN / total, 1 - 0.42 / tall, heading, size=17, weight="bold", va="center")
    for index, line in enumerate(lines):
        _key(figure, line, MARGIN / total, 1 - (0.66 + 0.3 * index) / tall)
    for panel, (column, top) in zip(panels, places, strict=True):
        panel.draw(figure, MARGIN + column * (width + GAP), tall - head - top, width)
    figure.text(MARGIN / total, 0.2 / tall, "\n".join(foot), size=8, color=PALE, va="bottom", linespacing=1.35)
    return figure


def _coarse(groups: Sequence[str]) -> list[str]:
    """The groups without the parts of other groups, which are called `group: part`."""
    return [name for name in groups if name.rpartition(": ")[0] not in groups]


def _places(heights: Sequence[float], columns: int) -> tuple[list[tuple[int, float]], list[float]]:
    """((column, inches from the top) of each panel, each column's end): each goes where there is most room."""
    ends = [0.0] * columns
    places = []
    for height in heights:
        column = min(range(columns), key=lambda c: ends[c])
        places.append((column, ends[column]))
        ends[column] += height
    return places, ends


def _lines(entries: Sequence[Entry], width: float) -> list[list[Entry]]:
    """The key's entries in lines of so many inches."""
    lines: list[list[Entry]] = [[]]
    used = 0.0
    for entry in entries:
        wide = 0.65 + 0.095 * len(entry[1])
        if lines[-1] and used + wide > width:
            lines.append([])
            used = 0.0
        lines[-1].append(entry)
        used += wide
    return lines


def _key(figure: Figure, entries: Sequence[Entry], left: float, top: float) -> None:
    """Which mark is whose, in one line below the heading."""
    from matplotlib.lines import Line2D

    handles = []
    for style, _ in entries:
        mark = {"color": style[0], "marker": style[1], "markersize": 7, "linewidth": 2.5} if style else PAPER_MARK
        handles.append(Line2D([], [], **mark))
    texts = [text for _, text in entries]
    place = {"loc": "upper left", "bbox_to_anchor": (left, top), "borderaxespad": 0, "borderpad": 0}
    look = {"ncols": len(entries), "frameon": False, "fontsize": 10, "handlelength": 1.8, "columnspacing": 2}
    figure.add_artist(figure.legend(handles, texts, **place, **look))


def _footer(panels: Sequence[Panel], has_paper: bool) -> str:
    said = ["Lines: 95 % intervals, of which the table says how they were made."]
    if any(narrow(run.scores) for panel in panels for run in panel.runs):
        said.append("Hollow: no interval, since no prompt differed from the others of its group.")
    said.append("n: pictures or samples that were judged.")
    if has_paper:
        said.append(f"The paper: {SOURCE}, without intervals.")
    if any(panel.paper and panel.paper.computed for panel in panels):
        said.append("*: not printed there but computed from its parts.")
    notes = [f"{panel.title}: {panel.paper.note}" for panel in panels if panel.paper and panel.paper.note]
    return " ".join([*said, *notes])
