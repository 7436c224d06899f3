"""What Spark's processes read at their start: a directory of one account's own, with the secrets of one session.

A secret on a command line is seen by everybody on the machine; Spark reads ``spark-defaults.conf`` in the directory
that ``SPARK_CONF_DIR`` names.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import json
from collections.abc import Mapping
from pathlib import Path

from mlmp_spawner.errors import Invalid

UI_FILTER = "org.apache.spark.ui.JWSFilter"
"""Of Spark 4 itself: no page is answered without a token that was signed with the session's key."""

_LOGGING = """\
rootLogger.level = warn
rootLogger.appenderRef.stderr.ref = console
appender.console.type = Console
appender.console.name = console
appender.console.target = SYSTEM_ERR
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{HH:mm:ss} %p %c{1}: %m%n%ex
logger.native.name = org.apache.hadoop.util.NativeCodeLoader
logger.native.level = error
logger.master.name = org.apache.spark.deploy.master.Master
logger.master.level = error
"""
"""What a notebook is to show of the driver: warnings, but neither that a library for Hadoop is missing, nor that the
executors are not there before they are."""

_ENCRYPTED = {"spark.network.crypto.enabled": "true", "spark.network.crypto.cipher": "AES/GCM/NoPadding"}


def closed(secret: str, host: str) -> dict[str, str]:
    """Settings with which nobody without ``secret`` joins, listens, or sees a page.

    :param host: the own address. What leaves the machine is encrypted; what does not could be read by root alone, who
        reads the processes' memory as well, and to encrypt it makes many small tasks slower by a tenth. For the same
        reason Spark's temporary files, in directories of their owner's alone, are not encrypted.
    """
    return (_ENCRYPTED if not ipaddress.ip_address(host).is_loopback else {}) | {
        "spark.authenticate": "true",
        "spark.authenticate.secret": secret,
        "spark.ui.filters": UI_FILTER,
        f"spark.{UI_FILTER}.param.secretKey": _base64(_ui_key(secret)),
        "spark.master.rest.enabled": "false",
    }


def ui_token(secret: str) -> str:
    """What opens the pages, as ``Authorization: Bearer …`` (RFC 7515, HS256)."""
    said = f"{_base64(json.dumps({'alg': 'HS256'}).encode())}.{_base64(json.dumps({'sub': 'mlmp'}).encode())}"
    return f"{said}.{_base64(hmac.digest(_ui_key(secret), said.encode(), 'sha256'))}"


def checked(settings: Mapping[str, str]) -> dict[str, str]:
    """The same. :raises Invalid: a setting can't stand in Spark's file."""
    for name, value in settings.items():
        if not name.startswith("spark.") or any(sign in name + value for sign in "\r\n\\") or name.split() != [name]:
            raise Invalid.field(f"conf: {name[:60]}", "a setting is spark.NAME, and has one line without backslashes")
    return dict(settings)


def write(directory: Path, settings: Mapping[str, str]) -> None:
    """Makes the directory, which nobody else may enter, and the file in it.

    :raises Invalid: a setting can't stand in such a file.
    """
    settings = checked(settings)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory.chmod(0o700)
    lines = "".join(f"{name} {value}\n" for name, value in settings.items())
    _write_own(directory / "spark-defaults.conf", lines)


def quiet(directory: Path) -> None:
    """Has who starts with this directory print warnings alone."""
    _write_own(directory / "log4j2.properties", _LOGGING)


def _write_own(file: Path, text: str) -> None:
    file.touch(mode=0o600)
    file.write_text(text)


def _ui_key(secret: str) -> bytes:
    return hashlib.sha256(f"ui:{secret}".encode()).digest()


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
