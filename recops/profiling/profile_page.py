"""A `Profile` as HTML: a bar of the whole step, one of its layers below, and the table."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Any

_STYLE = """
body{font:14px/1.5 system-ui,sans-serif;color:#1d2530;max-width:60rem;
margin:2rem auto;padding:0 1rem}
h1{font-size:1.3rem;margin:0 0 .5rem}
table{border-collapse:collapse;width:100%;margin-top:1rem}
th,td{text-align:left;padding:.3rem .8rem .3rem 0;border-bottom:1px solid #e3e7ec}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
svg{width:100%;height:auto;display:block;margin-top:1rem}
"""
_COLOURS = {
    "input": "#8a5a9e",
    "tables": "#d9822b",
    "optimizer": "#e5ac6d",
    "ops": "#c0504d",
    "products": "#0b6e8a",
    "dispatch": "#4f8f4f",
    "rest": "#9a9a9a",
}
_OF_KIND = {"table": "tables", "op": "ops", "products": "products"}
_WIDTH, _BAR = 880, 34


def page(profile: Any) -> str:
    """A whole document."""
    notes = "".join(f"<li>{escape(note)}</li>" for note in profile.notes)
    advice = "".join(f"<p>{escape(str(each))}</p>" for each in profile.advice)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width"><title>recops profile</title>'
        f"<style>{_STYLE}</style></head><body><h1>{escape(profile.verdict)}</h1>"
        f"<p>A step of {profile.batch_size} rows: {profile.step_ms:.2f} ms.</p>{advice}"
        f"{_bars(profile)}{_key(profile)}{_table(profile)}<ul>{notes}</ul></body></html>"
    )


def _pieces(profile: Any) -> Iterator[tuple[str, str, float]]:
    """What stands below the whole step, in the order of its shares: name, part, share."""
    for part, share in profile.shares.items():
        left = share
        for layer in profile.layers:
            if _OF_KIND[layer.kind] == part:
                taken = min(layer.share_ms / profile.step_ms, left)
                left -= taken
                yield layer.name, part, taken
        name = f"{profile.optimizer} on tables" if part == "tables" else part
        yield name, part, left


def _bars(profile: Any) -> str:
    drawn = _bar(((name, name, share) for name, share in profile.shares.items()), 0)
    drawn += _bar(_pieces(profile), _BAR + 2)
    return (
        f'<svg viewBox="0 0 {_WIDTH} {2 * _BAR + 2}" role="img" font-size="12" fill="#fff" '
        f'font-family="system-ui,sans-serif"><title>Parts of a train step</title>{drawn}</svg>'
    )


def _bar(pieces: Any, top: int) -> str:
    x, drawn = 0.0, ""
    for name, part, share in pieces:
        width = _WIDTH * share
        if width < 0.3:
            x += width
            continue
        fits = int(width / 7)
        label = f"{name} {share:.0%}"
        text = label if len(label) <= fits else name[: fits - 1] + "…" if fits > 3 else ""
        drawn += (
            f'<g><title>{escape(label)}</title><rect x="{x:.1f}" y="{top}" '
            f'width="{max(width - 1, 0.3):.1f}" height="{_BAR}" fill="{_COLOURS[part]}"/>'
            f'<text x="{x + 4:.1f}" y="{top + 21}">{escape(text)}</text></g>'
        )
        x += width
    return drawn


def _key(profile: Any) -> str:
    cells = "".join(
        f'<td><span style="color:{_COLOURS[name]}">&#9632;</span> {escape(name)}<br>'
        f"{share:.1%}, {share * profile.step_ms:.2f} ms</td>"
        for name, share in profile.shares.items()
    )
    return f"<table><tbody><tr>{cells}</tr></tbody></table>"


def _table(profile: Any) -> str:
    heads = "<th>layer</th><th>class</th><th>kind</th>" + "".join(
        f'<th class="n">{h}</th>' for h in ("forward ms", "backward ms", "floor ms", "of the step")
    )
    rows = "".join(
        f"<tr><td>{escape(layer.name)}</td><td>{escape(layer.was)}</td><td>{layer.kind}</td>"
        + "".join(
            f'<td class="n">{cell}</td>'
            for cell in (
                f"{layer.forward:.2f}",
                f"{layer.backward:.2f}",
                f"{layer.floor:.2f}",
                f"{layer.share_ms / profile.step_ms:.1%}",
            )
        )
        + "</tr>"
        for layer in profile.layers
    )
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>"
