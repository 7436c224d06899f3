"""How long a server takes to start, against stock KubeSpawner on the same cluster. Goal: at most 1.05 times."""

from __future__ import annotations

from benchmarks.cluster.place import GPU, Place, booking, seconds_until_ready
from benchmarks.common import Report, median

STOCK = f"""
c.JupyterHub.spawner_class = "kubespawner.KubeSpawner"
c.KubeSpawner.update(image="IMAGE", namespace="NAMESPACE", extra_resource_limits={{"{GPU}": "1"}},
    extra_resource_guarantees={{"{GPU}": "1"}}, node_selector={{"kubernetes.io/hostname": "NODE"}},
    cpu_guarantee=0.05, cpu_limit=1, mem_guarantee="50M", mem_limit="1G", pod_name_template="stock-{{username}}")
"""
LAB = 'c.KubeSpawner.cmd = ["jupyterhub-singleuser"]\n'


def run(report: Report, place: Place, *, quick: bool) -> None:
    """A booking and its start, in turns with a start that needs no booking."""
    lab, stand_in = place.cluster.images["lab"], place.cluster.debian
    _compare(report, place, "JupyterLab", lab, LAB, 3 if quick else 15)
    _compare(report, place, "a server that does nothing", stand_in, "", 3 if quick else 15)


def _compare(report: Report, place: Place, what: str, image: str, settings: str, rounds: int) -> None:
    stock = STOCK.replace("IMAGE", image).replace("NAMESPACE", place.namespace)
    stock = stock.replace("NODE", place.cluster.nodes[0])
    name = what.split()[-1].lower()
    with (
        place.hub(f"mlmp-{name}", image=image, settings=settings) as ours,
        place.hub(f"stock-{name}", image=image, settings=settings + stock) as theirs,
    ):
        taken: dict[str, list[float]] = {"ours": [], "theirs": []}
        for number in range(rounds + 1):  # the first of each does not count
            taken["ours"].append(seconds_until_ready(ours, f"ours{number}", **booking(ours)))
            taken["theirs"].append(seconds_until_ready(theirs, f"theirs{number}"))
            ours.release(f"ours{number}")
    mine, other = (median(values[1:]) for values in (taken["ours"], taken["theirs"]))
    goal = "at most 1.05 times stock KubeSpawner"
    report.add(f"spawn of {what}: asked to ready", mine, "s", versus=other, goal=goal)
