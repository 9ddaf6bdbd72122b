"""Registration of a worker as the application service of a homeserver (`docs/protocol.md#registration`)."""

import re
import secrets
from typing import Any

from .secrecy import secret


class ApplicationService:
    """The registration of the worker at `url` with the homeserver `server_name`."""

    def __init__(self, server_name: str, url: str) -> None:
        self._server_name = server_name
        self._url = url
        self._as_token = secret(secrets.token_urlsafe())
        self._hs_token = secret(secrets.token_urlsafe())

    def registration(self) -> dict[str, Any]:
        """Registration file for the homeserver."""
        return {
            "id": "matrixrtc",
            "as_token": self._as_token,
            "hs_token": self._hs_token,
            "sender_localpart": "_matrixrtc",
            "url": None,
            "rate_limited": False,
            "namespaces": {
                "users": [{"exclusive": False, "regex": f"@.*:{re.escape(self._server_name)}"}],
                "aliases": [],
                "rooms": [],
            },
            "io.element.msc4502.scopes": [
                "urn:matrix:client:io.element.msc4502:rooms:is_joined"
            ],
            "io.element.msc4512.proxy_prefix": "rtc/livekit",
            "io.element.msc4512.proxy_url": self._url,
        }

    def variables(self) -> dict[str, str]:
        """Variables for the worker."""
        return {
            "LIVEKIT_AS_TOKEN": self._as_token,
            "LIVEKIT_HS_TOKEN": self._hs_token,
            "LIVEKIT_HS_SERVER_NAME": self._server_name,
        }
