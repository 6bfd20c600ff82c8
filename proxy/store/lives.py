"""How long things are kept in Redis, as its commands and scripts are told."""

from __future__ import annotations

WEEK_MS = str(7 * 86_400_000)
# A ticket must not outlive the floors that refuse it, also where clocks are a minute apart.
FLOOR_MS = "120000"
TICKET_US = str(60 * 1_000_000)
# As long as any ticket, and a second.
LEASED_MS = "61000"
