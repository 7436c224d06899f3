"""The way to Spark's own pages, below the cell that began the session.

What pyspark itself shows there leads to a port that no browser reaches.
"""

from __future__ import annotations

import os
from html import escape

from mlmp_spawner.client.spark_progress import shell


def show(address: str) -> None:
    """Shows a link, in a notebook in a server of the hub; nothing elsewhere.

    :param address: of the pages, a path on the hub's host.
    """
    if shell() is None or "JUPYTERHUB_SERVICE_PREFIX" not in os.environ:
        return
    from IPython.display import HTML, display

    display(HTML(f'<a href="{escape(address)}" target="_blank" rel="noopener">Spark’s own pages</a>'))
