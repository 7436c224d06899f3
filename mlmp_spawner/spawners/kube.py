"""Users' servers as pods of a Kubernetes cluster, each on the node and with the units that were booked."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jupyterhub.spawner import Spawner
from jupyterhub.utils import maybe_future
from kubernetes_asyncio.client import V1ObjectMeta, V1Pod
from traitlets import Dict, Enum, Float, Unicode, default, validate

from mlmp_spawner import __version__, units
from mlmp_spawner.errors import MLMPError
from mlmp_spawner.kube import labels
from mlmp_spawner.kube.confinement import SERVER, Granted, Terms, confine, containers, granted
from mlmp_spawner.kube.outcomes import Waiting
from mlmp_spawner.kube.scheduling import Place
from mlmp_spawner.kube.ssh_sidecar import Sidecar, with_ssh
from mlmp_spawner.kube.verdicts import former_owners
from mlmp_spawner.operations import admission, limits
from mlmp_spawner.operations.admission import Admission
from mlmp_spawner.operations.site import Site
from mlmp_spawner.rules import policy
from mlmp_spawner.rules.catalog import is_in_cluster
from mlmp_spawner.spawners import choices, hand_in
from mlmp_spawner.spawners.choices import Choice
from mlmp_spawner.spawners.mixin import ReservationMixin
from mlmp_spawner.spawners.pod_files import FilesPodSpawner
from mlmp_spawner.units import DAY, SECOND

_KEPT = (
    "namespace",
    "component_label",
    "enable_user_namespaces",
    "priority_class_name",
    "requested_share",
    "carried_on",
    "runtime_class",
    "ssh_mode",
    "ssh_image",
    "ssh_resources",
    "storage",
    "uid_from",
    "gid_from",
    "guest_uid",
)
_OF_SSH = {"requests": {"cpu": "10m", "memory": "48Mi"}, "limits": {"cpu": "1", "memory": "1Gi"}}
_GRANTING = (
    "volumes", "extra_pod_config", "init_containers", "extra_containers", "extra_container_config", "privileged",
    "container_security_context", "cpu_limit", "cpu_guarantee", "mem_limit", "mem_guarantee",
)  # fmt: skip


def latest_end(site: Site, admitted: Admission, groups: frozenset[str]) -> int:
    """The latest end (ms UTC) that the limits let the owner give to this one booking; never before its end now."""
    booked = admitted.reservation
    profile = site.catalog.profiles.get(booked.profile)
    if profile is None:
        return admitted.deadline.end
    _, longest = policy.durations(profile, limits.of_person(site, booked.owner, groups))
    return max(admitted.deadline.end, booked.start + longest)


class MLMPKubeSpawner(ReservationMixin, FilesPodSpawner):
    """The spawner of a Kubernetes cluster. Every setting of
    [KubeSpawner](https://jupyterhub-kubespawner.readthedocs.io/en/latest/spawner.html) can be given for it as well,
    but for what a booking says: node, units, cores, memory, priority and end.
    """

    requested_share = Float(
        0.9,
        min=0,
        max=1,
        help="""What part of the cores and the memory that go with a booking is set aside for it. All of it is what the
        server may use at most; the rest leaves room for what a cluster runs on every node by itself, without which a
        wholly booked node would not take its last server.""",
    ).tag(config=True)
    carried_on = Float(
        7 * DAY / SECOND,
        min=0,
        help="""For how many seconds a server may go on beyond the latest end that the limits allow one booking: under
        bookings that follow without a gap, or when an admin extends it further. After that the cluster itself ends
        the pod (``activeDeadlineSeconds``), which can't be put off later: it is the last line, for when hub, service
        and ``mlmp enforce`` are all away.""",
    ).tag(config=True)

    runtime_class = Unicode(
        help="""The RuntimeClass of users' servers: one for sandboxes (gVisor, Kata Containers) keeps them further
        from the nodes. It wins over what profiles and hooks say; empty: they may say it, else
        the cluster's own."""
    ).tag(config=True)
    ssh_mode = Enum(
        ("environment", "sidecar", "none"),
        "environment",
        help="""Where SSH leads. ``environment``: into the container of the server, with its GPU; the image needs
        ``sshd``. ``sidecar``: into a container beside it with the same files but without GPU, from ``ssh_image``; no
        crash of it touches the server. ``none``: nowhere.""",
    ).tag(config=True)
    ssh_image = Unicode(f"mlmp/ssh:{__version__}", help="The image of ``sidecar``, made from ``images/ssh``.").tag(
        config=True
    )
    ssh_resources = Dict(
        _OF_SSH,
        help="What the container of ``sidecar`` may take, and what is set aside for it, as Kubernetes writes it.",
    ).tag(config=True)

    _latest_end = 0
    _resource = ""
    _choice = Choice()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Profiles, overrides of groups and hooks may set any trait; what grants something is as it is configured.
        self._configured = {name: copy.deepcopy(getattr(self, name)) for name in _KEPT + _GRANTING}

    @default("namespace")
    def _default_namespace(self) -> str:
        return str(self._settings().namespace)

    @default("start_timeout")
    def _default_start_timeout(self) -> int:
        return 3600  # what can't start is told long before; a large image may take its time

    @default("k8s_api_request_retry_timeout")
    def _default_k8s_api_request_retry_timeout(self) -> int:
        return 180  # an API server that is restarted

    @default("delete_grace_period")
    def _default_delete_grace_period(self) -> int:
        return 10

    @default("cmd")
    def _default_cmd(self) -> list[str]:
        return ["jupyterhub-singleuser"]

    @default("ssh_resources")
    def _default_ssh_resources(self) -> dict[str, Any]:
        return copy.deepcopy(_OF_SSH)  # a profile's is merged into it, for one spawner alone

    @default("uid")
    def _default_uid(self) -> int:
        return 1000

    @default("fs_gid")
    def _default_fs_gid(self) -> int:
        return 1000

    @default("pod_security_context")
    def _default_pod_security_context(self) -> dict[str, Any]:
        return {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}

    @default("container_security_context")
    def _default_container_security_context(self) -> dict[str, Any]:
        return {"capabilities": {"drop": ["ALL"]}}

    @default("modify_pod_hook")
    def _default_modify_pod_hook(self) -> Callable[..., Any]:
        return _confining(None)

    @validate("modify_pod_hook")
    def _last_of_all(self, proposal: Any) -> Callable[..., Any]:
        return _confining(proposal["value"])

    # -- what people choose ---------------------------------------------------------------------------------------

    async def render_offer(self) -> str:
        """The spawn form, with a part for ``profile_list`` where there is one."""
        form = await super().render_offer()
        profiles = await self._profiles()
        if not profiles:
            return form
        try:
            chosen, _ = choices.split(self.user_options)
        except MLMPError:
            chosen = Choice()
        return self._render("profile_list.html", profiles=profiles, chosen=chosen) + form

    def _from_form(self, form: Mapping[str, Sequence[Any]], _: Spawner | None = None) -> dict[str, Any]:
        chosen, rest = choices.from_form(form)
        return super()._from_form(rest) | chosen

    async def _apply(self, given: object) -> None:
        try:
            self._choice, rest = choices.split(given)
            choices.check(self._choice, await self._profiles())
        except MLMPError as error:
            raise self._refusal(error) from None
        await super()._apply(rest)

    async def _profiles(self) -> list[dict[str, Any]]:
        known = self._sorted_dict_values(self.profile_list)
        if callable(known):
            known = await maybe_future(known(self))
        return list(self._get_initialized_profile_list(known) or [])

    async def load_user_options(self) -> None:
        """Applies what was chosen in ``profile_list``; who may run where is not in its power."""
        given: dict[str, Any] = self.user_options  # type: ignore[has-type]
        self.user_options = self._choice.as_kubespawner_reads_it()
        try:
            await super().load_user_options()
        finally:
            self.user_options = given
        for name in _KEPT:
            if getattr(self, name) != self._configured[name]:
                self.log.warning("%s: %s stays as it is configured", self._log_name, name)
                setattr(self, name, copy.deepcopy(self._configured[name]))  # a profile is merged into what is there

    # -- the pod --------------------------------------------------------------------------------------------------

    async def prepare(self, admitted: Admission) -> None:
        """Asks what the pod needs to know besides the booking."""
        actor = self._actor()
        self._latest_end = await self._ask(lambda site: latest_end(site, admitted, actor.groups))
        booked = admitted.reservation
        image = await self._ask(lambda site: site.catalog.image_of(booked.profile, booked.image))
        if image is not None:
            self.image = image.reference
        self._resource = booked.resource if is_in_cluster(booked.resource) else ""
        owner = self.user.name
        self._places = await self._ask(lambda site: hand_in.places(site, owner)) if self.hands_in else ()

    async def confined(self, pod: V1Pod) -> V1Pod:
        """The pod as the cluster gets it: whatever was configured, with what was booked and nothing beyond.

        :raises RuntimeError: no booking was admitted.
        """
        if self._admitted is None:
            raise RuntimeError("no pod without a booking")
        plain = self.api.api_client.sanitize_for_serialization(pod)
        made, beyond = confine(plain, self._terms(self._admitted))
        for what in beyond:
            self.log.warning("%s: left out %s", self._log_name, what)
        made = self.with_their_files(made)
        if self._configured["ssh_mode"] == "sidecar":
            sidecar = Sidecar(self._configured["ssh_image"], self.image_pull_policy, self._configured["ssh_resources"])
            made = with_ssh(made, sidecar)
        for container in containers(made["spec"]):
            if container.get("name") == SERVER:  # the last lines of a server that crashes say why
                container.setdefault("terminationMessagePolicy", "FallbackToLogsOnError")
        metadata = made["metadata"]
        about = V1ObjectMeta(
            name=metadata["name"], namespace=metadata["namespace"], labels=metadata["labels"],
            annotations=metadata["annotations"],
        )  # fmt: skip
        return V1Pod(api_version="v1", kind="Pod", metadata=about, spec=made["spec"])

    def _terms(self, admitted: Admission) -> Terms:
        booked, deadline = admitted.reservation, admitted.deadline
        most, aside = self._cores_and_memory()
        live_until = max(self._latest_end, deadline.end) + round(self._configured["carried_on"] * SECOND)
        environment = self.get_env()
        return Terms(
            name=self.pod_name,
            namespace=self.namespace,
            node=admitted.node,
            resources={self._resource: booked.units} if self._resource else {},
            limits=most,
            requests=aside,
            labels={
                "component": self.component_label, labels.KIND: labels.SERVER, labels.RESERVATION: self.server_id,
            },
            annotations={
                labels.OWNER: self.user.name, labels.SERVER_NAME: self.name, **labels.deadline_annotations(deadline),
            },
            environment={name: value for name, value in environment.items() if name.startswith("MLMP_")},
            live_for=max(1, (live_until - units.now()) // SECOND),
            grace=max(1, (deadline.end - deadline.stop_at) // SECOND),
            priority_class=self._configured["priority_class_name"] or "",
            runtime_class=self._configured["runtime_class"],
            granted=self._granted(),
        )  # fmt: skip

    def _cores_and_memory(self) -> tuple[dict[str, str], dict[str, str]]:
        """At most, and set aside: by the booking; where the catalog does not say, as it is configured."""
        most: dict[str, str] = {}
        aside: dict[str, str] = {}
        part, base = self._configured["requested_share"], self._configured
        if self._share.cpus is not None:
            most["cpu"] = f"{round(self._share.cpus * 1000)}m"
            aside["cpu"] = f"{round(self._share.cpus * part * 1000)}m"
        else:
            most |= {"cpu": str(base["cpu_limit"])} if base["cpu_limit"] else {}
            aside |= {"cpu": str(base["cpu_guarantee"])} if base["cpu_guarantee"] else {}
        if self._share.memory is not None:
            most["memory"] = str(self._share.memory)
            aside["memory"] = str(round(self._share.memory * part))
        else:
            most |= {"memory": str(base["mem_limit"])} if base["mem_limit"] else {}
            aside |= {"memory": str(base["mem_guarantee"])} if base["mem_guarantee"] else {}
        return most, aside

    def _granted(self) -> Granted:
        base = self._configured
        context = base["container_security_context"]
        privileged = base["privileged"] or (isinstance(context, dict) and context.get("privileged"))
        server = {"name": SERVER, **base["extra_container_config"]}
        if privileged:
            server = {**server, "securityContext": {"privileged": True}}
        others = [
            one for name in ("init_containers", "extra_containers") for one in self._sorted_dict_values(base[name])
        ]
        volumes = self._expand_all(self._sorted_dict_values(base["volumes"]))
        return granted([server, *others], volumes, self._expand_all(base["extra_pod_config"]))

    # -- what the watch asks --------------------------------------------------------------------------------------

    def explain(self, error: MLMPError) -> Exception:
        """As every refusal."""
        return self._refusal(error)

    def say(self, progress: int, message: str) -> None:
        """As a step on the page of the start."""
        self._tell(progress, message)

    def place(self) -> Place:
        """Node and units by the booking; after a restart of the hub, by the pod."""
        node, resource = (self._admitted.node, self._resource) if self._admitted else _place_of(self.pod)
        pods = list(self.pod_reflector.pods.values()) if self.pod_reflector else []
        former = former_owners(pods, node=node, resource=resource, apart_from=self.pod_name, now=units.now())
        return Place(node, resource, former)

    def waiting_for(self, owners: tuple[str, ...]) -> str:
        """Whose servers they are, where users may know that."""
        if not self.shows_others():
            return "Waiting for the former server to end"
        return f"Waiting for {' and '.join(owners)}'s server to end"

    async def job_in_the_way(self) -> Waiting | None:
        """Asks the database; where that has no answer just now, what the cluster says counts."""
        node = self.place().node
        try:
            found = await self._ask(lambda site: admission.job_in_the_way(site, node, now=units.now()))
        except MLMPError:
            return None
        if found is None:
            return None
        what = found.detail if self.shows_others() else found.anonymous
        return Waiting((), found.until or 0, what.rstrip("."))

    async def is_over(self) -> bool:
        """Asks the database."""
        owner, server = self.user.name, self.name
        return await self._ask(lambda site: admission.ended(site, owner=owner, server=server, now=units.now()))


def _confining(hook: Callable[..., Any] | None) -> Callable[..., Any]:
    """A ``modify_pod_hook`` after which nothing can be changed any more."""

    async def last(spawner: MLMPKubeSpawner, pod: V1Pod) -> V1Pod:
        return await spawner.confined(await maybe_future(hook(spawner, pod)) if hook is not None else pod)

    return last


def _place_of(pod: Mapping[str, Any] | None) -> tuple[str, str]:
    spec = (pod or {}).get("spec") or {}
    required = ((spec.get("affinity") or {}).get("nodeAffinity") or {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution"
    ) or {}
    nodes = [
        field["values"][0]
        for term in required.get("nodeSelectorTerms") or ()
        for field in term.get("matchFields") or ()
    ]  # fmt: skip
    resources = [
        name
        for container in spec.get("containers") or ()
        for name in ((container.get("resources") or {}).get("limits") or {})
        if "/" in name
    ]
    return spec.get("nodeName") or (nodes[0] if nodes else "the node"), resources[0] if resources else ""
