"""A firewall that closes ports: packets to them are lost without an answer.

A routing rule sends such packets out of an interface at whose other end nobody takes them. The table
of the machine's own addresses comes after these rules, not first.
"""

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

FROM_CLIENTS = "32768-60999"
"""Ports from which Linux sends where a program asks for none."""


@contextmanager
def closed(udp: Sequence[int] = (), tcp: Sequence[int] = ()) -> Iterator[None]:
    """Closes ports of this machine to clients. Who sends from a port below 32768 reaches them."""
    _set_up()
    ports = [("udp", port) for port in udp] + [("tcp", port) for port in tcp]
    rules = [
        ["pref", "50", "ipproto", protocol, "dport", str(port), "sport", FROM_CLIENTS]
        for protocol, port in ports
    ]
    for rule in rules:
        _ip("rule", "add", *rule, "table", TABLE)
    try:
        yield
    finally:
        for rule in rules:
            _ip("rule", "delete", *rule, "table", TABLE)


def _set_up() -> None:
    if _ip("rule", "list", "table", "local", "pref", "0"):
        nowhere = ["lladdr", "02:00:00:00:00:01", "dev", "e2e", "nud", "permanent"]
        _ip("neighbour", "add", os.environ["E2E_ADDRESS"], *nowhere)
        _ip("route", "add", "default", "dev", "e2e", "table", TABLE)
        _ip("rule", "add", "pref", "100", "table", "local")
        _ip("rule", "delete", "pref", "0")


def _ip(*arguments: str) -> str:
    ended = subprocess.run(["ip", *arguments], capture_output=True, text=True, timeout=10)
    assert ended.returncode == 0, f"ip {' '.join(arguments)}: {ended.stderr}"
    return ended.stdout


TABLE = "77"
