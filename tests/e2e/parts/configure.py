"""`cargo xtask configure`, which writes the SFU's part of a deployment."""

import os
import subprocess
from pathlib import Path
from typing import Any

import yaml


def livekit_fragment(directory: Path) -> dict[str, Any]:
    """The fragment of LiveKit's configuration that is written, with a new pair of API key and secret."""
    written = directory / "configured"
    command = [
        *(os.environ["E2E_XTASK"], "configure", "--domain", "matrix-rtc.example.com"),
        *("--sfu-url", "wss://sfu.example.com", "--homeserver", "example.com"),
        *("--placement", "sfu", "--write", str(written)),
    ]
    subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=True)
    return yaml.safe_load((written / "livekit-fragment.yaml").read_text())
