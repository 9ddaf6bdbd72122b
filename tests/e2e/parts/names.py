"""Names on the SFU, computed independently of the worker (MSC4195)."""

import base64
import hashlib
import json


def digest(*strings: str) -> str:
    """SHA-256 over the canonical JSON array of the strings, in base64 without padding."""
    canonical = json.dumps(strings, ensure_ascii=False, separators=(",", ":"))
    sha256 = hashlib.sha256(canonical.encode()).digest()
    return base64.b64encode(sha256).decode().rstrip("=")
