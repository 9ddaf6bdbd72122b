"""Observation of the HTTP requests between the parts, by a reverse proxy in front of each.

How it works:
- `Wire.tap` listens on a port in front of a part, and passes on requests and WebSockets, uncompressed.
- Each request is reported twice as an `Exchange`: when it arrives, and once its response is complete.
- All taps run in one asyncio loop, on a thread of its own.
"""

import asyncio
import dataclasses
import ssl
import threading
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import aiohttp
from aiohttp import web
from yarl import URL

T = TypeVar("T")


@dataclass(frozen=True)
class Exchange:
    """A request and, once it is complete, its response."""

    part: str
    """Part that receives the request."""
    method: str
    url: URL
    headers: Mapping[str, str]
    body: bytes
    arrived_at: float = field(default_factory=time.time)
    """Time of the request's arrival, in seconds since 1970."""
    status: int | None = None
    response_headers: Mapping[str, str] = field(default_factory=dict)
    response: bytes = b""


Refuse = Callable[[Exchange], tuple[int, dict[str, str]] | None]
"""Function that returns status and JSON with which a request is refused, or None."""


class Wire:
    """Ports on loopback in front of parts. `observe` is called with every request there, and again with its response.

    The calls come from a thread of the wire's own, before the request or the response is passed on.
    """

    def __init__(self, observe: Callable[[Exchange], None]) -> None:
        self._observe = observe
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._taps: list[web.AppRunner] = []
        self._session = self._run(_session())

    def tap(
        self,
        part: str,
        port: int,
        target: str,
        certificate: tuple[Path, Path] | None = None,
        authority: Path | None = None,
        refuse: Refuse | None = None,
    ) -> None:
        """Listens on `port` for a part at the URL `target`, with TLS if given a certificate and its key.

        A target with TLS has a certificate from `authority`. Requests for which `refuse` returns a response don't reach
        the part.
        """
        tls = None
        if certificate is not None:
            tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            tls.load_cert_chain(*certificate)
        trusted = ssl.create_default_context(cafile=authority) if authority else None
        tap = _Tap(part, URL(target), trusted, self._session, self._observe, refuse)
        self._taps.append(self._run(_listen(tap, port, tls)))

    def close(self) -> None:
        for tap in self._taps:
            self._run(tap.cleanup())
        self._run(self._session.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, work: Coroutine[None, None, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


class _Tap:
    """Passes on the requests to one part."""

    def __init__(
        self,
        part: str,
        target: URL,
        tls: ssl.SSLContext | None,
        session: aiohttp.ClientSession,
        observe: Callable[[Exchange], None],
        refuse: Refuse | None,
    ) -> None:
        self._part = part
        self._target = target
        self._tls = tls or True
        self._session = session
        self._observe = observe
        self._refuse = refuse

    async def pass_on(self, request: web.Request) -> web.StreamResponse:
        exchange = Exchange(
            self._part, request.method, request.url, request.headers, await request.read()
        )
        self._observe(exchange)
        if self._refuse is not None and (refusal := self._refuse(exchange)) is not None:
            status, error = refusal
            return web.json_response(error, status=status)
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await self._join(request, exchange)
        headers = _end_to_end(request.headers) | {"Accept-Encoding": "identity"}
        try:
            async with self._session.request(
                request.method,
                self._url(request),
                headers=headers,
                data=exchange.body,
                allow_redirects=False,
                ssl=self._tls,
            ) as response:
                body = await response.read()
        except aiohttp.ClientConnectionError:
            # The part is down, as the part of a test may be.
            return web.Response(status=502)
        self._observe(
            dataclasses.replace(
                exchange, status=response.status, response_headers=response.headers, response=body
            )
        )
        return web.Response(status=response.status, headers=_end_to_end(response.headers), body=body)

    async def _join(self, request: web.Request, exchange: Exchange) -> web.StreamResponse:
        """Connects the two ends of a WebSocket until one of them closes."""
        try:
            far = await self._session.ws_connect(
                self._url(request),
                headers=_end_to_end(request.headers),
                max_msg_size=0,
                ssl=self._tls,
            )
        except aiohttp.WSServerHandshakeError as refusal:
            self._observe(dataclasses.replace(exchange, status=refusal.status))
            return web.Response(status=refusal.status)
        near = web.WebSocketResponse(max_msg_size=0, compress=False)
        await near.prepare(request)
        self._observe(dataclasses.replace(exchange, status=near.status))
        directions = {asyncio.create_task(_relay(*ends)) for ends in ((near, far), (far, near))}
        try:
            await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for direction in directions:
                direction.cancel()
            await far.close()
            await near.close()
        return near

    def _url(self, request: web.Request) -> URL:
        return URL(str(self._target) + request.raw_path, encoded=True)


async def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession()


async def _listen(tap: _Tap, port: int, tls: ssl.SSLContext | None) -> web.AppRunner:
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", tap.pass_on)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, ssl_context=tls).start()
    return runner


async def _relay(
    source: aiohttp.ClientWebSocketResponse | web.WebSocketResponse,
    sink: aiohttp.ClientWebSocketResponse | web.WebSocketResponse,
) -> None:
    async for message in source:
        if message.type == aiohttp.WSMsgType.BINARY:
            await sink.send_bytes(message.data)
        elif message.type == aiohttp.WSMsgType.TEXT:
            await sink.send_str(message.data)


def _end_to_end(headers: Mapping[str, str]) -> dict[str, str]:
    """Returns the headers that don't concern the connection itself."""
    return {name: value for name, value in headers.items() if name.lower() not in HOP_BY_HOP}


HOP_BY_HOP = {
    "connection",
    "content-length",
    "keep-alive",
    "sec-websocket-extensions",
    "sec-websocket-key",
    "sec-websocket-version",
    "transfer-encoding",
    "upgrade",
}
