"""Visitors without a browser: `python -m benchmarks.suite.polling_clients URL N PAGE QUERY` opens N sessions of the app.

They speak Streamlit's protocol over its websocket as its page does: run the page once, then each fragment whenever its clock
says so, and take in whatever the server draws. Every few seconds a line tells how many fragments have been run in all.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
from typing import Any

TOLD_EVERY_SECONDS = 1.0


class Client:
    """One session."""

    def __init__(self, page: str, query: str) -> None:
        self._page, self._query = page, query
        self._clocks: dict[str, asyncio.Task[None]] = {}
        self._script = ""
        self.fragments = 0

    async def visit(self, url: str) -> None:
        """Stays on the page until it is cancelled."""
        from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
        from websockets.asyncio.client import connect
        from websockets.typing import Origin, Subprotocol

        address = url.replace("http", "ws", 1) + "/_stcore/stream"
        # A browser sends no pings either: on a busy machine their answer would be late, and the session would end.
        async with connect(
            address, origin=Origin(url), subprotocols=[Subprotocol("streamlit")], max_size=None, ping_interval=None
        ) as socket:
            await socket.send(self._ask())
            async for raw in socket:
                message = ForwardMsg()
                assert isinstance(raw, bytes)
                message.ParseFromString(raw)
                self._hear(message, socket)

    def _hear(self, message: Any, socket: Any) -> None:
        kind = message.WhichOneof("type")
        if kind == "new_session" and not message.metadata.run.fragment_ids:
            self._stop(list(self._clocks))
        elif kind == "navigation":
            self._script = message.navigation.page_script_hash
        elif kind == "auto_rerun":
            told = message.auto_rerun
            self._stop([told.fragment_id])
            self._clocks[told.fragment_id] = asyncio.create_task(self._tick(told.fragment_id, told.interval, socket))
        elif kind == "stop_auto_rerun":
            self._stop(message.stop_auto_rerun.fragment_ids)

    def _stop(self, fragments: Any) -> None:
        for fragment in fragments:
            if clock := self._clocks.pop(fragment, None):
                clock.cancel()

    async def _tick(self, fragment: str, seconds: float, socket: Any) -> None:
        while True:
            await asyncio.sleep(seconds)
            self.fragments += 1
            await socket.send(self._ask(fragment))

    def _ask(self, fragment: str = "") -> bytes:
        from streamlit.proto.BackMsg_pb2 import BackMsg

        message = BackMsg()
        message.rerun_script.query_string = self._query
        if self._script:
            message.rerun_script.page_script_hash = self._script
        else:
            message.rerun_script.page_name = self._page
        if fragment:
            message.rerun_script.fragment_id = fragment
            message.rerun_script.is_auto_rerun = True
        encoded: bytes = message.SerializeToString()
        return encoded


async def main(url: str, count: int, page: str, query: str) -> None:
    """Keeps `count` sessions open until the process is ended."""
    clients = [Client(page, query) for _ in range(count)]
    async with asyncio.TaskGroup() as group:
        for client in clients:
            group.create_task(client.visit(url))
        for _ in itertools.count():
            await asyncio.sleep(TOLD_EVERY_SECONDS)
            print(sum(client.fragments for client in clients), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]))
