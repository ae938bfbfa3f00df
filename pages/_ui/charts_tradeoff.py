"""The trade-off: one mark a run, two of its figures as axes, intervals as bars, the frontier and the budget as lines."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from pages._ui import format as fmt
from pages._ui.charts import bare
from pages._ui.metrics import Metric, Run, frontier
from pages._ui.theme import Palette, backend_colour, mark

HEIGHT = 400
DECADE = 10.0


@dataclass(frozen=True, slots=True)
class Point:
    """A run with both figures measured."""

    run: Run
    x: float
    y: float


def measured(runs: Sequence[Run], x: Metric, y: Metric) -> list[Point]:
    """The runs that have both figures, in their own order."""
    pairs = ((run, x.value(run), y.value(run)) for run in runs)
    return [Point(run, a, b) for run, a, b in pairs if a is not None and b is not None]


def tradeoff(
    runs: Sequence[Run],
    names: Mapping[str, str],
    x: Metric,
    y: Metric,
    colours: Palette,
    *,
    budget: Mapping[str, float] | None = None,
    labels: bool = True,
) -> go.Figure:
    """Marks of every run that has both figures; those on the frontier are joined and named.

    Args:
        names: what each run is called, by id.
        budget: limits by metric id, drawn where an axis shows them.
    """
    figure = bare(colours, HEIGHT)
    points = measured(runs, x, y)
    if not points:
        return figure
    best = [points[index] for index in frontier([(point.x, point.y) for point in points], x, y)]
    logarithmic = _log(x, [point.x for point in points])
    _add_frontier(figure, best, colours)
    for point in points:
        figure.add_trace(_mark(point, names[point.run["run_id"]], x, y, colours))
    if labels:
        _add_labels(figure, best, names, logarithmic, colours)
    figure.update_xaxes(title=x.axis, **_range([point.x for point in points], logarithmic))
    figure.update_yaxes(title=y.axis)
    if y.id == "change":
        figure.add_hline(0, line={"color": colours.reference, "dash": "dash", "width": 1})
    for which, limit in (budget or {}).items():
        _mark_limit(figure, which, limit, x, y, colours)
    return figure.update_layout(showlegend=False)


def _log(metric: Metric, values: Sequence[float]) -> bool:
    """Whether an axis should be logarithmic: what costs, when it spans more than a decade."""
    return metric.lower_is_better and min(values) > 0 and max(values) / min(values) > DECADE


def _range(values: Sequence[float], logarithmic: bool) -> dict[str, Any]:
    """An axis with room for labels at both ends; a cost starts at zero when it is linear."""
    if logarithmic:
        low, high = math.log10(min(values)), math.log10(max(values))
        room = 0.15 * (high - low)
        return {"type": "log", "range": [low - room, high + room], "dtick": "D1"}
    low, high = min(0.0, *values), max(values)
    return {"range": [low, high + 0.18 * (high - low or 1.0)]}


def _add_frontier(figure: go.Figure, best: Sequence[Point], colours: Palette) -> None:
    figure.add_trace(
        go.Scatter(
            x=[point.x for point in best],
            y=[point.y for point in best],
            mode="lines",
            line={"color": colours.muted, "width": 1.5, "shape": "hv"},
            hoverinfo="skip",
            name="frontier",
        )
    )


def _mark(point: Point, name: str, x: Metric, y: Metric, colours: Palette) -> go.Scatter:
    run = point.run
    colour = colours.reference if run["technique"] == "float32" else backend_colour(run["backend"], colours)
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
    return {"type": "data", "array": [above], "arrayminus": [below], "color": colour, "thickness": 1, "width": 0}


def _add_labels(
    figure: go.Figure, best: Sequence[Point], names: Mapping[str, str], logarithmic: bool, colours: Palette
) -> None:
    """Names the frontier's marks beside them, every other one below, so that neighbours do not collide."""
    for index, point in enumerate(best):
        figure.add_annotation(
            x=math.log10(point.x) if logarithmic else point.x,
            y=point.y,
            text=names[point.run["run_id"]],
            showarrow=False,
            xanchor="left",
            xshift=10,
            yshift=-12 if index % 2 == 0 else 12,
            font={"size": 12, "color": backend_colour(point.run["backend"], colours)},
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
    if len(points) < 2:
        return f"{x.title} against {_lower(y.title)}"
    best = [names[points[index].run["run_id"]] for index in frontier([(point.x, point.y) for point in points], x, y)]
    if len(best) == 1:
        return f"{best[0]} is best by both {_lower(x.title)} and {_lower(y.title)}"
    return f"{_lower(x.title).capitalize()} against {_lower(y.title)}: {len(best)} of {len(points)} are on the frontier"


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
