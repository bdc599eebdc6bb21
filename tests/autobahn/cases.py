"""Which cases of the suite run against which of the servers of server.py, and what beside its verdicts must be right.

Cases 12.* and 13.* are those of permessage-deflate: 12.* sends five kinds of data, 13.* makes seven different offers.
Each of these twelve groups has the same 18 cases of 1000 messages, which differ in the size of the messages and of
their fragments. They take the suite's client so long that only --full runs them all against all three targets. Without
it, those of up to 4 KiB run against each target; those of up to 32 KiB, every one of them against one target, each
target having a third of each group; and of the seven larger ones of each group, which are 87 % of the octets and go
through the same code as those of 32 KiB, the widest window, one against one target.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

# The suite sets INFORMATIONAL for these, behaviour and close, whatever has happened: they cannot be OK.
INFORMATIONAL = {
    "7.1.6": "a 256 KiB message, a close and a ping back to back; what comes back before the close is left open",
    "7.13.1": "close code 5000, which RFC 6455 section 7.4.2 leaves without a meaning",
    "7.13.2": "close code 65535, likewise",
}

# Octets in a message of the cases 1 to 18 of each group; the last eight send them in fragments.
SIZES = [16, 64, 256, 1024, 4096, 8192, 16384, 32768, 65536, 131072, 8192, 16384, 32768, 65536, *[131072] * 4]

SMALL, MEDIUM = 4096, 32768
LARGE = [number for number, octets in enumerate(SIZES, 1) if octets > MEDIUM]

# What a kind of data costs beside the others, where these are 1: pictures and prose take the suite's client longest.
HARD = {"12.2": 3.0, "12.3": 3.0, "12.5": 2.0}

# Text, which shrinks in any message of SHRINKS octets or more.
TEXTS = ("12.1", "12.3", "12.4", "13")
SHRINKS = 256

CLIENT_ALONE, SERVER_ALONE = "client_no_context_takeover", "server_no_context_takeover"


def in_group(case: str, group: str) -> bool:
    return case == group or case.startswith(group + ".")


def is_deflate(case: str) -> bool:
    return in_group(case, "12") or in_group(case, "13")


def place(case: str) -> tuple[int, int]:
    """The group that it is in, of the twelve from 0 on, and its number there, from 1 on."""
    kind, group, number = map(int, case.split("."))
    return group - 1 + (5 if kind == 13 else 0), number


def size(case: str) -> int:
    return SIZES[place(case)[1] - 1]


def cost(case: str) -> float:
    """About how many seconds it takes."""
    if not is_deflate(case):
        return 0.05
    return 0.5 + size(case) / 20000 * HARD.get(case.rpartition(".")[0], 1.0)


@dataclass(frozen=True)
class Target:
    """A path of server.py, the number of cases that the suite has for it and their kind, parameters of its answers, and
    whether the client says in its offers that it could do without its context."""

    name: str
    count: int
    deflate: bool = True
    turn: int = 0
    always: frozenset[str] = frozenset()
    never: frozenset[str] = frozenset()
    hint: bool = True

    def runs(self, case: str) -> bool:
        return is_deflate(case) == self.deflate

    def selects(self, case: str) -> bool:
        """Whether it runs without --full."""
        if not self.deflate or size(case) <= SMALL:
            return True
        group, number = place(case)
        if size(case) <= MEDIUM:
            return (group + number) % 3 == self.turn
        return group % 3 == self.turn and number == LARGE[group % len(LARGE)]

    def fault(self, case: str, details: dict[str, Any]) -> str | None:
        """What is wrong though the suite is content: it takes any answer that its client can live with, and would not
        miss compression in what comes back."""
        offer, answer = extensions(details["httpRequest"]), extensions(details["httpResponse"])
        if not self.deflate:
            return f"extensions {answer!r} out of nothing" if answer and not offer else None
        asked, given = parameters(offer), parameters(answer)
        expected = self.always | (asked.keys() & {SERVER_ALONE, "server_max_window_bits"})
        # RFC 7692, section 7.1.2.1: at most what was asked for.
        too_wide = int(given.get("server_max_window_bits", 0)) > int(asked.get("server_max_window_bits", 15))
        if expected - given.keys() or self.never & given.keys() or too_wide:
            return f"offered {offer!r}, answered {answer!r}"
        traffic = details["trafficStats"]
        if traffic and size(case) >= SHRINKS and any(in_group(case, group) for group in TEXTS):
            sent, received = traffic["incomingOctetsAppLevel"], traffic["incomingOctetsWebSocketLevel"]
            if received >= sent:
                return f"{sent} octets of text came back in {received}"
        return None


TARGETS = [
    Target("plain", 301, deflate=False),
    Target("takeover", 216, turn=0, always=frozenset({CLIENT_ALONE})),
    Target("no-takeover", 216, turn=1, always=frozenset({CLIENT_ALONE, SERVER_ALONE})),
    # In every offer the suite's client says that it could do without its context.
    Target("client-takeover", 216, turn=2, never=frozenset({CLIENT_ALONE}), hint=False),
]


def extensions(head: str) -> str:
    return ", ".join(re.findall(r"^sec-websocket-extensions: *(.*?)\r?$", head, re.IGNORECASE | re.MULTILINE))


def parameters(header: str) -> dict[str, str]:
    """Of the first extension in the header: there is no reason to decline what the suite offers first."""
    parts = (part.strip().partition("=") for part in header.partition(",")[0].split(";")[1:])
    return {name: value for name, _, value in parts}
