"""A participant in a call: LiveKit's native client in a process of its own, which can be killed.

The second half of this file runs in that process (`python -m parts.participant EVENTS`). It reads URL and token,
and then orders, from standard input, and writes each event to the file EVENTS as a line.
"""

import asyncio
import json
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from livekit import rtc
from livekit.rtc.participant import PublishTrackError

from .process import Process, eventually
from .secrecy import secret


class Participant:
    """A participant that joins a call with a token endpoint's response."""

    def __init__(self, grant: dict[str, str], directory: Path) -> None:
        name = f"participant-{uuid.uuid4()}"
        self._events = directory / f"{name}.events"
        self._events.touch()
        self._process = Process(
            name,
            [sys.executable, "-m", "parts.participant", self._events],
            directory,
            {"PYTHONPATH": str(Path(__file__).parent.parent)},
        )
        secret(grant["jwt"])
        self._process.write_line(json.dumps(grant))

    def wait_until_connected(self) -> None:
        self._wait_for("connected")

    def refusal(self) -> str:
        """Waits until the SFU has rejected the participant, and returns its error message."""
        return self._wait_for("refused")

    def hears(self) -> str:
        """Waits for audio from another participant, and returns that one's identity."""
        return self._wait_for("hearing")

    def publish_audio(self) -> None:
        """Starts to send a tone."""
        self._process.write_line("publish")

    def wait_until_silenced(self) -> None:
        """Waits until the attempt to send a tone has failed."""
        self._wait_for("silenced")

    def wait_until_removed(self) -> None:
        """Waits until the SFU has ended the connection."""
        self._wait_for("removed")

    def leave(self) -> None:
        """Leaves the call as a client does when its user hangs up."""
        self._process.write_line("leave")
        eventually(self._process.has_ended, "the participant's process has ended")

    def kill(self) -> None:
        """Ends the process without a chance to leave the call."""
        self._process.kill()

    def close(self) -> None:
        self._process.close()

    def _wait_for(self, event: str) -> str:
        self._process.wait_until(lambda: event in self._happened(), event)
        return self._happened()[event]

    def _happened(self) -> dict[str, str]:
        return dict(json.loads(line) for line in self._events.read_text().splitlines())


Join = Callable[[dict[str, str]], Participant]
"""Function that starts a participant with a token endpoint's response."""


async def take_part(events: Path) -> None:
    """Joins a call and follows the orders on standard input until `leave`."""
    orders = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(orders), sys.stdin
    )
    with events.open("a", buffering=1) as log:

        def note(event: str, detail: str = "") -> None:
            log.write(json.dumps([event, detail]) + "\n")

        room = rtc.Room()
        tasks = set()

        @room.on("track_subscribed")
        def _(track: rtc.Track, _publication: Any, sender: rtc.RemoteParticipant) -> None:
            tasks.add(asyncio.create_task(note_when_heard(track, sender.identity)))

        async def note_when_heard(track: rtc.Track, sender: str) -> None:
            async for heard in rtc.AudioStream(track):
                if any(heard.frame.data):
                    note("hearing", sender)
                    break

        @room.on("disconnected")
        def _(reason: Any) -> None:
            note("removed", rtc.DisconnectReason.Name(reason))

        async def speak() -> None:
            try:
                await send_tone(room)
            except PublishTrackError as error:
                note("silenced", error.message)

        grant = json.loads(await orders.readline())
        try:
            await room.connect(grant["url"], grant["jwt"])
        except rtc.ConnectError as error:
            note("refused", error.message)
            await orders.read()
            return
        note("connected")
        while order := (await orders.readline()).decode().strip():
            if order == "publish":
                tasks.add(asyncio.create_task(speak()))
            elif order == "leave":
                break
        await room.disconnect()


async def send_tone(room: rtc.Room) -> None:
    """Publishes an audio track with a square wave until the participant leaves."""
    source = rtc.AudioSource(SAMPLE_RATE, num_channels=1)
    track = rtc.LocalAudioTrack.create_audio_track("tone", source)
    await room.local_participant.publish_track(
        track, rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE)
    )
    samples = SAMPLE_RATE // FRAMES_PER_SECOND
    half_wave = SAMPLE_RATE // TONE_HERTZ // 2
    while True:
        frame = rtc.AudioFrame.create(SAMPLE_RATE, num_channels=1, samples_per_channel=samples)
        for sample in range(samples):
            frame.data[sample] = AMPLITUDE if sample // half_wave % 2 else -AMPLITUDE
        await source.capture_frame(frame)


SAMPLE_RATE = 48_000
FRAMES_PER_SECOND = 100
TONE_HERTZ = 400
AMPLITUDE = 8_000

if __name__ == "__main__":
    asyncio.run(take_part(Path(sys.argv[1])))
