"""Servers that run as users of the system, each in its own account: ``mlmp up --auth pam``.

The hub is root's, and so is ``mlmp run``, which the users can't signal; what it starts is the user's. Nothing in a
home is touched with root's rights: a user could have put a link there.
"""

from __future__ import annotations

import asyncio
import json
import pwd
from contextlib import suppress
from pathlib import Path

from traitlets import Integer, Unicode

from mlmp_spawner import cgroups, gpu_devices, units
from mlmp_spawner.errors import MLMPError, NotAllowed, Unavailable
from mlmp_spawner.operations.courses import guests
from mlmp_spawner.rules.guests import is_guest
from mlmp_spawner.rules.storage import directory_name
from mlmp_spawner.spawners import guest_accounts, hand_in
from mlmp_spawner.spawners.accounts import make_home
from mlmp_spawner.spawners.local import LOOK, MLMPLocalSpawner

_SOCKETS = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_LISTENS = "0A"


class SystemUserSpawner(MLMPLocalSpawner):
    """The spawner of a lab machine: ``c.MLMPLocalSpawner.*`` configures it too."""

    cgroup = Unicode(
        cgroups.NAME,
        help="""Name of the control group at the top of ``/sys/fs/cgroup`` below which each server gets its own, with
        the share of cores and memory that goes with what is booked, and without the GPUs that are not. Empty: none
        is made, nothing is limited.""",
    ).tag(config=True)
    processes = Integer(
        8192, min=16, help="How many processes and threads one server may have, where a control group can be made."
    ).tag(config=True)

    hand_in = Unicode(
        "/var/lib/mlmp-hand-in",
        help="""Directory in which each student of a course hands in, in a directory of their own that only they and
        who runs the course can read. It and all around it is root's alone; its file system has access control
        lists, as ext4, XFS and tmpfs have. Empty: nothing is handed in.""",
    ).tag(config=True)

    _hand_in = ""
    """Where to hand in, as JSON by course."""

    @property
    def account(self) -> pwd.struct_passwd:
        """The user's account on this machine.

        :raises NotAllowed: there is none, or it is root's.
        """
        try:
            found = pwd.getpwnam(self.user.name)
        except KeyError:
            raise NotAllowed(
                f"This machine has no account {self.user.name!r}.", hint="Ask the people who run it for one."
            ) from None
        if found.pw_uid == 0:
            raise NotAllowed(
                f"{self.user.name!r} is the machine's administrator, and its servers are never started.",
                hint="Log in as yourself.",
            )
        return found

    @property
    def home(self) -> Path:
        """The home of the account."""
        return Path(self.account.pw_dir)

    def user_env(self, env: dict[str, str]) -> dict[str, str]:
        """As the account has it."""
        account = self.account
        named = {"USER": account.pw_name, "LOGNAME": account.pw_name, "HOME": account.pw_dir}
        # A guest's account has a shell that lets nobody in from outside.
        shell = "/bin/bash" if is_guest(account.pw_name) else account.pw_shell
        return env | named | {"SHELL": shell or "/bin/sh"}

    async def start(self) -> tuple[str, int]:
        """Starts nothing for who has no account here, before anything is booked. A guest gets one now."""
        try:
            if is_guest(self.user.name):
                await self._make_guest()
            _ = self.account
        except MLMPError as error:
            raise self.explain(error) from None
        return await super().start()

    async def _make_guest(self) -> None:
        """:raises NotAllowed: the guest's time is over."""
        name = self.user.name
        until = await self._ask(lambda site: guests.until(site.engine, name, now=units.now()))
        await asyncio.to_thread(guest_accounts.make, name, until=until)

    async def end_guest(self) -> None:
        """Ends what the account runs, and what it has asked to be run later."""
        await asyncio.to_thread(guest_accounts.leave, self.user.name)

    async def erase_guest(self) -> None:
        """The account, all its files, and what its servers wrote into the log."""
        await asyncio.to_thread(guest_accounts.erase, self.user.name)
        folder, name = self.log_file.parent, directory_name(self.user.name)
        for log in [folder / f"{name}.log", *folder.glob(f"{name}---*.log")]:
            log.unlink(missing_ok=True)

    async def prepare_home(self) -> None:
        """Makes a home where the account has none, for its user's eyes only.

        :raises NotAllowed: it can't be made here.
        """
        try:
            await asyncio.to_thread(make_home, self.account)
        except OSError as error:
            problem = f"Your home {self.home} is not there and can't be made: {error.strerror}."
            raise self.explain(NotAllowed(problem, hint="Ask the people who run this machine to make it.")) from None
        except NotAllowed as error:
            raise self.explain(error) from None
        self._hand_in = await self._make_hand_in()

    async def _make_hand_in(self) -> str:
        """Whatever fails here keeps nobody's server from starting; in JupyterLab it is said that there is no such
        place."""
        if not self.hand_in:
            return ""
        name, account = self.user.name, self.account
        try:
            found = await self._ask(lambda site: hand_in.places(site, name))
            made = await asyncio.to_thread(hand_in.prepare, Path(self.hand_in), account, found)
        except (OSError, MLMPError) as error:
            self.log.warning("%s: nothing can be handed in: %s", self._log_name, error)
            return ""
        return json.dumps(made)

    def get_env(self) -> dict[str, str]:
        """Where to hand in."""
        env = super().get_env()
        return env | ({"MLMP_HAND_IN": self._hand_in} if self._hand_in else {})

    async def guard_options(self) -> list[str]:
        """Who the server runs as, and what it may take."""
        options = [*await super().guard_options(), "--user", self.account.pw_name]
        if not self.cgroup:
            return options
        unit_ids = self._admitted.unit_ids if self._admitted is not None else ()
        denied = await asyncio.to_thread(gpu_devices.not_booked, unit_ids)
        limits = {
            "memory": self._share.memory, "cpus": self._share.cpus, "processes": self.processes, "denied": denied,
        }  # fmt: skip
        return [*options, "--group", self.cgroup, "--limits", json.dumps(limits)]

    async def _until_it_listens(self) -> None:
        """Waits until the server listens, and not somebody else at its port, whom the proxy would show its user.

        :raises MLMPError: another account was quicker.
        """
        while True:
            await super()._until_it_listens()
            owners = await asyncio.to_thread(listeners, self.port)
            if owners == {self.account.pw_uid}:
                return
            if owners:
                self.log.error("port %d of %s was taken by accounts %s", self.port, self._log_name, sorted(owners))
                problem = "Another account of this machine took the port of your server before it could."
                raise self.explain(Unavailable(problem, hint="Start it again. The log of the hub says who it was."))
            await asyncio.sleep(LOOK)

    async def _report_gone(self) -> None:
        if self.server_id and self.cgroup:
            # Empty already, unless its `mlmp run` was killed by force.
            await asyncio.to_thread(cgroups.Group(self.server_id, base=self.cgroup).end)
        await super()._report_gone()


def listeners(port: int) -> set[int]:
    """The accounts (uid) whose processes listen at a TCP port of this machine."""
    found = set()
    for table in _SOCKETS:
        with suppress(FileNotFoundError):  # no IPv6
            for line in table.read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTENS and int(fields[1].rpartition(":")[2], 16) == port:
                    found.add(int(fields[7]))
    return found
