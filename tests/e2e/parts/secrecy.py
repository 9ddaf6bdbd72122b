"""Removal of secrets from the tests' output."""

import re

_JWT = re.compile(r"eyJ[\w-]+\.[\w-]+\.[\w-]+")
_known: set[str] = set()


def secret(value: str) -> str:
    """Registers `value` as a secret, and returns it."""
    _known.add(value)
    return value


def redact(text: str) -> str:
    """Returns `text` without the secrets registered by `secret()`, and without strings in the form of a JWT."""
    for value in sorted(_known, key=len, reverse=True):
        text = text.replace(value, "[redacted]")
    return _JWT.sub("[redacted]", text)
