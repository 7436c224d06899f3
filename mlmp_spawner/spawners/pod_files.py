"""Pods that have their user's files: the folder is made before the first of them starts, and remembered."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from typing import Any

import aiohttp
from jupyterhub.utils import maybe_future
from kubernetes_asyncio.client.exceptions import ApiException
from traitlets import Dict, Float, Int, Unicode, validate

from mlmp_spawner.errors import ConfigurationError, MLMPError, NotAllowed, Unavailable
from mlmp_spawner.kube.client import Connection
from mlmp_spawner.kube.files import Account, run_as, with_account, with_files
from mlmp_spawner.kube.home_pods import Home
from mlmp_spawner.kube.homes import Homes
from mlmp_spawner.kube.outcomes import sentence
from mlmp_spawner.rules import hand_in
from mlmp_spawner.rules import storage as files
from mlmp_spawner.rules.guests import is_guest
from mlmp_spawner.rules.hand_in import InPod
from mlmp_spawner.rules.storage import Storage
from mlmp_spawner.spawners.hand_in import Place
from mlmp_spawner.spawners.pods import WatchedPodSpawner

_connection = Connection()
HAND_IN_WITHIN = 60.0
"""Seconds that making a place to hand in may take; the server starts without it then."""
ERASED_WITHIN = 90.0
"""Seconds that erasing a guest's folder may take in one call; asked again, it goes on."""


class FilesPodSpawner(WatchedPodSpawner):
    """A spawner of pods with home, shared data and scratch."""

    storage = Dict(
        help="""Users' files. ``claim``: a claim in the users' namespace with a folder for each user, mounted at
        ``home`` (``/home/jovyan``); ``folders``: how these are made (``namespace``, ``claim``, ``image``, ``by`` with
        ``root`` or ``user``); ``shared``: ``claim`` and ``path`` of data that everybody may read, at ``~/shared``;
        ``scratch``: ``size`` of a place that goes with the server, at ``~/scratch``, of ``type`` ``node`` (its disk)
        or ``claim`` (a volume for it). The chart sets it from ``users.storage``."""
    ).tag(config=True)
    home_timeout = Float(
        300,
        min=1,
        help="""Seconds that making a user's folder may take, before their first server. A file server that is away is
        waited for.""",
    ).tag(config=True)
    uid_from = Unicode(
        help="""Where the login says as which uid a user's servers run: a path in ``auth_state``, as
        ``oauth_user.uid_number``. Needs ``c.Authenticator.enable_auth_state``. Empty: ``uid`` for everybody."""
    ).tag(config=True)
    gid_from = Unicode(help="The same for the group; empty: ``gid``, or with ``uid_from`` the uid.").tag(config=True)
    guest_uid = Int(
        0,
        min=0,
        max=files.LAST_UID,
        help="""As which uid and gid guests' servers run with ``uid_from``, since no login knows them: a number that no
        account has. 0: there are no guests then. Without ``uid_from`` they run as everybody.""",
    ).tag(config=True)

    _home = ""
    """The folder that was made, with claim and account; outlives servers and hubs."""
    _places: Sequence[Place] = ()
    """Where the user hands in, or reads what others did."""
    _hand_in: tuple[InPod, ...] = ()
    """What of these is there."""
    _hand_in_made: frozenset[str] = frozenset()
    """As ``_home``."""
    _account: Account | None = None
    """As whom the server that starts runs; None: as profiles and hooks say."""

    @validate("storage")
    def _makes_sense(self, proposal: Any) -> dict[str, Any]:
        files.parse(proposal["value"])
        return copy.deepcopy(dict(proposal["value"]))

    @property
    def files(self) -> Storage:
        """What is configured."""
        return files.parse(self.storage)

    @property
    def folder(self) -> str:
        """The user's, in the claim of all homes."""
        return files.folder_of(self.files, self.user.name)

    def with_their_files(self, pod: Mapping[str, Any]) -> dict[str, Any]:
        """The pod, as plain JSON, with what is its user's; last of all, so that no profile and no hook changes it.

        :raises RuntimeError: it is not known as whom it has to run.
        """
        known, account = self.files, self._account
        made = with_files(pod, known, self.folder, self._hand_in)
        if account is None:
            if self._has_an_account:
                raise RuntimeError("no pod with somebody's files before it is known as whom it runs")
            return made
        made = run_as(made, account)
        return with_account(made, account.uid, account.gid or account.uid, known.home) if account.of_login else made

    @property
    def _has_an_account(self) -> bool:
        """Whether the account is the user's own, or that of their folder: no profile says another then."""
        known = self.files
        return bool(self.uid_from or (known.claim and known.folders))

    async def start(self) -> str:
        """Starts the server once its user's folder is there."""
        try:
            await self._run_as_their_account()
            await self._make_home()
        except MLMPError as error:
            raise self.explain(error) from None
        await self._make_hand_in()
        started = False
        try:
            address = await super().start()
            started = True
        finally:
            if not started:
                self._home = ""  # it may be for want of the folder: somebody removed it
                self._hand_in_made = frozenset()
        return address

    async def move_in(self) -> Account:
        """As whom pods of the user's run besides the server's. Their home is there afterwards, and is looked for each
        time: somebody may have removed it.

        :raises MLMPError: it can't be known or made.
        """
        self._home = ""
        await self._run_as_their_account()
        await self._make_home()
        if self.storage_pvc_ensure and not await self._claim_is_there():
            raise Unavailable("The claim of the home is not there yet.")
        return self._account or await self._their_account()

    async def _claim_is_there(self) -> bool:
        try:
            made = self._make_create_pvc_request(self.get_pvc_manifest(), self.k8s_api_request_timeout)
            return bool(await made)  # one that is there is left as it is
        except (ApiException, aiohttp.ClientError, OSError) as error:
            raise Unavailable(f"The claim of the home can't be made: {sentence(error)}.") from error

    async def _run_as_their_account(self) -> None:
        """Keeps as whom the server runs, before a profile can say another; by the login, where that knows it."""
        self._account = None
        if self.uid_from:
            await self._ask_the_login()
        if self._has_an_account:
            self._account = await self._their_account()

    async def _ask_the_login(self) -> None:
        if self.guest_uid and is_guest(self.user.name):
            self._run_as_number(self.guest_uid, self.guest_uid)
            return
        about = await self.user.get_auth_state()
        if about is None:
            raise NotAllowed(
                f"The login keeps nothing about {self.user.name!r}: as which uid the server runs is not known.",
                hint="Log out and in again; if that does not help, c.Authenticator.enable_auth_state is not set.",
            )
        uid = files.number_of(about, self.uid_from, user=self.user.name)
        gid = files.number_of(about, self.gid_from, user=self.user.name) if self.gid_from else uid
        self._run_as_number(uid, gid)

    def _run_as_number(self, uid: int, gid: int) -> None:
        self.uid, self.gid = uid, gid
        if getattr(self, "fs_gid", None) is not None:
            self.fs_gid = gid

    async def _make_home(self) -> None:
        known = self.files
        if known.folders is None or not known.claim:
            return
        home = await self._their_home()
        key = f"{known.claim}/{home.folder}:{home.uid}:{home.gid}"
        if self._home == key:
            return
        self.say(42, "Making your folder")
        await Homes(known.folders, _connection, self.home_timeout).make(home, self.say)
        self._home = key

    @property
    def hands_in(self) -> bool:
        """Whether things can be handed in: there is one claim that all have a part of, and nothing but what pods mount
        leads there. Accounts of the login's own are known elsewhere too, and may come by in other ways."""
        known = self.files
        return bool(known.claim and known.folders and not self.uid_from)

    async def _make_hand_in(self) -> None:
        """Whatever fails here keeps nobody's server from starting; in JupyterLab it is said that there is no such
        place."""
        self._hand_in = ()
        for place in self._places if self.hands_in else ():
            student = files.directory_name(self.user.name) if place.role == "student" else ""
            one = hand_in.in_pod(place.course, student)
            try:
                await self._make_place(one)
            except MLMPError as error:
                self.log.warning("%s: nothing can be handed in for %s: %s", self.user.name, one.course, error)
            else:
                self._hand_in += (one,)

    async def _make_place(self, one: InPod) -> None:
        known, account = self.files, self._account or await self._their_account()
        home = Home(one.student, account.uid, account.gid or account.uid, one.around)
        key = f"{known.claim}/{one.path}:{home.uid}:{home.gid}"
        if known.folders is None or key in self._hand_in_made:
            return
        self.say(42, "Making the place to hand in")
        patience = min(self.home_timeout, HAND_IN_WITHIN)
        await Homes(known.folders, _connection, patience).make_hand_in(home, self.say)
        self._hand_in_made |= {key}

    async def erase_guest(self) -> None:
        """The folder, or the claim of the guest's own. Where nobody has files there is nothing to erase.

        :raises MLMPError: it can't be erased, or not yet.
        """
        known = self.files
        if known.claim and known.folders is None:
            raise ConfigurationError(["users.storage.folders is not set: who made the folders of homes erases them"])
        if known.claim and known.folders is not None:
            if self.guest_uid:
                await self._run_as_their_account()
            patience = min(self.home_timeout, ERASED_WITHIN)
            await Homes(known.folders, _connection, patience).erase(await self._their_home())
        elif self.storage_pvc_ensure:
            await self._remove_claim()

    async def _remove_claim(self) -> None:
        """With the claim goes the volume, unless its StorageClass keeps it."""
        name, namespace = self.pvc_name, self.namespace
        try:
            await self.api.delete_namespaced_persistent_volume_claim(name, namespace)
            await self.api.read_namespaced_persistent_volume_claim(name, namespace)
        except ApiException as error:
            if error.status == 404:
                return
            raise Unavailable(f"The claim {name} can't be removed: {sentence(error.reason)}.") from error
        except (aiohttp.ClientError, OSError) as error:
            raise Unavailable(f"The claim {name} can't be removed: {sentence(error)}.") from error
        raise Unavailable(f"The claim {name} is on its way out.")

    async def _their_home(self) -> Home:
        """The folder, and the account as the pod will have it."""
        account = self._account or await self._their_account()
        return Home(self.folder, account.uid, account.gid or account.uid)

    async def _their_account(self) -> Account:
        """As it is configured, by the login, or by a hook before the start."""
        uid, gid, fs_group = [await self._said(name) for name in ("uid", "gid", "fs_gid")]
        if not isinstance(uid, int) or uid < 1:
            raise ConfigurationError(
                [f"c.KubeSpawner.uid is {uid!r}; homes need the number of an account, not root's"]
            )
        groups = set(await self._said("supplemental_gids") or ())
        for context in (await self._said("pod_security_context"), self.extra_pod_config.get("securityContext")):
            groups |= set((context or {}).get("supplementalGroups") or ())
            fs_group = (context or {}).get("fsGroup", fs_group)
        return Account(uid, gid, frozenset(groups), fs_group, of_login=bool(self.uid_from))

    async def _said(self, trait: str) -> Any:
        said = getattr(self, trait)
        return await maybe_future(said(self)) if callable(said) else said

    def get_env(self) -> dict[str, str]:
        """Where shared data are, and where to hand in."""
        env: dict[str, str] = super().get_env()
        places = {one.course: one.place for one in self._hand_in}
        env |= {"MLMP_HAND_IN": json.dumps(places)} if places else {}
        return env | ({"MLMP_SHARED": files.SHARED} if self.files.shared else {})

    def get_state(self) -> dict[str, Any]:
        """What outlives server and hub."""
        state: dict[str, Any] = super().get_state()
        state |= {"hand_in": sorted(self._hand_in_made)} if self._hand_in_made else {}
        return state | ({"home": self._home} if self._home else {})

    def load_state(self, state: dict[str, Any]) -> None:
        """Comes back after a restart of the hub."""
        super().load_state(state)
        self._home = str(state.get("home", ""))
        self._hand_in_made = frozenset(state.get("hand_in", ()))
