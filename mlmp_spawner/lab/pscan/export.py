"""A view as one HTML file that shows the same anywhere, for good, and runs nothing."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from mlmp_spawner.errors import NotFound
from mlmp_spawner.lab.pscan import cells
from mlmp_spawner.lab.pscan.browse import Seen
from mlmp_spawner.lab.pscan.pattern import Values

LARGEST = 64 << 20
"""Characters of what is shown of files in one export; half as many bytes of a picture."""
LARGEST_FILE = 16 << 20

_LEFT_OUT = "<p>left out: there was no place any more</p>"
_RULES = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_STYLE = """
body { font: 14px system-ui, sans-serif; margin: 1.5rem; color-scheme: light dark; }
table { border-collapse: collapse; } th { text-align: left; font-weight: 600; white-space: nowrap; }
.grid > * > tr > * { border: 1px solid #8886; padding: 0.4rem; vertical-align: top; }
img { max-width: 24rem; max-height: 24rem; } iframe { width: 24rem; height: 18rem; border: 0; background: #fff; }
pre, td table { display: block; max-width: 24rem; max-height: 18rem; overflow: auto; margin: 0; }
figure { margin: 0 0 0.5rem; width: 16rem; } svg { width: 100%; height: 5rem; } p { margin: 0; }
"""


def exported(seen: Seen) -> str:
    """The file. What is larger than there is room for is left out, and its place says so."""
    layout = seen.view.layout
    left = LARGEST
    lines: list[str] = []
    for row, found in zip(seen.view.rows, seen.view.cells, strict=True):
        line = f"<th scope=row>{_head(layout.rows, row)}</th>"
        for cell in found:
            piece = _cell(seen, cell, left)
            left -= len(piece)
            line += f"<td>{piece}</td>"
        lines.append(f"<tr>{line}</tr>")
    heads = "".join(f"<th scope=col>{_head(layout.columns, column)}</th>" for column in seen.view.columns)
    fixed = ", ".join(f"{name} = {value}" for name, value in layout.at.items())
    title = escape(seen.root.name or str(seen.root))
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(_RULES)}"><style>{_STYLE}</style></head><body>'
        f"<h1>{title}</h1><p><code>{escape(seen.pattern)}</code></p><p>{escape(fixed)}</p>"
        f'<table class="grid"><thead><tr><td></td>{heads}</tr></thead><tbody>{"".join(lines)}</tbody></table>'
        "</body></html>"
    ).encode(errors="replace").decode()  # fmt: skip


def _cell(seen: Seen, cell: tuple[str, int] | None, left: int) -> str:
    if cell is None:
        return "—"
    if left <= 0:
        return _LEFT_OUT
    try:
        # What is embedded takes a third more than the file has.
        piece = cells.embedded(seen.root, cell[0], min(LARGEST_FILE, left // 2))
        return piece if len(piece) <= left else _LEFT_OUT  # a text may have to be escaped
    except NotFound:
        return "<p>gone</p>"


def _head(names: Sequence[str], values: Values) -> str:
    return "<br>".join(f"{escape(name)} = {escape(value)}" for name, value in zip(names, values, strict=True))
