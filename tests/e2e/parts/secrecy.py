"""Keeps secrets out of what the tests print."""

import re

_JWT = re.compile(r"eyJ[\w-]+\.[\w-]+\.[\w-]+")
_known: set[str] = set()


def secret(value: str) -> str:
    """Remember `value` as a secret, and return it."""
    _known.add(value)
    return value


def redact(text: str) -> str:
    """`text` without the secrets handed to `secret()` and without anything that looks like a JWT."""
    for value in sorted(_known, key=len, reverse=True):
        text = text.replace(value, "[redacted]")
    return _JWT.sub("[redacted]", text)
