"""The trade-off: one mark a run, two of its figures as axes, intervals as bars, the frontier and the budget as lines."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from pages._ui import format as fmt
from pages._ui.charts import bare
from pages._ui.charts_labels import place
from pages._ui.metrics import Metric, Run, frontier
from pages._ui.theme import Palette, backend_colour, mark

HEIGHT = 400
PLOT_HEIGHT, PLOT_WIDTH = 300.0, 330.0
"""Of the plot itself, in pixels, on a narrow screen."""
DECADE = 10.0
MANY_TICKS = 8


@dataclass(frozen=True, slots=True)
class Point:
    """A run with both figures measured. `rank` is what it is ranked by: figures within noise of each other are equal."""

    run: Run
    x: float
    y: float
    rank: tuple[float, float]

    @property
    def is_float(self) -> bool:
        return bool(self.run["technique"] == "float32")


def measured(runs: Sequence[Run], x: Metric, y: Metric) -> list[Point]:
    """The runs that have both figures, in their own order."""
    pairs = ((run, x.value(run), y.value(run)) for run in runs)
    return [
        Point(run, a, b, (x.judged(run) or 0.0, y.judged(run) or 0.0)) for run, a, b in pairs if a is not None and b is not None
    ]


def best(points: Sequence[Point], x: Metric, y: Metric) -> list[Point]:
    """Those on the frontier, along the x-axis."""
    return [points[index] for index in frontier([point.rank for point in points], x, y)]


@dataclass(frozen=True, slots=True)
class Scale:
    """One axis: linear or logarithmic, from `low` to `high` (in powers of ten when it is logarithmic)."""

    logarithmic: bool
    low: float
    high: float

    @classmethod
    def of(cls, metric: Metric, values: Sequence[float], bounds: Sequence[tuple[float, float]] = ()) -> Scale:
        """Holds all `values` and their `bounds`; a cost starts at zero, or is logarithmic when it spans more than a decade."""
        values = [*values, *(bound for pair in bounds for bound in pair)]
        if metric.lower_is_better and min(values) > 0 and max(values) / min(values) > DECADE:
            low, high = math.log10(min(values)), math.log10(max(values))
            return cls(True, low - 0.1 * (high - low), high + 0.1 * (high - low))
        low, high = (0.0 if metric.lower_is_better else min(values)), max(values)
        room = 0.1 * (high - low) or 1.0
        return cls(False, low if metric.lower_is_better else low - room, high + room)

    def at(self, value: float) -> float:
        """Where a value lies on the axis, in the axis's own coordinates."""
        return math.log10(value) if self.logarithmic else value

    def share(self, value: float) -> float:
        return (self.at(value) - self.low) / (self.high - self.low)

    def axis(self) -> dict[str, Any]:
        """The axis as Plotly takes it, with ticks at 1, 2 and 5 when it is logarithmic."""
        if not self.logarithmic:
            return {"range": [self.low, self.high]}
        powers = range(math.floor(self.low), math.ceil(self.high) + 1)
        ticks = [step * 10.0**power for power in powers for step in (1, 2, 5)]
        ticks = [tick for tick in ticks if self.low <= math.log10(tick) <= self.high]
        if len(ticks) > MANY_TICKS:
            ticks = [tick for tick in ticks if math.log10(tick).is_integer()]
        return {"type": "log", "range": [self.low, self.high], "tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks]}


def tradeoff(
    runs: Sequence[Run],
    names: Mapping[str, str],
    x: Metric,
    y: Metric,
    colours: Palette,
    budget: Mapping[str, float] | None = None,
) -> go.Figure:
    """Marks of every run that has both figures, named where there is room; those on the frontier are joined.

    Args:
        names: what each run is called, by id.
        budget: limits by metric id, drawn where an axis shows them.
    """
    figure = bare(colours, HEIGHT).update_layout(showlegend=False)
    points = measured(runs, x, y)
    if not points:
        return figure
    across, up = (
        Scale.of(metric, values, [bounds for point in points if (bounds := metric.bounds(point.run))])
        for metric, values in ((x, [point.x for point in points]), (y, [point.y for point in points]))
    )
    figure.update_xaxes(title=x.axis, **across.axis())
    figure.update_yaxes(title=y.axis, **up.axis())
    if y.noise:
        figure.add_hline(0, line={"color": colours.reference, "dash": "dash", "width": 1})
    leaders = best(points, x, y)
    _add_frontier(figure, leaders, colours)
    for point in points:
        figure.add_trace(_mark(point, names[point.run["run_id"]], x, y, colours))
    others = [point for point in points if point not in leaders]
    _add_labels(figure, leaders, others, names, (across, up), colours)
    for which, limit in (budget or {}).items():
        _mark_limit(figure, which, limit, x, y, colours)
    return figure


def _colour(point: Point, colours: Palette) -> str:
    return colours.reference if point.is_float else backend_colour(point.run["backend"], colours)


def _add_frontier(figure: go.Figure, leaders: Sequence[Point], colours: Palette) -> None:
    figure.add_trace(
        go.Scatter(
            x=[point.x for point in leaders],
            y=[point.y for point in leaders],
            mode="lines",
            line={"color": colours.muted, "width": 1.5, "shape": "hv"},
            hoverinfo="skip",
            name="frontier",
        )
    )


def _mark(point: Point, name: str, x: Metric, y: Metric, colours: Palette) -> go.Scatter:
    run, colour = point.run, _colour(point, colours)
    simulated = run.get("execution") == "simulated"
    symbol = mark(run["technique"])
    lines = [f"<b>{name}</b>", f"{x.title}: {_exact(x, run, point.x)}", f"{y.title}: {_exact(y, run, point.y)}"]
    lines += ["Simulated in float"] if simulated else []
    return go.Scatter(
        x=[point.x],
        y=[point.y],
        mode="markers",
        marker={
            "symbol": f"{symbol}-open" if simulated and not symbol.endswith("-open") else symbol,
            "size": 13,
            "color": colour,
            "line": {"color": colour if simulated or symbol.endswith("-open") else colours.background, "width": 2},
        },
        error_x=_error(x.bounds(run), point.x, colour),
        error_y=_error(y.bounds(run), point.y, colour),
        customdata=[run["run_id"]],
        hovertemplate="<br>".join(lines) + "<extra></extra>",
        name=name,
    )


def _exact(metric: Metric, run: Run, value: float) -> str:
    bounds = metric.bounds(run)
    return metric.text(value) + (f" [{metric.text(bounds[0])}, {metric.text(bounds[1])}]" if bounds else "")


def _error(bounds: tuple[float, float] | None, value: float, colour: str) -> dict[str, Any]:
    if bounds is None:
        return {"visible": False}
    below, above = value - bounds[0], bounds[1] - value
    return {"type": "data", "array": [above], "arrayminus": [below], "color": f"{colour}99", "thickness": 1, "width": 0}


def _add_labels(
    figure: go.Figure,
    leaders: Sequence[Point],
    others: Sequence[Point],
    names: Mapping[str, str],
    scales: tuple[Scale, Scale],
    colours: Palette,
) -> None:
    """Names the marks beside them where there is room, the leaders in any case."""
    across, up = scales
    points = [*leaders, *others]
    at = [(PLOT_WIDTH * across.share(point.x), PLOT_HEIGHT * up.share(point.y)) for point in points]
    texts = [names[point.run["run_id"]] for point in points]
    for point, text, where in zip(points, texts, place(at, texts, PLOT_WIDTH, PLOT_HEIGHT, must=len(leaders)), strict=True):
        if where is not None:
            figure.add_annotation(
                x=across.at(point.x),
                y=up.at(point.y),
                text=text,
                showarrow=False,
                xanchor=where.anchor,
                yanchor="middle",
                xshift=where.dx,
                yshift=where.dy,
                font={"size": 12, "color": colours.muted if point.is_float else _colour(point, colours)},
            )


def _mark_limit(figure: go.Figure, which: str, limit: float, x: Metric, y: Metric, colours: Palette) -> None:
    """Marks a limit, where one of the axes shows it."""
    if which not in (x.id, y.id):
        return
    metric, horizontal = (x, False) if which == x.id else (y, True)
    line = {"color": colours.accent, "width": 1.5, "dash": "dot"}
    draw = figure.add_hline if horizontal else figure.add_vline
    draw(limit, line=line, annotation={"text": f"budget {metric.text(limit)}", "font": {"size": 11, "color": colours.muted}})


def title(runs: Sequence[Run], names: Mapping[str, str], x: Metric, y: Metric) -> str:
    """The finding: who is on the frontier."""
    points = measured(runs, x, y)
    leaders = best(points, x, y)
    if len(points) < 2:
        return f"{x.title} against {_lower(y.title)}"
    first = leaders[0]
    if y.noise and first.rank[1] == 0 and not first.is_float:
        return f"{names[first.run['run_id']]} is {x.superlative} without measurable loss"
    if len(leaders) == 1:
        return f"{names[first.run['run_id']]} is best by both {_lower(x.title)} and {_lower(y.title)}"
    return f"{x.title} against {_lower(y.title)}: {len(leaders)} of {len(points)} are on the frontier"


def description(runs: Sequence[Run], names: Mapping[str, str], x: Metric, y: Metric) -> str:
    """The chart in words: every mark with both figures."""
    points = measured(runs, x, y)
    marks = "; ".join(f"{names[p.run['run_id']]}: {x.text(p.x)}, {y.text(p.y)}" for p in points)
    return f"Scatter of {_lower(x.title)} and {_lower(y.title)}. {marks}."


def unmeasured(runs: Sequence[Run], names: Mapping[str, str], x: Metric, y: Metric) -> str:
    """A sentence on the runs the chart cannot show; empty when it shows all."""
    absent: dict[str, list[str]] = {}
    for run in runs:
        for metric in (x, y):
            if metric.value(run) is None:
                absent.setdefault(fmt.why_missing(run, metric.section), []).append(names[run["run_id"]])
                break
    return " ".join(f"Not shown: {', '.join(which)} ({why[0].lower() + why[1:]})." for why, which in absent.items())


def _lower(text: str) -> str:
    return text[0].lower() + text[1:] if not text.startswith("SQNR") else text
