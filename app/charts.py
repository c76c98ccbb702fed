"""Charts as SVG text: numbers in, markup out.

Pages theme them by their classes: `chart`, `bar`, `axis`, `label`. Who can not see them hears the
title and a description with the numbers.
"""

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

_WIDTH = 360
_PLOT_HEIGHT = 100
_TOP, _BOTTOM, _SIDE = 18, 20, 6
_TICKS = 5
_BAR_HEIGHT, _NAME_CHARS = 22, 28
_NAME_WIDTH = 190


class Bar(NamedTuple):
    """A named number, drawn in a class of its own beside `bar`."""

    name: str
    value: float
    style: str = ""


def draw_histogram(title: str, edges: Sequence[int], counts: Sequence[int], unit: str) -> str:
    """How many values lie between two edges each; bins are equally wide to the eye."""
    highest = max(counts, default=0)
    step = (_WIDTH - 2 * _SIDE) / max(len(counts), 1)
    floor = _TOP + _PLOT_HEIGHT
    parts, said = [], []
    for number, value in enumerate(counts):
        if value:
            height = max(_PLOT_HEIGHT * value / highest, 1.5)
            said.append(f"{_name_bin(edges, number)} {unit}: {value:,}")
            parts.append(
                f'<rect class="bar" x="{_SIDE + number * step:.1f}" y="{floor - height:.1f}" '
                f'width="{max(step - 1, 0.8):.1f}" height="{height:.1f}">'
                f"<title>{escape(said[-1])}</title></rect>"
            )
    parts.append(f'<path class="axis" d="M{_SIDE} {floor}H{_WIDTH - _SIDE}"/>')
    if counts:
        parts.append(_label(_SIDE, _TOP - 6, f"{highest:,}", "start"))
    parts += _list_ticks(edges, step, floor + 14)
    return _draw(title, said, floor + _BOTTOM, parts)


def draw_bars(title: str, bars: Sequence[Bar], unit: str) -> str:
    """Named numbers as bars, one below the other."""
    highest = max((bar.value for bar in bars), default=0) or 1
    room = _WIDTH - _NAME_WIDTH - 60
    parts = []
    for number, bar in enumerate(bars):
        top = 4 + number * _BAR_HEIGHT
        width = max(room * bar.value / highest, 1.5 if bar.value else 0)
        parts += [
            _label(0, top + 12, _cut(bar.name), "start"),
            f'<rect class="bar {escape(bar.style)}" x="{_NAME_WIDTH}" y="{top}" '
            f'width="{width:.1f}" height="{_BAR_HEIGHT - 8}"/>',
            _label(_NAME_WIDTH + width + 6, top + 12, f"{bar.value:,}", "start"),
        ]
    said = [f"{bar.name}: {bar.value:,} {unit}" for bar in bars]
    return _draw(title, said, 8 + len(bars) * _BAR_HEIGHT, parts)


def _list_ticks(edges: Sequence[int], step: float, y: float) -> list[str]:
    """Some of the edges below the axis, or the numbers themselves where each has a bin."""
    bins = len(edges) - 1
    if bins < 1:
        return []
    if edges[-1] - edges[0] == bins:
        some = range(0, bins, -(-bins // (2 * _TICKS)))
        return [_label(_SIDE + (n + 0.5) * step, y, _short(edges[n]), "middle") for n in some]
    chosen = sorted({round(bins * tick / (_TICKS - 1)) for tick in range(_TICKS)})
    anchors = {0: "start", bins: "end"}
    return [_label(_SIDE + n * step, y, _short(edges[n]), anchors.get(n, "middle")) for n in chosen]


def _draw(title: str, said: Sequence[str], height: int, parts: Sequence[str]) -> str:
    described = "; ".join(said) or "nothing to show"
    return (
        f'<svg class="chart" role="img" '
        f'viewBox="0 0 {_WIDTH} {height}"><title>{escape(title)}</title>'
        f"<desc>{escape(described)}</desc>{''.join(parts)}</svg>"
    )


def _label(x: float, y: float, text: str, anchor: str) -> str:
    return (
        f'<text class="label" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
    )


def _name_bin(edges: Sequence[int], number: int) -> str:
    low, high = edges[number], edges[number + 1] - 1
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _short(value: int) -> str:
    for factor, sign in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if value >= factor:
            return f"{value / factor:.3g}{sign}"
    return str(value)


def _cut(text: str) -> str:
    return text if len(text) <= _NAME_CHARS else f"{text[: _NAME_CHARS - 1]}…"
