"""Writes options.md, in this folder, from the table in fastws/options.py and the flags of the command; with --check it
only compares the two."""

import sys
from pathlib import Path

import click

from fastws.cli.commands import RUNNING, SETTINGS, cli
from fastws.cli.config import ALIASES
from fastws.options import OF_A_ROUTE, SECTIONS, TABLE, Option

PAGE = Path(__file__).parent / "options.md"

HEAD = """\
# Options

<!-- Made from fastws/options.py and the flags of fastws/cli/commands.py by `make docs`. -->

Sizes in bytes, durations in seconds, rates per second. A duration or a rate of 0 is off; `close_timeout` is always on,
and `shutdown_timeout` says for itself what 0 is.

An option can be given

1. as a flag: `fastws serve app:app --max-message-size 65536`,
2. as a variable: `FASTWS_MAX_MESSAGE_SIZE=65536`,
3. in a TOML file: `fastws serve app:app --config fastws.toml`, or `FASTWS_CONFIG=fastws.toml`,
4. to the application: `fastws.App(max_message_size=65536)`.

The first of these that says something decides. The first three are for `fastws serve` and `fastws demo`; in a program
of your own, `app.configure(max_message_size=65536)` is for what is known at the start only.

| | flag or variable | file | code |
|---|---|---|---|
| number | `65536` | `65536` | `65536` |
| list | `a.example,b.example` | `["a.example", "b.example"]` | `["a.example", "b.example"]` |
| None | `none` | `"none"` | `None` |
| `compression` | `none`, `deflate` | `"none"`, `"deflate"`, `{ level = 6 }` | `None`, `"deflate"`, a `fastws.Deflate` |

The command takes uvicorn's names of some flags as well. They are in the tables; variables and files have ours alone.

A route can have options of its own: `@app.websocket("/upload", max_message_size=10_000_000)`. They win over every
value that is set for the App. A file changes them in a table of the route's, a program by
`app.configure("/upload", max_message_size=...)`.

```toml
app = "server:app"
host = "0.0.0.0"
max_message_size = 65536

[route."/upload"]
max_message_size = 20_000_000
```

`fastws serve app:app --print-config` shows every option that an operator can set, with its value and who set it;
`--check-config` says whether all is right, and fails where something is not, be it a variable whose name is nearly one
of these. Both load the application and do not serve it. A module that is loaded calls `app.run()` only under
`if __name__ == "__main__":`, if at all.
"""

RUNNING_HEAD = """\
Flags, variables and names in a file, but not for `App()`. A program of your own gives those of a server to `app.run()`.
"""
APP = "| `app` | | The application, `module:name`; in a command an argument: `fastws serve module:name`. |"


def default_of(option: Option) -> str:
    value = option.default
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"`{value!r}`".replace("'", '"')
    if option.kind.metavar == "BYTES" and value >= 1024:
        return f"{value // 1024 // 1024} MiB" if value % (1 << 20) == 0 else f"{value // 1024} KiB"
    return f"{value:,.10g}"


def uvicorns(name: str) -> str:
    return f" uvicorn's flag: `{ALIASES[name]}`." if name in ALIASES else ""


def running() -> list[str]:
    """What is said to the command, and is no option of the App."""
    lines = [f"## {RUNNING}\n", RUNNING_HEAD, "| option | default | |", "|---|---|---|", APP]
    for one in cli.commands["serve"].params:
        name = str(one.name)
        if isinstance(one, click.Option) and (name in SETTINGS or name == "config"):
            default = f"`{one.default}`" if isinstance(one.default, str) else ""
            default = f"{one.default:.10g}" if isinstance(one.default, int | float) else default
            choices = f" One of {', '.join(map(str, one.type.choices))}." if isinstance(one.type, click.Choice) else ""
            lines.append(f"| `{name}` | {default} | {one.help}{choices}{uvicorns(name)} |")
    return [*lines, ""]


def page() -> str:
    lines = [HEAD, *running()]
    for section in SECTIONS:
        lines += [f"## {section}\n", "| option | default | |", "|---|---|---|"]
        for name, option in TABLE.items():
            if option.section == section:
                marks = "" if name in OF_A_ROUTE else " ¹"
                marks += " ²" if option.of_the_code else ""
                lines.append(f"| `{name}`{marks} | {default_of(option)} | {option.what}{uvicorns(name)} |")
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
