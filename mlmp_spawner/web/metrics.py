"""Figures for Prometheus. No names, no ids, no addresses: nothing in them is about a person."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from mlmp_spawner import __version__
from mlmp_spawner.operations.watch import Activity

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}


class Metrics:
    """The figures of one service process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "mlmp_requests", "Requests answered", ["method", "route", "status"], registry=self.registry
        )
        self._seconds = Histogram(
            "mlmp_request_seconds",
            "Time to answer",
            ["route"],
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
            registry=self.registry,
        )
        self.streams = Gauge("mlmp_streams", "Open event streams", registry=self.registry)
        self.ticks = Counter("mlmp_clock_ticks", "Ticks of the clock", ["outcome"], registry=self.registry)
        self.last_tick = Gauge("mlmp_clock_last_tick_seconds", "Time of the last good tick", registry=self.registry)
        self.waiting = Gauge("mlmp_waiting", "Bookings that wait for a place", registry=self.registry)
        self.nodes_away = Gauge("mlmp_nodes_away", "Nodes that take no bookings now", registry=self.registry)
        self.hub_up = Gauge("mlmp_hub_up", "Whether the hub answered last time", registry=self.registry)
        self.cluster_up = Gauge(
            "mlmp_cluster_up", "Whether the cluster answered last time (1 where there is none)", registry=self.registry
        )
        self.cluster_up.set(1)
        self._units = Gauge("mlmp_units", "Units as the last look saw them", ["state"], registry=self.registry)
        self._intruders = Gauge(
            "mlmp_intruders", "Processes on a GPU that belong to nobody's booking", registry=self.registry
        )
        info = Gauge("mlmp_info", "Version of MLMP", ["version"], registry=self.registry)
        info.labels(__version__).set(1)

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Counts one answer. ``route`` is the pattern, never the address with its ids."""
        method = method if method in _METHODS else "other"
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def use(self, seen: Activity) -> None:
        """Counts what a look saw: units of servers that do something, and that do nothing."""
        held = sum(booking.units for booking in seen.bookings)
        busy = sum(booking.busy for booking in seen.bookings)
        self._units.labels("busy").set(busy)
        self._units.labels("idle").set(held - busy)
        self._intruders.set(len(seen.intruders))

    def text(self) -> bytes:
        """All figures in Prometheus' text format."""
        return generate_latest(self.registry)
