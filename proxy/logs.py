"""Log lines: one JSON object a line, or text for a person at a terminal. Never anything personal."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


def _extra(record: logging.LogRecord) -> dict[str, object]:
    return {name: value for name, value in record.__dict__.items() if name not in _STANDARD}


class JsonFormatter(logging.Formatter):
    """`{"time", "level", "logger", "message", …extra fields}`; an exception shows as its type and place."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, whatever the values hold."""
        fields: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_extra(record),
        }
        if record.exc_info:
            fields["exception"] = place_of(record.exc_info[1])
        return json.dumps(fields, default=str)


class TextFormatter(logging.Formatter):
    """`12:00:01 warning  message  field=value …`."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        extra = _extra(record)
        if record.exc_info:
            extra["exception"] = place_of(record.exc_info[1])
        tail = "".join(f"  {name}={value}" for name, value in extra.items())
        when = datetime.fromtimestamp(record.created, UTC).astimezone().strftime("%H:%M:%S")
        return f"{when} {record.levelname.lower():<8}{record.getMessage()}{tail}"


def place_of(error: BaseException | None) -> str:
    """Type and innermost place of an exception. Not its text, which may quote what a client sent."""
    if error is None:
        return ""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = "" if trace is None else f" at {trace.tb_frame.f_code.co_name}:{trace.tb_lineno}"
    return type(error).__name__ + place


def configure(level: str, form: str) -> None:
    """Sends all log lines to standard error; `form` is `json` or `text`. Replaces earlier handlers."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
