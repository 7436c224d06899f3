"""The OpenAPI document as a page for people: rendered here, whole in itself, nothing fetched from elsewhere."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

from jinja2 import Environment

STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
code, pre { font-family: ui-monospace, monospace; font-size: .9em; }
pre { overflow-x: auto; padding: .75rem; border: 1px solid #8886; border-radius: .25rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid #8883; }
section { margin-top: 2.5rem; }
h2 code { font-size: .95em; }
.method { display: inline-block; min-width: 4.5rem; }
.quiet { opacity: .75; }
"""

_DIGEST = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
DOCS_CSP = (
    f"default-src 'none'; style-src 'sha256-{_DIGEST}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def page(templates: Environment, document: dict[str, Any]) -> str:
    """The page."""
    html: str = templates.get_template("docs.html").render(document=document, style=STYLE, shown=_shown)
    return html


def _shown(schema: dict[str, Any]) -> str:
    """A schema in a few words: ``string (date-time) or null``."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "anyOf" in schema:
        return " or ".join(_shown(one) for one in schema["anyOf"])
    if "enum" in schema:
        return " | ".join(str(value) for value in schema["enum"])
    if "const" in schema:
        return str(schema["const"])
    kind = str(schema.get("type", "anything"))
    if kind == "array":
        return f"list of {_shown(schema.get('items', {}))}"
    bounds = [f"{word} {schema[key]}" for key, word in _BOUNDS.items() if key in schema]
    extra = ", ".join(([str(schema["format"])] if "format" in schema else []) + bounds)
    example = f", such as {schema['examples'][0]}" if schema.get("examples") and "format" not in schema else ""
    return f"{kind} ({extra}){example}" if extra else f"{kind}{example}"


_BOUNDS = {"minimum": "at least", "maximum": "at most", "maxLength": "characters at most"}
