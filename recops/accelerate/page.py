"""A `Report` as HTML: bars of the times before and after, and the table."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Any

_STYLE = """
.recops{font:14px/1.5 system-ui,sans-serif;color:#1d2530;max-width:60rem}
.recops h1{font-size:1.3rem;margin:0 0 .5rem}
.recops table{border-collapse:collapse;width:100%;margin-top:1rem}
.recops th,.recops td{text-align:left;vertical-align:top;padding:.3rem .8rem .3rem 0;
border-bottom:1px solid #e3e7ec}
.recops td.n{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}
.recops svg{width:100%;height:auto;display:block}
.recops .kept{color:#6a7480}
"""
_BEFORE, _AFTER = "#d9822b", "#0b6e8a"
_LABEL, _WIDTH, _BAR = 260, 880, 14


def page(report: Any) -> str:
    """A whole document."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width"><title>recops accelerate</title>'
        f"</head><body>{body(report)}</body></html>"
    )


def body(report: Any) -> str:
    """The part of it that a notebook shows."""
    title = "Accelerated model"
    if report.speed_up is not None:
        title += f": a train step {report.speed_up:.2f} times as fast"
    said = "".join(f"<p>{escape(line)}</p>" for line in report.timed())
    return (
        f'<style>{_STYLE}</style><div class="recops"><h1>{escape(title)}</h1>{said}'
        f"{_bars(report)}{_table(report)}</div>"
    )


def _pairs(report: Any) -> Iterator[tuple[str, float, float]]:
    """What was timed before and after: the whole, then the steps without and with each swap."""
    if report.ms_before is not None and report.ms_after is not None:
        yield "train step", report.ms_before, report.ms_after
    if report.forward_ms_before is not None and report.forward_ms_after is not None:
        yield "inference", report.forward_ms_before, report.forward_ms_after
    for row in report.rows:
        if row.ms_before is not None and row.ms_after is not None:
            kept = "" if row.now is not None else " (kept)"
            yield f"without, with {row.layer}{kept}", row.ms_before, row.ms_after


def _bars(report: Any) -> str:
    pairs = list(_pairs(report))
    if not pairs:
        return ""
    longest = max(max(before, after) for _, before, after in pairs)
    step = 3 * _BAR
    parts = []
    for place, (name, before, after) in enumerate(pairs):
        top = 24 + place * step
        parts.append(
            f'<text x="{_LABEL - 10}" y="{top + _BAR + 4}" text-anchor="end">'
            f"<title>{escape(name)}</title>{escape(_short(name))}</text>"
        )
        for row, (value, colour) in enumerate(((before, _BEFORE), (after, _AFTER))):
            y = top + row * _BAR
            width = max(1.0, (_WIDTH - _LABEL - 90) * value / longest)
            parts.append(
                f'<rect x="{_LABEL}" y="{y}" width="{width:.1f}" height="{_BAR - 2}" '
                f'fill="{colour}"/><text x="{_LABEL + width + 6:.1f}" y="{y + _BAR - 3}">'
                f"{value:.1f} ms</text>"
            )
    key = "".join(
        f'<rect x="{x}" y="2" width="12" height="12" fill="{colour}"/>'
        f'<text x="{x + 18}" y="13">{text}</text>'
        for x, colour, text in ((_LABEL, _BEFORE, "before"), (_LABEL + 90, _AFTER, "after"))
    )
    height = 24 + len(pairs) * step
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" font-size="12" fill="#1d2530" '
        f'font-family="system-ui,sans-serif"><title>Times before and after</title>'
        f"{key}{''.join(parts)}</svg>"
    )


def _short(name: str, limit: int = 36) -> str:
    return name if len(name) <= limit else f"{name[: limit - 1]}…"


def _table(report: Any) -> str:
    lines = []
    for row in report.rows:
        difference = "" if row.max_difference is None else f"{row.max_difference:.1e}"
        lines.append(
            f"<tr{'' if row.now is not None else ' class=kept'}><td>{escape(row.layer)}</td>"
            f"<td>{escape(row.was)}</td><td>{escape(row.now or 'stays')}</td>"
            f'<td class="n">{difference}</td><td>{escape(row.reason)}</td></tr>'
        )
    if not lines:
        return "<p>No layer of this model has a swap.</p>"
    heads = "".join(f"<th>{h}</th>" for h in ("layer", "was", "now", "difference", "reason"))
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
