"""How long a server takes to start, against stock KubeSpawner on the same cluster. Goal: at most 1.05 times."""

from __future__ import annotations

from benchmarks.cluster.place import GPU, Place, booking, seconds_until_ready
from benchmarks.common import Report, median

STOCK = f"""
c.JupyterHub.spawner_class = "kubespawner.KubeSpawner"
c.KubeSpawner.update(image="IMAGE", namespace="NAMESPACE", extra_resource_limits={{"{GPU}": "1"}},
    extra_resource_guarantees={{"{GPU}": "1"}}, node_selector={{"kubernetes.io/hostname": "NODE"}},
    cpu_guarantee=0.05, mem_guarantee="200M", pod_name_template="stock-{{username}}")
"""


def run(report: Report, place: Place, *, quick: bool) -> None:
    """A booking and its start, in turns with a start that needs no booking."""
    image, rounds = place.cluster.debian, 3 if quick else 15
    stock = STOCK.replace("IMAGE", image).replace("NAMESPACE", place.namespace)
    stock = stock.replace("NODE", place.cluster.nodes[0])
    with place.hub("mlmp", image=image) as ours, place.hub("stock", image=image, settings=stock) as theirs:
        taken: dict[str, list[float]] = {"ours": [], "theirs": []}
        for number in range(rounds + 1):  # the first of each does not count
            taken["ours"].append(seconds_until_ready(ours, f"ours{number}", **booking(ours)))
            taken["theirs"].append(seconds_until_ready(theirs, f"theirs{number}"))
            ours.release(f"ours{number}")
    mine, other = (median(values[1:]) for values in (taken["ours"], taken["theirs"]))
    report.add("spawn: asked to ready", mine, "s", versus=other, goal="at most 1.05 times stock KubeSpawner")
