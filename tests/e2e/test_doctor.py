"""`cargo xtask doctor` and `configure` with a real homeserver, SFU and service.

The findings are compared for a correct deployment and for one with wrong credentials, to show that the doctor reads
the real servers' responses rightly.
"""

import os
import subprocess

from conftest import ANNOUNCED_URL, Deployment
from parts import doctor
from parts.federation import Federation
from parts.synapse import User


def examine(deployment: Deployment, **changes: str) -> tuple[int, dict[str, dict[str, str]]]:
    """Exit status of the doctor, and its findings by check, with these changes to the environment."""
    variables = deployment.variables | changes
    return doctor.examine(ANNOUNCED_URL, deployment.full_access, deployment.authority, variables)


def test_real_parts_are_found_well(deployment: Deployment) -> None:
    rooms_before = deployment.sfu.rooms()

    code, findings = examine(deployment)

    # Other machines can't reach this one's own addresses, and clients don't trust a service without TLS.
    expected = dict.fromkeys(findings, "ok") | {
        "service-address": "warning",
        "service-certificate": "skipped",
        "sfu": "warning",
        # The doctor reads its variables from the environment here, not from a file.
        "variables": "skipped",
        **dict.fromkeys(doctor.HOMESERVER_MODE, "skipped"),
        **dict.fromkeys(doctor.OF_A_USER + doctor.OF_A_USER_IN_HOMESERVER_MODE, "skipped"),
    }
    assert {check: finding["status"] for check, finding in findings.items()} == expected, findings
    assert code == 0
    assert deployment.sfu.rooms() <= rooms_before


def statuses(findings: dict[str, dict[str, str]], checks: tuple[str, ...]) -> dict[str, str]:
    return {check: findings[check]["status"] for check in checks}


def test_a_user_with_a_password_goes_the_whole_way(deployment: Deployment) -> None:
    user, password = deployment.full_access.registered_with_password("walker")

    _, findings = doctor.examine(
        ANNOUNCED_URL,
        deployment.full_access,
        deployment.authority,
        deployment.variables,
        (user.id, password),
    )

    expected = dict.fromkeys(doctor.OF_A_USER, "ok")
    assert statuses(findings, doctor.OF_A_USER) == expected, findings
    assert "the user may publish" in findings["user-access"]["seen"]
    assert "restarted at once, and sent after" in findings["user-leave"]["seen"]
    skipped = dict.fromkeys(doctor.OF_A_USER_IN_HOMESERVER_MODE, "skipped")
    assert statuses(findings, doctor.OF_A_USER_IN_HOMESERVER_MODE) == skipped
    assert user.joined_rooms() == []
    assert user.devices() == [user.device_id]


def test_a_restricted_user_reads_why(deployment: Deployment, bob: User) -> None:
    homeserver = deployment.restricted
    variables = deployment.variables | {"MATRIX_ACCESS_TOKEN": bob.access_token}

    _, findings = doctor.examine(ANNOUNCED_URL, homeserver, deployment.authority, variables)

    assert findings["user-sfu"]["status"] == "ok", findings
    assert findings["user-access"]["status"] == "warning"
    assert "restricted: " in findings["user-access"]["seen"]
    assert f"{homeserver.name} isn't in" in findings["user-access"]["seen"]
    assert findings["user-leave"]["status"] == "warning", findings


def test_a_user_goes_the_whole_way_in_homeserver_mode(federation: Federation) -> None:
    near, nora = federation.near, federation.nora
    rooms_before = nora.joined_rooms()
    variables = near.variables | {"MATRIX_ACCESS_TOKEN": nora.access_token}

    _, findings = doctor.examine(
        near.worker.url, near.homeserver, federation.authority, variables
    )

    checks = doctor.OF_A_USER + doctor.OF_A_USER_IN_HOMESERVER_MODE
    assert statuses(findings, checks) == dict.fromkeys(checks, "ok"), findings
    assert "restarted at once, and sent after" in findings["user-leave"]["seen"]
    seen = findings["user-homeserver-leave"]["seen"]
    assert "restarted when a webhook had the participant join, and sent" in seen
    assert nora.joined_rooms() == rooms_before
    assert nora.device_id in nora.devices()


def test_a_wrong_key_and_a_wrong_secret_are_told_apart(deployment: Deployment) -> None:
    code, findings = examine(deployment, LIVEKIT_KEY="unknown")
    assert code == 1
    assert "doesn't know the API key" in findings["sfu-keys"]["seen"]

    code, findings = examine(deployment, LIVEKIT_SECRET="not-the-secret-that-it-has-0123456789")
    assert code == 1
    assert "with another secret" in findings["sfu-keys"]["seen"]
    assert "the pair isn't the service's" in findings["webhook"]["seen"]


def test_configure_says_what_is_wrong_with_the_announcement(deployment: Deployment) -> None:
    command = [
        *(os.environ["E2E_XTASK"], "configure", "--domain", "matrix-rtc.example.com"),
        *("--sfu-url", "wss://sfu.example.com", "--homeserver", "example.com", "--placement", "sfu"),
        *("--server-name", deployment.full_access.name),
        *("--trust-ca", str(deployment.authority.pem)),
    ]

    ended = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=True
    )

    assert f"PROBLEM  homeserver: announces the service  {ANNOUNCED_URL} is announced" in ended.stdout
    assert '"livekit_service_url":"https://matrix-rtc.example.com"' in ended.stdout
