"""Tokens by which the pods of an attempt fetch its code and send what it measured, and may do nothing else.

A token is worked out anew from the attempt's id, so nothing of it is kept. It is good for as long as the service takes
calls for that attempt.
"""

from __future__ import annotations

import hashlib
import hmac


class PodTokens:
    """Makes tokens, and knows its own again.

    :param secret: of the service, the same after a restart; tokens of another one are not good.
    """

    def __init__(self, secret: bytes) -> None:
        if not secret:
            raise ValueError("without a secret anybody could make tokens")
        self._key = hmac.new(secret, b"mlmp job pods", hashlib.sha256).digest()

    def make(self, attempt: str) -> str:
        """The token of an attempt's pods."""
        return hmac.new(self._key, f"job pod {attempt}".encode(), hashlib.sha256).hexdigest()

    def good(self, attempt: str, token: str) -> bool:
        """Whether a token is that of this attempt."""
        return hmac.compare_digest(self.make(attempt).encode(), token.encode("utf-8", "surrogatepass"))
