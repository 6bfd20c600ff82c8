"""Load at a fixed rate, which wrk has not: rate.c, compiled when it is first needed."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from bench.measure import CONNECTIONS, LOAD_CORE, Server, drawn, request_head

MISSING = "a C compiler (apt-get install gcc libc6-dev)"


@cache
def generator() -> Path | None:
    """The program; None where there is no compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    program = Path(tempfile.mkdtemp(prefix="bench-rate-")) / "rate"
    source = Path(__file__).with_suffix(".c")
    subprocess.run([compiler, "-O2", "-o", str(program), str(source), "-lm"], check=True)
    return program


def at_rate(server: Server, heads: tuple[str, ...], rate: float, seconds: float) -> dict[str, float]:
    """What it saw from its own core: heads drawn by Zipf's law, over twice as many connections as wrk has."""
    program = generator()
    if program is None:
        raise RuntimeError(f"missing {MISSING}")
    texts, order = server.folder / "rate-heads", server.folder / "rate-order"
    texts.write_bytes(b"\0".join(map(request_head, heads)))
    order.write_text("\n".join(str(at + 1) for at in drawn(len(heads))) + "\n")
    words = [str(program), str(server.port), str(texts), str(order), str(rate), str(seconds)]
    words = ["taskset", "-c", LOAD_CORE, *words, str(2 * CONNECTIONS)]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found
