"""MLMP: bookable deep-learning machines on JupyterHub."""

__version__ = "0.1.0"
