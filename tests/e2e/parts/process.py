"""Processes of the parts, with their output in log files."""

import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from .secrecy import redact

T = TypeVar("T")


def eventually(probe: Callable[[], T], what: str, within: float = 30.0) -> T:
    """Calls `probe` until its result is truthy, and returns that. Fails with `what` after `within` seconds."""
    deadline = time.monotonic() + within
    while not (result := probe()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within:g} s: {what}")
        time.sleep(POLL_SECONDS)
    return result


class Process:
    """A running process. It leads a process group, so that its children end with it.

    If this program ends without ending the process, the kernel sends it `last_signal`.
    """

    started: list["Process"] = []
    """Processes that haven't been closed yet. Their logs explain a failure."""

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        directory: Path,
        environment: Mapping[str, str] | None = None,
        last_signal: str = "KILL",
    ) -> None:
        self.name = name
        self.log = directory / f"{name}.log"
        with self.log.open("ab") as log:
            self._popen = subprocess.Popen(
                ["setpriv", "--pdeathsig", last_signal, *command],
                cwd=directory,
                env={**os.environ, **(environment or {})},
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        Process.started.append(self)

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        """Waits for `condition()`, described by `what`. Fails at once if the process has ended."""

        def done_or_ended() -> bool:
            if self.has_ended():
                raise AssertionError(f"{self.name} ended with status {self._popen.returncode}")
            return condition()

        eventually(done_or_ended, f"{self.name}: {what}", within=120.0)

    def has_ended(self) -> bool:
        return self._popen.poll() is not None

    def write_line(self, line: str) -> None:
        """Writes a line to the process's standard input."""
        assert self._popen.stdin is not None
        self._popen.stdin.write(line.encode() + b"\n")
        self._popen.stdin.flush()

    def signal(self, number: signal.Signals) -> int:
        """Sends a signal to the process alone, and returns its exit status."""
        self._popen.send_signal(number)
        return self._popen.wait(PATIENCE_SECONDS)

    def kill(self) -> None:
        """Ends the process and all of its group, as a crash would."""
        with suppress(ProcessLookupError):
            os.killpg(self._popen.pid, signal.SIGKILL)
        self._popen.wait()

    def close(self) -> None:
        """Kills the process, as it has no state to save. Its log no longer appears in reports."""
        self.kill()
        if self._popen.stdin is not None:
            self._popen.stdin.close()
        Process.started.remove(self)

    def log_tail(self, lines: int) -> str:
        with self.log.open(errors="replace") as log:
            return redact("".join(deque(log, maxlen=lines)))


POLL_SECONDS = 0.05
PATIENCE_SECONDS = 30
