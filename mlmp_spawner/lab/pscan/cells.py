"""One file as a piece of HTML: in the page with the browser's own requests, in an export with all that it takes."""

from __future__ import annotations

import base64
from html import escape
from pathlib import Path

from mlmp_spawner.lab.pscan import curves, index
from mlmp_spawner.lab.pscan.kinds import ending, kind_of, media_type

TEXT = 64 << 10
"""Bytes of a text that are shown."""
_ROWS, _COLUMNS = 100, 20
_ROWS_READ = 20_000
_LONGEST_VALUE = 200

NO_SCRIPTS = "default-src 'none'; img-src data: blob:; media-src data:; font-src data:; style-src 'unsafe-inline'"
SCRIPTS = f"{NO_SCRIPTS}; script-src 'unsafe-inline' 'unsafe-eval'"
"""Nothing is asked of anywhere: what a file shows, it has."""


def shown(root: Path, path: str) -> str:
    """A text, a table, or plots; nothing in it is anything but text to a browser.

    :raises NotFound: there is no such file.
    """
    kind = kind_of(path)
    if kind == "curves":
        return _curves(root, path)
    if kind == "table":
        return _table(root, path)
    if kind == "text":
        data, size = index.read(root, path, TEXT)
        return f"<pre>{escape(data.decode('utf-8', 'replace'))}</pre>{_cut(len(data), size)}"
    _, size = index.read(root, path, 0)
    return f"<p>{escape(ending(path) or 'A')} file of {size:,} bytes</p>"


def embedded(root: Path, path: str, most: int) -> str:
    """The same for a file of its own, with pictures and pages in it; ``most``: bytes of a file that may be.

    :raises NotFound: there is no such file.
    """
    kind, media = kind_of(path), media_type(path)
    if media is None:
        return shown(root, path)
    data, size = index.read(root, path, most + 1)
    if size > most:
        return f"<p>left out: {size:,} bytes, and at most {most:,} had a place</p>"
    if kind == "html":
        return html_frame(data.decode("utf-8", "replace"))
    address = f"data:{media};base64,{base64.b64encode(data).decode()}"
    if kind == "image":
        return f'<img alt="{escape(path)}" src="{address}">'
    return f'<a download="{escape(path.rsplit("/", 1)[-1])}" href="{address}">PDF, {size:,} bytes</a>'


def html_frame(text: str) -> str:
    """Somebody's HTML in a frame without scripts, forms, an origin or a way to anywhere."""
    rules = f'<meta http-equiv="Content-Security-Policy" content="{escape(NO_SCRIPTS)}">'
    return f'<iframe sandbox referrerpolicy="no-referrer" srcdoc="{escape(rules + text)}"></iframe>'


def _curves(root: Path, path: str) -> str:
    data, size = index.read(root, path, curves.PIECE)
    read = curves.READERS.get(ending(path), curves.of_events)
    return (curves.drawn(read(data)) or "<p>no numbers</p>") + _cut(len(data), size)


def _table(root: Path, path: str) -> str:
    data, size = index.read(root, path, curves.PIECE)
    rows = curves.table_rows(data, tabs=ending(path) == "tsv", most=_ROWS_READ)
    plots = curves.drawn(curves.of_csv(rows))
    head, *rest = [[escape(value[:_LONGEST_VALUE]) for value in row[:_COLUMNS]] for row in rows[:_ROWS]] or [[]]
    lines = "".join(f"<tr>{''.join(f'<td>{value}</td>' for value in row)}</tr>" for row in rest)
    heads = "".join(f"<th>{value}</th>" for value in head)
    table = f"<table><thead><tr>{heads}</tr></thead><tbody>{lines}</tbody></table>"
    cut = f"<p>the first {_ROWS} rows</p>" if len(rows) > _ROWS else ""
    table += cut or _cut(len(data), size)
    return f"{plots}<details><summary>as a table</summary>{table}</details>" if plots else table


def _cut(read: int, size: int) -> str:
    return f"<p>the first {read:,} of {size:,} bytes</p>" if read < size else ""
