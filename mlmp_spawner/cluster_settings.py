"""The settings of a site on Kubernetes, part of ``c.MLMP``."""

from __future__ import annotations

from traitlets import Bool, Enum, Float, Unicode
from traitlets.config import Configurable


class ClusterSettings(Configurable):
    """What of ``c.MLMP`` is about Kubernetes."""

    backend = Enum(
        ["local", "kubernetes"],
        "local",
        help="Where users' servers run: ``local``, as processes of this machine, or ``kubernetes``, as pods.",
    ).tag(config=True)
    namespace = Unicode(
        "default", help="On Kubernetes: the namespace of the users' pods and of the pods that pull images."
    ).tag(config=True)
    node_patience = Float(
        60,
        min=0,
        help="""On Kubernetes: for how many seconds a node may be not ready, cordoned or short of GPUs before its
        bookings are moved. A kubelet that is restarted takes some of them.""",
    ).tag(config=True)
    preload_before = Float(
        900,
        min=0,
        allow_none=True,
        help="""On Kubernetes: seconds before a booking begins at which its image is pulled on its node; None: never
        ahead of time.""",
    ).tag(config=True)
    preload_timeout = Float(
        1800, min=1, help="On Kubernetes: seconds that pulling an image ahead of a booking may take."
    ).tag(config=True)
    preload_priority_class = Unicode(
        "",
        help="""On Kubernetes: the priority class of the pods that pull images ahead of time, best one of the lowest;
        empty: the cluster's default.""",
    ).tag(config=True)
    see_all_pods = Bool(
        False,
        help="""On Kubernetes: whether the service may list the pods of all namespaces, to show admins which of them
        use booked units without a booking.""",
    ).tag(config=True)
