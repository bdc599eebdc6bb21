"""Writes options.md, in this folder, from the table in fastws/options.py; with --check it only compares the two."""

import sys
from pathlib import Path

from fastws.options import OF_A_ROUTE, SECTIONS, TABLE, Option

PAGE = Path(__file__).parent / "options.md"

HEAD = """\
# Options

<!-- Made from fastws/options.py by `make docs`. -->

Sizes in bytes, durations in seconds, rates per second. A duration or a rate of 0 is off; `close_timeout` is always on.

An option can be given

1. as a flag: `fastws serve app:app --max-message-size 65536`,
2. as a variable: `FASTWS_MAX_MESSAGE_SIZE=65536`,
3. in a TOML file: `fastws serve app:app --config fastws.toml`, or `FASTWS_CONFIG=fastws.toml`,
4. to the application: `fastws.App(max_message_size=65536)`.

The first of these that says something decides. The first three are for `fastws serve` and `fastws demo`; in a program
of your own, `app.configure(max_message_size=65536)` is for what is known at the start only.

A route can have options of its own: `@app.websocket("/upload", max_message_size=10_000_000)`. They win over every
value that is set for the App. A file changes them in a table of the route's, a program by
`app.configure("/upload", max_message_size=...)`.

```toml
host = "0.0.0.0"
max_message_size = 65536

[route."/upload"]
max_message_size = 20_000_000
```

`fastws serve app:app --print-config` shows every option that an operator can set, with its value and who set it;
`--check-config` says whether all is right. Both load the application and do not serve it.
"""


def default_of(option: Option) -> str:
    value = option.default
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"`{value!r}`".replace("'", '"')
    if option.kind.metavar == "BYTES" and value >= 1024:
        return f"{value // 1024 // 1024} MiB" if value % (1 << 20) == 0 else f"{value // 1024} KiB"
    return f"{value:,.10g}"


def page() -> str:
    lines = [HEAD]
    for section in SECTIONS:
        lines += [f"## {section}\n", "| option | default | |", "|---|---|---|"]
        for name, option in TABLE.items():
            if option.section == section:
                marks = "" if name in OF_A_ROUTE else " ¹"
                marks += " ²" if option.of_the_code else ""
                lines.append(f"| `{name}`{marks} | {default_of(option)} | {option.what} |")
        lines.append("")
    lines.append("¹ of the whole App: needed before the route of a request is known, or about all routes together.  ")
    lines.append("² what the application's code is written for: neither a flag, nor a variable, nor in a file.")
    return "\n".join(lines) + "\n"


def main() -> int:
    if "--check" not in sys.argv:
        PAGE.write_text(page())
    elif PAGE.read_text() != page():
        print("docs/options.md is not what fastws/options.py says: make docs")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
