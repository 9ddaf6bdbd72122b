"""Tests of `cargo xtask demo`: its narration shows what happens and no secret, and it leaves nothing behind.

The tests run the demo as a process, compare its output, try the commands that it prints, and end it by signals. A mark
in the environment finds every process that it has started.
"""

import re
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest

from parts.process import Process, eventually

Start = Callable[..., "Demo"]


class Demo:
    """A running demo."""

    def __init__(self, directory: Path, *arguments: str, **environment: str) -> None:
        self.files = directory / "files"
        self.files.mkdir()
        self._mark = f"DEMO_UNDER_TEST={uuid.uuid4()}"
        name, value = self._mark.split("=")
        self.process = Process(
            "demo",
            [sys.executable, Path(__file__).with_name("demo.py"), *arguments],
            directory,
            {name: value, "TMPDIR": str(self.files)} | environment,
        )

    def output(self) -> str:
        return self.process.log.read_text()

    def wait_for_output(self, text: str) -> None:
        self.process.wait_until(lambda: text in self.output(), text)

    def parts(self) -> list[str]:
        """Command lines of the demo and of every process that it has started."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            # The process may end meanwhile.
            with suppress(FileNotFoundError, ProcessLookupError, PermissionError):
                if self._mark.encode() in (process / "environ").read_bytes():
                    found.append((process / "cmdline").read_text().replace("\0", " "))
        return found


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts demos that end with the test."""
    with ExitStack() as running:

        def started(*arguments: str, **environment: str) -> Demo:
            demo = Demo(tmp_path, *arguments, **environment)
            running.enter_context(closing(demo.process))
            return demo

        yield started


def test_the_demo_tells_its_story_and_stays_for_a_look_around(start: Start) -> None:
    demo = start("--keep")

    demo.wait_for_output("Ctrl-C ends it.")

    story, invitation = demo.output().split("Everything keeps running")
    for expected in (
        '"livekit_service_url": "http://127.0.0.1:',
        "/openid/request_token",
        "service → homeserver  GET https://localhost:",
        '"roomJoin": true',
        '"event": "participant_joined"',
        "/restart",
        '"disconnectReason": "CONNECTION_TIMEOUT"',
        "/send",
        "The leave is in the Matrix room.",
    ):
        assert expected in story, expected
    assert not re.search(r"eyJ[\w-]{10,}", story)
    assert not re.search(r"\bsy[dt]_\w{10,}", story)
    password = re.search(r"alice's password (\S+)", invitation)
    assert password is not None and password[1] not in story

    commands = invitation.split("In another terminal:")[1].split("Ctrl-C")[0]
    tried = subprocess.run(["sh", "-eu", "-c", commands], capture_output=True, text=True, timeout=60)
    assert tried.returncode == 0, tried.stderr
    accepted, refused = tried.stdout.split("HTTP/1.1 ")[1:]
    assert accepted.startswith("200 OK") and '"jwt":"eyJ' in accepted
    assert refused.startswith("401 Unauthorized") and "M_UNAUTHORIZED" in refused

    assert demo.process.signal(signal.SIGINT) == 0
    assert not demo.parts()
    assert not list(demo.files.iterdir())


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_demo_that_is_ended_leaves_nothing(start: Start, ending: signal.Signals) -> None:
    demo = start()
    demo.wait_for_output("The client is killed")
    assert {"workerd", "livekit-server", "synapse"} <= named(demo.parts())

    assert demo.process.signal(ending) == 130

    assert not demo.parts()
    assert not list(demo.files.iterdir())


def test_what_a_killed_demo_started_ends_by_itself(start: Start) -> None:
    demo = start()
    demo.wait_for_output("The client is killed")

    demo.process.signal(signal.SIGKILL)

    with suppress(AssertionError):
        eventually(lambda: not demo.parts(), "all processes have ended")
    assert not demo.parts()


def test_a_demo_that_fails_says_what_failed_and_leaves_nothing(start: Start) -> None:
    demo = start(E2E_LIVEKIT_SERVER="false")

    eventually(demo.process.has_ended, "the demo has ended")

    assert "error: livekit-" in demo.output()
    assert not demo.parts()
    assert not list(demo.files.iterdir())


def named(command_lines: list[str]) -> set[str]:
    """Returns the parts of the demo that are among these processes."""
    parts = ("workerd", "livekit-server", "synapse")
    return {part for part in parts if any(part in line for line in command_lines)}
