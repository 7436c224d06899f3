"""The sheet of guests' codes, to be printed and cut: plain HTML that asks nobody for anything."""

from __future__ import annotations

from html import escape
from typing import Any

_STYLE = """
body { font: 11pt/1.4 system-ui, sans-serif; margin: 1.5cm; color: #000; background: #fff; }
h1 { font-size: 14pt; margin: 0 0 .3cm; }
ul { list-style: none; margin: 0; padding: 0; display: grid; grid-template-columns: 1fr 1fr; }
li { border: 1px dashed #777; padding: .4cm .5cm; break-inside: avoid; }
code { font: bold 15pt ui-monospace, monospace; letter-spacing: .04em; white-space: nowrap; display: block; }
p { margin: .1cm 0; }
.small { font-size: 9pt; }
@media (max-width: 40rem) { ul { grid-template-columns: 1fr; } }
"""


def sheet(title: str, codes: dict[str, Any], *, until: str) -> str:
    """The page. :param codes: as the service gave them. :param until: when they are over, in words."""
    address = escape(str(codes["address"]))
    cards = "\n".join(
        f"<li><p>Go to <b>{address}</b> and enter</p><code>{escape(str(one['code']))}</code>"
        f'<p class="small">For one person, until {escape(until)}. Files and account are erased '
        f"{escape(str(codes['erased_after']))} after that.</p></li>"
        for one in codes["items"]
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Guests: {escape(title)}</title><style>{_STYLE}</style></head>\n"
        f"<body><main><h1>{escape(title)}</h1>\n<ul>\n{cards}\n</ul></main></body></html>\n"
    )
