"""Fixtures of the end-to-end tests: real parts, running. `cargo xtask e2e` installs them and calls pytest.

How it works:
- `deployment` runs for the whole session: two homeservers, an SFU and the worker. Users are registered on it once.
- So does `federation`, from its first test on: two homeservers in homeserver mode, each with an SFU and a worker.
- `service` runs a test twice: with the worker in workerd alone, and with `wrangler dev`.
- `member_type` runs a test twice: for clients of `/get_token`, and for those of `/sfu/get`.
- A failure's report ends with the last log lines of all parts, without secrets.
"""

import os
import signal
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from parts.authority import Authority
from parts.configure import livekit_fragment
from parts.federation import Federation
from parts.livekit_server import LivekitServer
from parts.member import LegacyMember, Member, MemberType
from parts.participant import Join, Participant
from parts.process import Process
from parts.secrecy import redact
from parts.service import Service, configuration, serve, wrangler_dev
from parts.synapse import Synapse, User, transport
from parts.tab import Tab
from parts.wire import Exchange, Wire


class Deployment:
    """Two homeservers, an SFU that posts its webhooks to the worker, and the worker in workerd alone.

    The users of the first homeserver have full access. One homeserver's name is a host name and the other's an
    IP address, each with a port. Both announce the worker, behind a proxy that observes the requests. The SFU posts its
    webhooks there, too; it is configured as `configure` writes it.
    """

    def __init__(self, directory: Path, running: ExitStack) -> None:
        self.authority = Authority(directory)
        self.full_access = running.enter_context(
            closing(Synapse("localhost", 8448, self.authority, directory, transport(ANNOUNCED_URL)))
        )
        address = os.environ["E2E_ADDRESS"]
        self.restricted = running.enter_context(
            closing(Synapse(address, 8449, self.authority, directory, transport(ANNOUNCED_URL)))
        )
        webhook_url = f"{ANNOUNCED_URL}/sfu_webhook"
        fragment = livekit_fragment(directory)
        self.sfu = running.enter_context(
            closing(LivekitServer(7880, [webhook_url], directory, fragment=fragment))
        )
        self.variables = configuration(self.sfu, self.full_access)
        self.worker = running.enter_context(
            closing(serve(WORKER_PORT, self.variables, self.authority, directory))
        )
        self.observed: list[Exchange] = []
        """Requests to the announced URL, each of them again with its response."""
        wire = running.enter_context(closing(Wire(self.observed.append)))
        wire.tap("service", PROXY_PORT, self.worker.url)
        for part in (self.sfu, self.worker, self.full_access, self.restricted):
            part.wait_until_ready()


def pytest_configure() -> None:
    """Makes SIGTERM end the session in order, as SIGINT does."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@pytest.fixture(scope="session")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory for the files and logs of the parts that run for the whole session."""
    return tmp_path_factory.mktemp("deployment")


@pytest.fixture(scope="session")
def running() -> Iterator[ExitStack]:
    """Closes parts at the end of the session, not earlier: a failed set-up needs their logs."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture(scope="session")
def deployment(directory: Path, running: ExitStack) -> Deployment:
    return Deployment(directory, running)


@pytest.fixture(scope="session")
def federation(tmp_path_factory: pytest.TempPathFactory, running: ExitStack) -> Federation:
    return Federation(tmp_path_factory.mktemp("federation"), running)


@pytest.fixture
def worker(deployment: Deployment) -> Service:
    return deployment.worker


@pytest.fixture(scope="session")
def wrangler(deployment: Deployment, directory: Path, running: ExitStack) -> Service:
    """The same deployment's worker under `wrangler dev`."""
    service = running.enter_context(
        closing(wrangler_dev(WRANGLER_PORT, deployment.variables, deployment.authority, directory))
    )
    service.wait_until_ready()
    return service


@pytest.fixture(params=["worker", "wrangler"])
def service(request: pytest.FixtureRequest) -> Service:
    """The worker in workerd alone and under `wrangler dev`, one after the other."""
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session")
def sfu(deployment: Deployment) -> LivekitServer:
    return deployment.sfu


@pytest.fixture(scope="session")
def alice(deployment: Deployment) -> User:
    """A full-access user."""
    return deployment.full_access.register("alice")


@pytest.fixture(scope="session")
def carol(deployment: Deployment) -> User:
    """Another full-access user."""
    return deployment.full_access.register("carol")


@pytest.fixture(scope="session")
def bob(deployment: Deployment) -> User:
    """A restricted user."""
    return deployment.restricted.register("bob")


@pytest.fixture(params=[Member, LegacyMember], ids=lambda member_type: member_type.path)
def member_type(request: pytest.FixtureRequest) -> MemberType:
    """Clients of both token endpoints, one after the other."""
    return request.param


@pytest.fixture
def join(tmp_path: Path) -> Iterator[Join]:
    """Starts participants that end with the test."""
    with ExitStack() as running:
        yield lambda grant: running.enter_context(closing(Participant(grant, tmp_path)))


@pytest.fixture
def tabs(tmp_path: Path) -> Iterator[Any]:
    """Opens browsers that end with the test."""
    with ExitStack() as running:
        yield lambda *flags: running.enter_context(closing(Tab(tmp_path, *flags)))


@pytest.fixture(scope="session")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with closing(Tab(tmp_path_factory.mktemp("tab"))) as tab:
        yield tab


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Adds the parts' last log lines to a failure's report, and removes secrets from it."""
    report = yield
    if report.failed:
        shown = str(report.longrepr)
        if (redacted := redact(shown)) != shown:
            report.longrepr = redacted
        for process in Process.started:
            report.sections.append((f"last lines of {process.log}", process.log_tail(LOG_LINES)))
    return report


WORKER_PORT = 8787
WRANGLER_PORT = 8788
PROXY_PORT = 8786
ANNOUNCED_URL = f"http://127.0.0.1:{PROXY_PORT}"
LOG_LINES = 30
