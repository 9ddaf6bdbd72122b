"""Synapse homeservers and their users."""

import secrets
import sqlite3
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

import requests
import yaml
from signedjson.key import generate_signing_key, write_signing_keys

from .application_service import ApplicationService
from .authority import Authority
from .process import Process, eventually
from .secrecy import secret


class Synapse:
    """A homeserver with client-server and federation API on one TLS port.

    Its name includes the port, so that server discovery needs no well-known file and no SRV record. It listens on that
    port, or on `behind` if a proxy listens there. It announces `transport` to clients in both places, if given, federates
    with homeservers whose certificates come from the same authority, and proxies the requests that belong to
    `application_service`, if given.
    """

    def __init__(
        self,
        host: str,
        port: int,
        authority: Authority,
        directory: Path,
        transport: dict[str, str] | None = None,
        behind: int | None = None,
        application_service: ApplicationService | None = None,
    ) -> None:
        self.name = f"{host}:{port}"
        self.url = f"https://{self.name}"
        self._directory = directory / f"synapse-{port}"
        self._directory.mkdir()
        self._database = self._directory / "homeserver.db"
        self._session = requests.Session()
        self._session.verify = str(authority.pem)
        # Otherwise REQUESTS_CA_BUNDLE of the environment would take precedence.
        self._session.trust_env = False
        self._listener = f"https://{host}:{behind or port}"
        self.certificate = authority.issue(host)
        """Files of its certificate and of the key."""
        address = LOOPBACK if host == "localhost" else host
        configuration = self._configuration(address, behind or port, *self.certificate)
        if transport is not None:
            configuration["extra_well_known_client_content"] = {
                "org.matrix.msc4143.rtc_foci": [transport]
            }
            configuration["matrix_rtc"] = {"transports": [transport]}
            configuration["experimental_features"]["msc4143_enabled"] = True
        configuration["federation_custom_ca_list"] = [str(authority.pem)]
        if application_service:
            registration = self._directory / "registration.yaml"
            registration.write_text(yaml.safe_dump(application_service.registration()))
            configuration["app_service_config_files"] = [str(registration)]
            configuration["experimental_features"] |= HOMESERVER_MODE
        (self._directory / "homeserver.yaml").write_text(yaml.safe_dump(configuration))
        (self._directory / "logging.yaml").write_text(yaml.safe_dump(LOGGING))
        with (self._directory / "signing.key").open("w") as signing_key:
            write_signing_keys(signing_key, [generate_signing_key("e2e")])
        self._process = self._start()

    def wait_until_ready(self) -> None:
        self._process.wait_until(self._responds, "it responds")

    def stop(self) -> None:
        """Ends the homeserver's process. `start_again` starts another."""
        self._process.close()

    def start_again(self) -> None:
        self._process = self._start()
        self.wait_until_ready()

    def close(self) -> None:
        self._process.close()

    def register(self, localpart: str, password: str | None = None) -> "User":
        account = self.request(
            "POST",
            "/_matrix/client/v3/register",
            json={
                "username": localpart,
                "password": secret(password or secrets.token_urlsafe()),
                "auth": {"type": "m.login.dummy"},
            },
        )
        return User(self, account["user_id"], account["device_id"], account["access_token"])

    def registered_with_password(self, localpart: str) -> tuple["User", str]:
        """Registers a user, and returns it with its password."""
        password = secret(secrets.token_urlsafe())
        return self.register(localpart, password), password

    def expire(self, openid_token: dict[str, Any]) -> None:
        """Moves the expiry of an OpenID token, an hour away in Synapse, into the past."""
        with sqlite3.connect(self._database, timeout=10) as database:
            expired = database.execute(
                "UPDATE open_id_tokens SET ts_valid_until_ms = 0 WHERE token = ?",
                (openid_token["access_token"],),
            )
        database.close()
        assert expired.rowcount == 1

    def request(self, method: str, path: str, **arguments: Any) -> dict[str, Any]:
        """JSON response to a client-server request that is expected to succeed."""
        response = self.ask(method, path, **arguments)
        assert response.ok, f"{method} {path}: {response.status_code} {response.text}"
        return response.json()

    def ask(self, method: str, path: str, **arguments: Any) -> requests.Response:
        """Response to a client-server request, successful or not."""
        return self._session.request(
            method, self.url + path, timeout=REQUEST_TIMEOUT_SECONDS, **arguments
        )

    def _start(self) -> Process:
        return Process(
            self._directory.name,
            [sys.executable, "-m", "synapse.app.homeserver", "-c", "homeserver.yaml"],
            self._directory,
        )

    def _responds(self) -> bool:
        try:
            return self._session.get(f"{self._listener}/health", timeout=REQUEST_TIMEOUT_SECONDS).ok
        except requests.ConnectionError:
            return False

    def _configuration(
        self, address: str, port: int, certificate: Path, key: Path
    ) -> dict[str, Any]:
        return {
            "server_name": self.name,
            "public_baseurl": self.url,
            "listeners": [
                {
                    "port": port,
                    "bind_addresses": [address],
                    "type": "http",
                    "tls": True,
                    "resources": [{"names": ["client", "federation"]}],
                }
            ],
            "tls_certificate_path": str(certificate),
            "tls_private_key_path": str(key),
            "signing_key_path": str(self._directory / "signing.key"),
            "database": {"name": "sqlite3", "args": {"database": str(self._database)}},
            "media_store_path": str(self._directory / "media"),
            "log_config": str(self._directory / "logging.yaml"),
            "pid_file": str(self._directory / "homeserver.pid"),
            "macaroon_secret_key": secret(secrets.token_urlsafe()),
            "trusted_key_servers": [],
            "federation_ip_range_blacklist": [],
            "report_stats": False,
            "enable_registration": True,
            "enable_registration_without_verification": True,
            "bcrypt_rounds": 4,
            "rc_registration": NO_LIMIT,
            "rc_message": NO_LIMIT,
            "rc_room_creation": NO_LIMIT,
            "rc_delayed_event_mgmt": NO_LIMIT,
            "rc_invites": {"per_room": NO_LIMIT, "per_user": NO_LIMIT, "per_issuer": NO_LIMIT},
            "max_event_delay_duration": "24h",
            # Sticky events, which Element Call's newer mode sends.
            "experimental_features": {"msc4354_enabled": True},
            # Rooms of later versions aren't created for Element Call: its power levels name the creator.
            "default_room_version": "11",
        }


def transport(service_url: str, sfu_url: str | None = None) -> dict[str, str]:
    """Announcement of the service and, for homeserver mode, of its SFU beside it (`docs/protocol.md`)."""
    announced = {"type": "livekit", "livekit_service_url": service_url}
    return announced if sfu_url is None else announced | {"url": sfu_url}


class User:
    """A user with an account, logged in on one device."""

    def __init__(
        self, homeserver: Synapse, user_id: str, device_id: str, access_token: str
    ) -> None:
        self.homeserver = homeserver
        self.id = user_id
        self.device_id = device_id
        self.access_token = secret(access_token)
        self._authorization = {"Authorization": f"Bearer {access_token}"}

    def create_room(self) -> str:
        """Creates a Matrix room, and returns its id."""
        return self.request("POST", "/_matrix/client/v3/createRoom", json={})["room_id"]

    def joined_rooms(self) -> list[str]:
        return self.request("GET", "/_matrix/client/v3/joined_rooms")["joined_rooms"]

    def devices(self) -> list[str]:
        """Ids of the devices that are logged in."""
        devices = self.request("GET", "/_matrix/client/v3/devices")["devices"]
        return [device["device_id"] for device in devices]

    def invite(self, room_id: str, guest: "User") -> None:
        """Makes a user of any homeserver join a room that this user is in."""
        room = f"/_matrix/client/v3/rooms/{quote(room_id)}"
        self.request("POST", f"{room}/invite", json={"user_id": guest.id})
        via = {"via": self.homeserver.name}
        eventually(
            lambda: guest.ask(
                "POST", f"/_matrix/client/v3/join/{quote(room_id)}", params=via, json={}
            ).ok,
            "the guest has joined",
        )

    def ban(self, room_id: str, user: "User") -> None:
        path = f"/_matrix/client/v3/rooms/{quote(room_id)}/ban"
        self.request("POST", path, json={"user_id": user.id})

    def openid_token(self) -> dict[str, Any]:
        """Requests a fresh OpenID token, in the form in which clients pass it on."""
        path = f"/_matrix/client/v3/user/{quote(self.id)}/openid/request_token"
        token = self.request("POST", path, json={})
        secret(token["access_token"])
        return token

    def request(self, method: str, path: str, **arguments: Any) -> dict[str, Any]:
        """Like `Synapse.request`, with this user's access token."""
        return self.homeserver.request(method, path, headers=self._authorization, **arguments)

    def ask(self, method: str, path: str, **arguments: Any) -> requests.Response:
        """Like `Synapse.ask`, with this user's access token."""
        return self.homeserver.ask(method, path, headers=self._authorization, **arguments)


LOOPBACK = "127.0.0.1"
REQUEST_TIMEOUT_SECONDS = 30
HOMESERVER_MODE = {"msc4502_enabled": True, "msc4512_enabled": True}
NO_LIMIT = {"per_second": 1000, "burst_count": 1000}
LOGGING = {
    "version": 1,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"}},
    "handlers": {"log": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"level": "WARNING", "handlers": ["log"]},
    "loggers": {"synapse.access": {"level": "INFO"}},
    "disable_existing_loggers": False,
}
