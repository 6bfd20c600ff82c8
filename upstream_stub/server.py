"""One process of the service: from listening to a clean end."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys

from aiohttp import web

from upstream_stub.api import SERVICE, make_app
from upstream_stub.options import Address, Options

_GRACE = 3.0


async def serve(options: Options) -> None:
    """Serve until SIGINT or SIGTERM; says so on standard output once connections are accepted."""
    app = make_app(options)
    users = app[SERVICE].database.count_users()
    access_log = logging.getLogger("upstream_stub.access") if options.access_log else None
    runner = web.AppRunner(app, access_log=access_log, shutdown_timeout=_GRACE)
    await runner.setup()
    try:
        address = await _listen(runner, options.listen)
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        latency = f"{options.latency * 1000:g} ms"
        sys.stdout.write(f"upstream_stub listening on {address.url} ({users} users, latency {latency})\n")
        # A script that waits for this line reads it through a pipe.
        sys.stdout.flush()
        await stop.wait()
    finally:
        await runner.cleanup()


async def _listen(runner: web.AppRunner, wanted: Address) -> Address:
    """Start listening; the address with the port that was really given."""
    if wanted.path is not None:
        await web.UnixSite(runner, wanted.path).start()
        return wanted
    await web.TCPSite(runner, wanted.host, wanted.port, backlog=1024).start()
    return Address(host=wanted.host, port=runner.addresses[0][1])
