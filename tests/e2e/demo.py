"""Program behind `cargo xtask demo`: a call between real parts, from an OpenID token to a killed client's leave.

How it works:
- `Demo` starts a homeserver, an SFU and the service, each behind a port of `Wire`, which observes the requests.
- `Demo.run` acts as Alice's client, step by step; `Narration` prints each step and the observed requests under it.
- A step that depends on another part ends when its request has been observed, or the demo fails.
- With `--keep`, everything stays up afterwards, and the commands to try are printed.
"""

import argparse
import base64
import json
import secrets
import signal
import socket
import sys
import tempfile
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from time import monotonic

from parts.authority import Authority
from parts.delayed_leave import DelayedLeave
from parts.livekit_server import LivekitServer
from parts.member import Member
from parts.narration import HOMESERVER, SERVICE, SFU, Condition, Narration
from parts.participant import Participant
from parts.process import Process
from parts.secrecy import redact
from parts.service import configuration, serve
from parts.synapse import Synapse, transport
from parts.wire import Exchange, Wire


def main() -> int:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--keep", action="store_true")
    keep = arguments.parse_args().keep
    # Every way to end the demo, closing its terminal included, ends its parts in order.
    for ending in ENDINGS:
        signal.signal(ending, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="matrixrtc-edge-demo-") as directory:
        running = ExitStack()
        try:
            demo = Demo(Path(directory), running)
            demo.run()
            if keep:
                demo.invite()
                with suppress(KeyboardInterrupt):
                    signal.pause()
            return 0
        except KeyboardInterrupt:
            print("\nstopping all parts", flush=True)
            return INTERRUPTED
        except AssertionError as failure:
            print(redact(f"\nerror: {failure}"), file=sys.stderr)
            for process in Process.started:
                print(f"\nlast lines of {process.log}:", file=sys.stderr)
                print(process.log_tail(LOG_LINES), file=sys.stderr)
            return 1
        finally:
            # Stopping the parts takes milliseconds; another signal mustn't interrupt it.
            for ending in ENDINGS:
                signal.signal(ending, signal.SIG_IGN)
            running.close()


class Demo:
    """A homeserver, an SFU and the service on loopback, and the wire that observes the requests between them."""

    def __init__(self, directory: Path, running: ExitStack) -> None:
        self._directory = directory
        self._running = running
        self._narration = Narration()
        self._password = secrets.token_urlsafe(9)
        self._authority = Authority(directory)
        began = monotonic()
        self._narration.say("… starting Synapse, LiveKit and the service on 127.0.0.1")

        *ports, synapse_port, livekit_port, worker_port = free_ports(6)
        homeserver_port, sfu_port, service_port = ports
        service_url = f"http://127.0.0.1:{service_port}"
        self._homeserver = running.enter_context(
            closing(
                Synapse(
                    "localhost",
                    homeserver_port,
                    self._authority,
                    directory,
                    transport(service_url),
                    behind=synapse_port,
                )
            )
        )
        livekit = running.enter_context(
            closing(
                LivekitServer(livekit_port, [f"{service_url}/sfu_webhook"], directory, "127.0.0.1")
            )
        )
        self._sfu_url = f"ws://127.0.0.1:{sfu_port}"
        variables = configuration(livekit, self._homeserver) | {"LIVEKIT_URL": self._sfu_url}
        worker = running.enter_context(
            closing(serve(worker_port, variables, self._authority, directory))
        )
        self._service = worker.behind(service_url)

        wire = running.enter_context(closing(Wire(self._observe)))
        certificate, authority = self._homeserver.certificate, self._authority.pem
        synapse_url = f"https://localhost:{synapse_port}"
        wire.tap(HOMESERVER, homeserver_port, synapse_url, certificate, authority)
        wire.tap(SFU, sfu_port, livekit.url.replace("ws:", "http:"))
        wire.tap(SERVICE, service_port, worker.url)
        for part in (livekit, worker, self._homeserver):
            part.wait_until_ready()
        self._narration.say(f"✓ all of them respond ({monotonic() - began:.1f} s)")

    def run(self) -> None:
        """Goes through the call, step by step."""
        step, say, wait_for = self._narration.step, self._narration.say, self._narration.wait_for

        step("Alice registers an account on the homeserver, and creates a Matrix room.")
        alice = self._homeserver.register("alice", self._password)
        self._room_id = alice.create_room()
        member = Member(alice, self._room_id)

        step("Her client requests from the homeserver where the service is.")
        transports = alice.request("GET", TRANSPORTS)["rtc_transports"]
        assert transports == [transport(self._service.url)], "the service isn't announced"

        step("It requests an OpenID token, which proves her identity and nothing else.")
        openid_token = alice.openid_token()

        step(
            "It exchanges the OpenID token for a LiveKit token."
            " The service verifies it with her homeserver, and creates the room on the SFU."
        )
        response = self._service.ask(member, openid_token)
        assert response.status_code == 200, response.text
        grant = response.json()
        payload = grant["jwt"].split(".")[1]
        say("\n   The LiveKit token contains:\n")
        self._narration.show(json.loads(base64.urlsafe_b64decode(payload + "==")))

        step("With that token the client, LiveKit's native one in a process of its own, joins the call.")
        participant = self._running.enter_context(closing(Participant(grant, self._directory)))
        wait_for(CONNECTED, webhook("participant_joined"))

        step(
            "It sends its membership to the Matrix room, and schedules the end of it at the homeserver:"
            " a delayed leave, which is sent after an hour unless it is restarted."
        )
        leave = DelayedLeave(alice, self._room_id, HOUR_MS)

        step(
            "It delegates the delayed leave. The service finds the client on the SFU, and restarts the hour;"
            " the next restart would be in 48 minutes."
        )
        delegation = member.request(openid_token) | leave.delegation
        response = self._service.post("/delegate_delayed_leave", delegation)
        assert response.status_code == 200, response.text
        wait_for("the service restarts the delayed leave", delayed_event("restart"))

        step("The client is killed (kill -9), without a chance to leave the call.")
        participant.kill()
        killed = self._narration.elapsed()
        say("   Although its connections are closed, the SFU waits about 20 s for it to reconnect.\n")
        gone = wait_for("the SFU reports that the client has left", webhook("participant_left"), 60)
        wait_for("the service sends the leave", delayed_event("send"))

        step("The leave is in the Matrix room.")
        assert leave.is_sent(), "the leave isn't in the Matrix room's state"
        read = self._narration.elapsed()
        say(
            f"\n   {gone - killed:.1f} s after the kill the SFU notified the service,"
            f" and {read - gone:.1f} s later Alice had left the call."
            "\n   Without the service, she would have stayed in it, unreachable, for an hour."
        )

    def invite(self) -> None:
        """Prints the addresses of the parts, and commands to try."""
        user_id = f"@alice:{self._homeserver.name}"
        self._narration.say(
            f"""
Everything keeps running, and requests to it are shown here.

   homeserver   {self._homeserver.url}, with alice's password {self._password}
   SFU          {self._sfu_url}
   service      {self._service.url}
   logs         {self._directory}

In another terminal:

   export CURL_CA_BUNDLE={self._authority.pem}
   field() {{ python3 -c "import json, sys; print(json.load(sys.stdin)['$1'])"; }}

   # Alice logs in, and requests an OpenID token
   ACCESS_TOKEN=$(curl -sS {self._homeserver.url}/_matrix/client/v3/login -d '{{"type": "m.login.password",
     "identifier": {{"type": "m.id.user", "user": "alice"}}, "password": "{self._password}"}}' | field access_token)
   OPENID_TOKEN=$(curl -sS -H "Authorization: Bearer $ACCESS_TOKEN" -d '{{}}' \\
     {self._homeserver.url}/_matrix/client/v3/user/{user_id}/openid/request_token)

   # The service exchanges it for a LiveKit token
   curl -sS -i {self._service.url}/sfu/get -d "{{\\"room\\": \\"{self._room_id}\\", \\"device_id\\": \\"PHONE\\", \\"openid_token\\": $OPENID_TOKEN}}"

   # It rejects a wrong one
   curl -sS -i {self._service.url}/sfu/get -d '{{"room": "{self._room_id}", "device_id": "PHONE", "openid_token":
     {{"access_token": "wrong", "token_type": "Bearer", "matrix_server_name": "{self._homeserver.name}", "expires_in": 3600}}}}'

Ctrl-C ends it."""
        )

    def _observe(self, exchange: Exchange) -> None:
        # The demo's own polls of the delayed event aren't shown.
        if not (exchange.method == "GET" and "/delayed_events/" in exchange.url.path):
            self._narration.observe(exchange)


def webhook(event: str) -> Condition:
    """Condition that the SFU has sent a webhook of this event, and the service has accepted it."""
    return lambda exchange: (
        exchange.url.path == "/sfu_webhook"
        and exchange.status == 200
        and json.loads(exchange.body).get("event") == event
    )


def delayed_event(action: str) -> Condition:
    """Condition that the homeserver has accepted this action, such as `restart`, on a delayed event."""
    return lambda exchange: (
        exchange.url.path.endswith(f"/{action}")
        and "/delayed_events/" in exchange.url.path
        and exchange.status == 200
    )


def free_ports(count: int) -> list[int]:
    """Finds unused ports of loopback."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in sockets]


CONNECTED = "the client connects, for which LiveKit's needs a network interface beside loopback"
TRANSPORTS = "/_matrix/client/unstable/org.matrix.msc4143/rtc/transports"
HOUR_MS = 3_600_000
LOG_LINES = 20
ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
INTERRUPTED = 130

if __name__ == "__main__":
    sys.exit(main())
