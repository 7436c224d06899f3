"""The client: what a user's image needs of MLMP, and no more.

:class:`mlmp_spawner.client.api.Client` speaks to the service; ``mlmp`` (:mod:`mlmp_spawner.client.cli`) is the command
line on top of it. Nothing here imports the server.
"""

from mlmp_spawner.client.spark import spark_pages, spark_scale, spark_session

__all__ = ["spark_pages", "spark_scale", "spark_session"]
