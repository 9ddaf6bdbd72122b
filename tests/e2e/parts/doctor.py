"""`cargo xtask doctor`, for deployments in this machine's own network."""

import json
import os
import subprocess
from collections.abc import Mapping

from .authority import Authority
from .synapse import Synapse


def examine(
    url: str, homeserver: Synapse, authority: Authority, variables: Mapping[str, str]
) -> tuple[int, dict[str, dict[str, str]]]:
    """Exit status of the doctor, and its findings by check, for the service at `url` with these variables."""
    command = [
        *(os.environ["E2E_XTASK"], "doctor", url, "--json", "--allow-private-addresses"),
        *("--server-name", homeserver.name, "--trust-ca", str(authority.pem)),
    ]
    ended = subprocess.run(
        command,
        env=os.environ | dict(variables),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    findings = json.loads(ended.stdout)["findings"]
    return ended.returncode, {finding["check"]: finding for finding in findings}


HOMESERVER_MODE = ("ping", "as-token", "is-joined", "transports", "proxying")
"""Checks of homeserver mode only."""
