"""The container images of MLMP: ``make images``, or ``python -m images.build``. Standard library only."""
