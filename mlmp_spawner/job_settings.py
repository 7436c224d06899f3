"""The settings of jobs, part of ``c.MLMP``."""

from __future__ import annotations

from traitlets import Bool, Dict, Float, Integer, List, Unicode
from traitlets.config import Configurable


class JobSettings(Configurable):
    """What of ``c.MLMP`` is about jobs."""

    jobs = Bool(
        True,
        help="Whether people may run jobs in the time that nobody booked. What runs then ends by itself.",
    ).tag(config=True)
    job_half_life = Float(
        7.0,
        min=0.01,
        help="""Days after which what somebody's jobs used counts half against them. Who used least goes first.""",
    ).tag(config=True)
    job_code_limit = Integer(
        256 << 20, min=1024, help="Bytes that the snapshot of a job's code may have, packed."
    ).tag(config=True)
    job_logs_kept = Float(
        30.0, min=0, help="Days for which log and metrics of a job are kept after its end, within each one's quota."
    ).tag(config=True)
    job_guarantees = Dict(
        help="""Of each group of the hub how many units of which resource are kept for its jobs, for example
        {"physics": {"nvidia.com/gpu": 4}}, as far as the calendar leaves any. What it does not use, the jobs of others
        may, and make way when it wants them. Only in a Kubernetes cluster.""",
    ).tag(config=True)
    job_sample_every = Float(
        10.0, min=0.5, help="Seconds between two looks at what the jobs on this machine use, which their pages plot."
    ).tag(config=True)
    job_image = Unicode(
        "",
        help="""On Kubernetes: MLMP's own image, of the containers that run beside a job's program and fetch its code;
        the Helm chart sets it.""",
    ).tag(config=True)
    job_pull_secrets = List(
        Unicode(),
        help="On Kubernetes: names of Secrets in the users' namespace by which ``job_image`` is pulled.",
    ).tag(config=True)
    job_network_closed = Bool(
        False,
        help="""On Kubernetes: whether network policies keep users' pods apart. Then a job that is to talk with its
        owner's server (as executors of Spark are) gets policies that open the way between these pods alone; the Helm
        chart sets it.""",
    ).tag(config=True)
    declare_units = Bool(
        False,
        help="""On Kubernetes: whether the service writes into the status of the catalog's nodes how many units of
        MLMP's own (``mlmp.dev/slot``) each of them has. Jobs without GPUs ask for these, and no device plugin names
        them. Needs the right to patch ``nodes/status``: ``jobs.declareUnits`` of the Helm chart gives it.""",
    ).tag(config=True)
    job_api_url = Unicode(
        "",
        help="""On Kubernetes: the service's API as the pods of jobs reach it, with a slash at its end, such as
        ``http://mlmp-service.mlmp:8090/services/mlmp/api/v1/``; the Helm chart sets it.""",
    ).tag(config=True)
