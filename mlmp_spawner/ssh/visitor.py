"""One connection to the gateway, from a stranger at an address to somebody with sessions."""

from __future__ import annotations

import logging
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from typing import Any

import asyncssh
from asyncssh.stream import SSHTCPStreamSession

from mlmp_spawner.client.dial import NoWay
from mlmp_spawner.errors import MLMPError, NotNow, TooManyRequests
from mlmp_spawner.rules.ssh_names import host_of, principal_of, server_of
from mlmp_spawner.ssh.directory import Login, Running, Standing
from mlmp_spawner.ssh.gateway import Gateway, may
from mlmp_spawner.ssh.tunnel import Tunnel
from mlmp_spawner.store.transaction import Busy

log = logging.getLogger("mlmp.ssh")

PORT = 22
"""The port that a server is asked for by: what SSH's clients ask for where nobody says another."""

KEY_REMOVED = "the key was removed"


class Visitor(asyncssh.SSHServer):
    """One connection to the gateway."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._limits = gateway.limits
        self._offered: Login | None = None
        self._offers = 0
        self._tunnels: set[Tunnel] = set()
        self.address = "?"
        self._refused = False
        self._gone = False
        self._name = ""
        self.login: Login | None = None

    # -- coming and going ------------------------------------------------------------------------------------------

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        """Somebody came; nothing is known but the address."""
        self._conn = conn
        self.address = str((conn.get_extra_info("peername") or ["?"])[0])
        try:
            self._limits.came(self)
        except TooManyRequests as error:
            self.turn_away(error.detail)

    def turn_away(self, why: str) -> None:
        """Ends the connection of a stranger, which counts as no failed login."""
        self._refused = True
        log.info("refused from=%s why=%r", self.address, why)
        self._conn.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """They are gone."""
        self._gone = True
        self._limits.went(self)
        self._gateway.guests.discard(self)
        for tunnel in list(self._tunnels):
            tunnel.cut("the client is gone")
        if self.login is not None:
            self._limits.logged_out(self.login.user)
            log.info("gone user=%r from=%s", self.login.name, self.address)
        elif self._name and not self._refused:  # not what only looks whether somebody listens
            self._limits.failed(self.address)
            log.info("no login from=%s user=%r keys=%d", self.address, self._name[:100], self._offers)

    # -- who it is -------------------------------------------------------------------------------------------------

    def begin_auth(self, username: str) -> bool:
        """Everybody has to log in."""
        self._name, self._offered = username, None
        return True

    def public_key_auth_supported(self) -> bool:
        """The one way."""
        return True

    def password_auth_supported(self) -> bool:
        """No."""
        return False

    def kbdint_auth_supported(self) -> bool:
        """No."""
        return False

    async def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        """Whether the key is registered for somebody of this name; whether they hold it, asyncssh sees."""
        self._offers += 1
        if self._offers > 2 * self._limits.settings.keys_per_login:  # each is asked about, then used
            self._conn.disconnect(asyncssh.DISC_NO_MORE_AUTH_METHODS_AVAILABLE, "too many keys were offered")
            return False
        try:
            self._offered = await self._gateway.directory.login(username, key.get_fingerprint())
        except (MLMPError, Busy) as error:
            self._refused = True  # no fault of theirs
            self._conn.disconnect(asyncssh.DISC_SERVICE_NOT_AVAILABLE, f"{error}")
            return False
        return self._offered is not None

    async def auth_completed(self) -> None:
        """They proved that they hold the key that was looked at last."""
        login = self._offered
        self._limits.went(self)
        if login is None or self._conn.get_extra_info("username") != self._name:
            self._conn.abort()
            return
        self.login = login
        self._gateway.guests.add(self)
        log.info("login user=%r key=%s from=%s", login.name, login.fingerprint, self.address)
        try:
            self._limits.logged_in(login.user)
        except TooManyRequests as error:
            self.cut(error.detail)
            return
        with suppress(MLMPError, Busy):
            await self._gateway.directory.used(login)

    # -- where they may go -----------------------------------------------------------------------------------------

    def session_requested(self) -> bool:
        """No shell here.

        :raises asyncssh.ChannelOpenError: saying what to do.
        """
        name = principal_of(self.login.name) if self.login else "NAME"
        raise self._no(f"this is only the way to your servers: ssh -J {name}@GATEWAY {name}")

    def connection_requested(
        self, dest_host: str, dest_port: int, orig_host: str, orig_port: int
    ) -> Coroutine[Any, Any, SSHTCPStreamSession[bytes]]:
        """Only to one's own servers."""
        return self._connect(dest_host, dest_port)

    async def _connect(self, host: str, port: int) -> SSHTCPStreamSession[bytes]:
        login = self.login
        if login is None:
            raise self._no("nobody is logged in")
        try:
            tunnel = await self._dial(login, host, port)
        except (MLMPError, Busy, NoWay) as error:
            why = error.detail if isinstance(error, MLMPError) else str(error)
            log.info("refused user=%r host=%r port=%d from=%s why=%r", login.name, host[:100], port, self.address, why)
            raise self._no(why) from error
        return SSHTCPStreamSession(lambda reader, writer: self._run(tunnel, reader, writer))

    async def _dial(self, login: Login, host: str, port: int) -> Tunnel:
        """A session that is counted, until :meth:`_run` is over; what is refused counts as a try."""
        try:
            self._limits.open(login.user)
            server = server_of(login.name, host)
            if server is None or port != PORT:
                mine = principal_of(login.name)
                raise NotNow(f"only {mine} and {mine}--SERVER, port {PORT}, can be reached through here")
            booked = await self._booked(login, server)
            try:
                way = await self._gateway.dial(login.name, server, booked.token)
            except NoWay as error:
                raise NotNow(_no_way(login.name, server, error)) from error
            if self._gone:
                await way.close()
                raise NotNow("the client is gone")
        except BaseException:
            self._limits.close(login.user)
            raise
        tunnel = Tunnel(login, server, booked, way, opened=self._gateway.now())
        self._tunnels.add(tunnel)
        log.info("opened user=%r server=%r reservation=%s key=%s from=%s", login.name, server, booked.reservation,
                 login.fingerprint, self.address)  # fmt: skip
        return tunnel

    async def _run(self, tunnel: Tunnel, reader: asyncssh.SSHReader[bytes], writer: asyncssh.SSHWriter[bytes]) -> None:
        try:
            await tunnel.run(reader, writer)
        finally:
            self._tunnels.discard(tunnel)
            self._limits.close(tunnel.login.user)

    async def _booked(self, login: Login, server: str) -> Running:
        """:raises MLMPError: this server can't be reached now."""
        standing = await self._gateway.standing(login)
        if standing is None:
            self.cut(KEY_REMOVED)
            raise NotNow(KEY_REMOVED)
        booked = standing.servers.get(server)
        host = host_of(login.name, server)
        if booked is None:
            running = ", ".join(host_of(login.name, name) for name in sorted(standing.servers)) or "none"
            raise NotNow(f"no server of yours runs as {host}; running: {running}. Start it with mlmp start")
        if booked.starting:
            raise NotNow(f"{host} is still starting; try again in a moment")
        if booked.stopping:
            raise NotNow(f"{host} is being stopped: the booking is over")
        if not booked.token:
            raise NotNow(f"{host} was started before this gateway could reach it; stop it and start it again")
        return booked

    def _no(self, why: str) -> asyncssh.ChannelOpenError:
        return asyncssh.ChannelOpenError(asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED, why)

    # -- the end ---------------------------------------------------------------------------------------------------

    def check(self, standings: Mapping[int, Standing] | None, asked: int) -> None:
        """Cuts what may not be any more, by what was so at ``asked`` (ms UTC); None: nobody knows just now."""
        if self.login is None:
            return
        standing = None if standings is None else standings.get(self.login.user)
        if standings is not None and (standing is None or not may(self.login, standing)):
            self.cut(KEY_REMOVED)
            return
        for tunnel in list(self._tunnels):
            if standing is not None and tunnel.opened < asked:
                booked = standing.servers.get(tunnel.server)
                tunnel.end = booked.end if booked else 0
            if tunnel.end <= asked:
                tunnel.cut("the booking is over, or its server was stopped")

    def cut(self, why: str) -> None:
        """Ends the connection with all its sessions at once."""
        log.info("cut user=%r from=%s why=%r", self.login.name if self.login else "", self.address, why)
        for tunnel in list(self._tunnels):
            tunnel.cut(why)
        self._conn.disconnect(asyncssh.DISC_BY_APPLICATION, why)


def _no_way(user: str, server: str, error: NoWay) -> str:
    """What to tell of a server that should run and can't be reached."""
    host = host_of(user, server)
    if error.status == 404:
        return f"{host} runs, but without a way in for SSH: its image lacks it"
    if error.status in (424, 503):
        return f"{host} does not run just now"
    log.error("the way to %s is refused or does not answer: %s", host, error.reason)
    return f"{host} can't be reached just now; try again in a moment"
