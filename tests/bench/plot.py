"""Bar charts as SVG: one bar per system, and a line for the spread of its rounds."""

from __future__ import annotations

from html import escape

from bench.case import Column, Result, median, spread

_WIDTH, _BAR, _GAP, _LABEL, _HEAD = 720, 26, 12, 150, 44
_COLOURS = {"tidings": "#0b7285", "node": "#74b816", "python-socketio": "#f08c00", "floor": "#868e96"}


def bars(result: Result, column: Column) -> str:
    """Plot one column of a case: medians as bars, the minimum and maximum of the rounds as whiskers."""
    rows = {name: rounds for name, rounds in result.rows.items() if all(column.key in row for row in rounds)}
    most = max((spread(rounds, column.key)[1] for rounds in rows.values()), default=0) or 1
    scale = (_WIDTH - _LABEL - 130) / most
    height = _HEAD + len(rows) * (_BAR + _GAP) + 6
    title = escape(f"{result.case.name}: {column.heading}")
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{title}"',
        ' font-family="system-ui, sans-serif" font-size="14">\n<rect width="100%" height="100%" fill="#fff"/>\n',
        f'<text x="8" y="24" font-weight="600">{title}</text>\n',
    ]
    for index, (name, rounds) in enumerate(rows.items()):
        top, (low, high) = _HEAD + index * (_BAR + _GAP), spread(rounds, column.key)
        middle, value = top + _BAR / 2, median(rounds, column.key)
        parts.append(
            f'<text x="8" y="{middle + 5}">{escape(name)}</text>\n'
            f'<rect x="{_LABEL}" y="{top}" width="{value * scale:.1f}" height="{_BAR}" fill="{_COLOURS[name]}"/>\n'
            f'<path d="M{_LABEL + low * scale:.1f} {middle}H{_LABEL + high * scale:.1f}" stroke="#212529"/>\n'
            f'<text x="{_LABEL + high * scale + 8:.1f}" y="{middle + 5}">{value:,.{column.digits}f}</text>\n'
        )
    return "".join(parts) + "</svg>\n"
