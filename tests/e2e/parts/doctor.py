"""`cargo xtask doctor`, for deployments in this machine's own network."""

import json
import os
import subprocess
from collections.abc import Mapping

from .authority import Authority
from .secrecy import redact
from .synapse import Synapse


def examine(
    url: str,
    homeserver: Synapse,
    authority: Authority,
    variables: Mapping[str, str],
    login: tuple[str, str] | None = None,
) -> tuple[int, dict[str, dict[str, str]]]:
    """Exit status of the doctor, and its findings by check, for the service at `url` with these variables.

    `login` is a user and the password, which the doctor reads from its standard input.
    """
    command = [
        *(os.environ["E2E_XTASK"], "doctor", url, "--json", "--allow-private-addresses"),
        *("--server-name", homeserver.name, "--trust-ca", str(authority.pem)),
        *(("--login", login[0]) if login else ()),
    ]
    ended = subprocess.run(
        command,
        env=os.environ | dict(variables),
        input=login[1] + "\n" if login else "",
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    output = ended.stdout + ended.stderr
    assert redact(output) == output, "a secret is in the doctor's output"
    findings = json.loads(ended.stdout)["findings"]
    return ended.returncode, {finding["check"]: finding for finding in findings}


OF_A_USER = (
    "user",
    "user-transports",
    "user-open-id",
    "user-room",
    "user-get-token",
    "user-sfu-get",
    "user-sfu",
    "user-access",
    "user-leave",
    "user-room-left",
    "user-logout",
)
"""Checks of a user's way."""

OF_A_USER_IN_HOMESERVER_MODE = (
    "user-homeserver-token",
    "user-homeserver-sfu",
    "user-homeserver-leave",
)
"""Checks of a user's way in homeserver mode only."""

HOMESERVER_MODE = ("ping", "as-token", "is-joined", "transports", "proxying")
"""Checks of homeserver mode only."""
