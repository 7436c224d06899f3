"""How a file is shown, by its name."""

from __future__ import annotations

IMAGES = {
    "png": "image/png", "jpg": "image/jpeg", "jpeg": "image/jpeg", "gif": "image/gif", "webp": "image/webp",
    "avif": "image/avif", "bmp": "image/bmp", "svg": "image/svg+xml",
}  # fmt: skip
TEXTS = frozenset(
    ("txt", "log", "md", "rst", "json", "yaml", "yml", "toml", "ini", "cfg", "conf", "py", "sh", "out", "err", "tex")
)


def ending(path: str) -> str:
    """The ending of a file's name in small letters, without its dot; empty where there is none."""
    name = path.rsplit("/", 1)[-1]
    return name.rsplit(".", 1)[1].lower() if "." in name else ""


def kind_of(path: str) -> str:
    """One of ``image``, ``pdf``, ``html``, ``curves``, ``table``, ``text`` and ``other``."""
    end = ending(path)
    if "tfevents" in path.rsplit("/", 1)[-1] or end in ("jsonl", "ndjson"):
        return "curves"
    if end in IMAGES:
        return "image"
    if end in ("csv", "tsv"):
        return "table"
    if end in ("html", "htm"):
        return "html"
    if end == "pdf":
        return "pdf"
    return "text" if end in TEXTS or not end else "other"


def media_type(path: str) -> str | None:
    """What a browser is told of a file that it shows by itself."""
    end = ending(path)
    return IMAGES.get(end) or {"pdf": "application/pdf", "html": "text/html", "htm": "text/html"}.get(end)
