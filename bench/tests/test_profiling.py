"""What perf, py-spy and strace write is read rightly and drawn; and those that are here see a server at work."""

from __future__ import annotations

import argparse
import shutil
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench import profiling
from bench.flamegraph import MARGIN, WIDTH, svg
from bench.machine import BenchError
from bench.servers import SERVERS
from bench.stacks import (
    KINDS,
    Frame,
    Stacks,
    collapsed_perf,
    collapsed_py_spy,
    folded,
    kind_of,
    readable,
    self_samples,
    shares,
    total_samples,
)

SVG = "{http://www.w3.org/2000/svg}"

PERF = """\
python
\tffffffff820279cd tcp_write_xmit ([kernel.kallsyms])
\tffffffff81000130 entry_SYSCALL_64_after_hwframe ([kernel.kallsyms])
\t          10ab59 __libc_send (inlined)
\t           2943a __pyx_f_6fastws_9_speedups_6Socket_uncork (/x/fastws/_speedups.cpython-311-x86_64-linux-gnu.so)
\t           62522 __pyx_pf_6fastws_9_speedups_7Reactor_6_wake (inlined)
\t           62522 __pyx_pw_6fastws_9_speedups_7Reactor_7_wake (/x/fastws/_speedups.cpython-311-x86_64-linux-gnu.so)
\t          1a7331 cfunction_vectorcall_FASTCALL_KEYWORDS (/usr/lib/libpython3.11.so.1.0)
\t          1104c6 __pyx_f_6uvloop_4loop_6Handle__run (/x/uvloop/loop.cpython-311-x86_64-linux-gnu.so (deleted))
\t               0 [unknown] ([unknown])

python
\t           18ccb __Pyx_PyObject_FastCallDict.constprop.2 (inlined)
\t           2943a __pyx_f_6fastws_9_speedups_6Socket_uncork (/x/fastws/_speedups.cpython-311-x86_64-linux-gnu.so)
\t            1080 [unknown] (/usr/lib/libcrypto.so.3)

"""
UNCORK = Frame("Socket.uncork", "fastws")

PY_SPY = """\
<module> (main.py:66);uv_run (core.c:464);WebSocket_handle (websocket.pyx:100);echo (main.py:30);send (libc.so.6) 7
<module> (main.py:66);0x7fcfcbd8b80f (libc.so.6) 2
<module> (main.py:66);_PyEval_Vector (ceval.c:6434) 1
"""

PERF_STAT = """\
# started on Sun Nov 22 16:00:00 2026

5000,,raw_syscalls:sys_enter,647193,100.00,,
2000,,syscalls:sys_enter_sendto,647193,100.00,,
2500,,syscalls:sys_enter_recvfrom,647193,100.00,,
0,,syscalls:sys_enter_write,647193,100.00,,
<not counted>,,syscalls:sys_enter_writev,0,0.00,,
"""

STRACE = """\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 65.04    0.030211          14      2100           sendto
 33.10    0.015375           7      2101         1 recvfrom
  1.86    0.000864          20        43           epoll_wait
------ ----------- ----------- --------- --------- ----------------
100.00    0.046450          10      4244         1 total
"""


@pytest.mark.parametrize(
    ("symbol", "name"),
    [
        ("__pyx_f_6fastws_9_speedups_9WebSocket_read_frames", "WebSocket.read_frames"),
        ("__pyx_f_6fastws_9_speedups_callback_message", "callback_message"),
        ("__pyx_f_6fastws_9_speedups__whole.isra.0", "_whole"),
        ("__pyx_pw_6fastws_9_speedups_7Reactor_7_wake", "Reactor._wake"),
        ("__pyx_pf_6fastws_9_speedups_9WebSocket_4ping", "WebSocket.ping"),  # 4 might be a length, too
        ("__pyx_tp_dealloc_6fastws_9_speedups_Handshake", "Handshake (tp_dealloc)"),
        ("__pyx_f_6uvloop_4loop_4Loop__Loop__run", "uvloop.loop.Loop._Loop__run"),
        ("__Pyx_PyObject_FastCallDict.constprop.2", "__Pyx_PyObject_FastCallDict"),
        ("tcp_v4_rcv", "tcp_v4_rcv"),
        ("do_softirq.part.0", "do_softirq"),
    ],
)
def test_names_are_readable(symbol: str, name: str) -> None:
    assert readable(symbol) == name


@pytest.mark.parametrize(
    ("file", "kind"),
    [
        ("[kernel.kallsyms]", "kernel"),
        ("[nf_conntrack]", "kernel"),
        ("[vdso]", "C library"),
        ("/usr/lib/x86_64-linux-gnu/libc.so.6", "C library"),
        ("/usr/lib/x86_64-linux-gnu/libm.so.6", "C library"),
        ("/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2", "C library"),
        ("/usr/lib/libpython3.11.so.1.0", "CPython"),
        ("/usr/bin/python3.13", "CPython"),
        ("/usr/lib/python3.11/lib-dynload/_hashlib.cpython-311-x86_64-linux-gnu.so", "CPython"),
        ("/x/fastws/_speedups.cpython-311-x86_64-linux-gnu.so", "fastws"),
        ("/x/fastws/bench/build/bare", "other"),
        ("/x/uvloop/loop.cpython-311-x86_64-linux-gnu.so", "other"),
        ("/usr/lib/libcrypto.so.3", "other"),
        ("[unknown]", "other"),
    ],
)
def test_whose_code_a_file_holds(file: str, kind: str) -> None:
    assert kind_of(file) == kind


def test_stacks_of_perf() -> None:
    first = (
        Frame("uvloop.loop.Handle._run", "other"),
        Frame("cfunction_vectorcall_FASTCALL_KEYWORDS", "CPython"),
        Frame("Reactor._wake", "fastws"),  # once, though Cython makes two functions of it
        UNCORK,
        Frame("__libc_send", "C library"),  # inlined in nothing that is told
        Frame("entry_SYSCALL_64_after_hwframe", "kernel"),
        Frame("tcp_write_xmit", "kernel"),
    )
    second = (Frame("[libcrypto.so.3]", "other"), UNCORK, Frame("__Pyx_PyObject_FastCallDict", "fastws"))
    assert collapsed_perf(PERF) == Counter({first: 1, second: 1})
    assert collapsed_perf(PERF + PERF) == Counter({first: 2, second: 2})


def test_stacks_of_py_spy() -> None:
    module = Frame("<module> (main.py)", "CPython")
    handle, echo = Frame("WebSocket_handle", "fastws"), Frame("echo (main.py)", "CPython")
    assert collapsed_py_spy(PY_SPY) == {
        (module, Frame("uv_run", "other"), handle, echo, Frame("send", "C library")): 7,
        (module, Frame("[libc.so.6]", "C library")): 2,
        (module, Frame("_PyEval_Vector", "CPython")): 1,
    }


def test_counting() -> None:
    a, b, c = Frame("a", "CPython"), Frame("b", "fastws"), Frame("c <&>", "kernel")
    stacks: Stacks = Counter({(a,): 1, (a, b): 2, (a, b, a): 3, (a, b, c): 4})
    assert self_samples(stacks) == {a: 4, b: 2, c: 4}
    assert total_samples(stacks) == {a: 10, b: 9, c: 4}
    assert shares(stacks) == {"kernel": 0.4, "C library": 0, "CPython": 0.4, "fastws": 0.2, "other": 0}
    assert folded(stacks) == "a 1\na;b 2\na;b;a 3\na;b;c <&> 4\n"
    table = profiling.tables(stacks)
    assert "  40.0%  100.0%  CPython    a\n" in table
    assert table.endswith("by total time\n  20.0%   90.0%  fastws     b\n")


def test_flame_graph() -> None:
    a, b, c = Frame("a", "CPython"), Frame("b", "fastws"), Frame("c <&>", "kernel")
    picture = ElementTree.fromstring(svg(Counter({(a,): 1, (a, b): 3, (a, c): 6}), "echo <1>"))
    boxes = {}
    for group in picture.iter(f"{SVG}g"):
        box, hint = group.find(f"{SVG}rect"), group.find(f"{SVG}title")
        assert box is not None and hint is not None and hint.text is not None
        boxes[hint.text] = {name: float(box.attrib[name]) for name in ("x", "y", "width")}
    assert list(boxes) == [
        "a (CPython): 10 samples, 100.00%",
        "b (fastws): 3 samples, 30.00%",
        "c <&> (kernel): 6 samples, 60.00%",
    ]
    first, second, third = boxes.values()
    inner = WIDTH - 2 * MARGIN
    assert [round(box["width"] / inner, 2) for box in (first, second, third)] == [1.0, 0.3, 0.6]
    assert first["y"] > second["y"] == third["y"]
    assert first["x"] == second["x"] and third["x"] == pytest.approx(second["x"] + 0.3 * inner)
    texts = [text.text for text in picture.iter(f"{SVG}text")]
    assert {"echo <1>", "a", "b", "c <&>", "kernel 60.0%", "fastws 30.0%"} <= {*texts}


def test_a_flame_graph_leaves_out_what_cannot_be_seen() -> None:
    stacks: Stacks = Counter(
        {(Frame("often", "other"),): 1_000_000, (Frame("once", "other"), Frame("deep", "other")): 1}
    )
    assert svg(stacks, "").count("<g>") == 1


def test_calls_of_perf() -> None:
    assert profiling.calls_of_perf(PERF_STAT) == {"sendto": 2000, "recvfrom": 2500, "other": 500}


def test_calls_of_strace() -> None:
    calls = profiling.calls_of_strace(STRACE)
    assert calls == {"sendto": 2100, "recvfrom": 2101, "epoll_wait": 43}
    table = profiling.call_table(calls, 2100, "message")
    assert table.startswith("System calls per message: 2.0210\n    1.0005  recvfrom\n    1.0000  sendto\n")


def options(*given: object) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    profiling.add_arguments(parser)
    return parser.parse_args([*map(str, given)])


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (["no-such-workload"], "no workload is called 'no-such-workload'"),
        (["broadcast-100-1", "--server", "uvicorn"], ""),
        (["deflate-idle-5000", "--server", "bare"], "bare: it has not deflate"),
    ],
)
def test_what_cannot_be_profiled(given: list[str], why: str) -> None:
    if why:
        with pytest.raises(BenchError, match=why):
            profiling.target_of(options(*given))
    else:
        target, each = profiling.target_of(options(*given))
        assert target.server == SERVERS["uvicorn"].command
        assert target.load == ["broadcast", "--connections", "100", "--size", "64", "--burst", "1", "--seconds", "5"]
        assert each == "delivery"


def test_a_tool_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(profiling.ToolError, match="there is no strace: apt-get install strace"):
        profiling.tool("strace")


def test_a_real_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By perf and strace, or what stands in for them."""
    load = "echo --connections 4 --size 64 --window 8"
    assert profiling.main(options(load, "--seconds", "0.5", "--output", tmp_path)) == 0
    told = capsys.readouterr().out
    assert {path.suffix for path in tmp_path.iterdir()} == {".svg", ".folded", ".txt"}
    for path in tmp_path.iterdir():
        text = path.read_text()
        if path.suffix == ".txt":
            assert text in told
            assert "of each message" in text
            assert "System calls per message: " in text
        elif path.suffix == ".folded":
            assert "WebSocket" in text
            assert "Reactor" in text
        else:
            ElementTree.fromstring(text)


@pytest.mark.parametrize("ways", ["SAMPLERS", "COUNTERS"])
def test_each_tool_that_is_here(ways: str) -> None:
    """A command that is there but cannot work (no permission, another kernel's perf) is told, never an empty result."""
    load = ["echo", "--connections", "4", "--size", "64", "--window", "16", "--seconds", "0.5"]
    target = profiling.Target(SERVERS["fastws"].command, load, (0, 1))
    worked = 0
    for way in getattr(profiling, ways):
        try:
            done, found = way(target)
        except profiling.ToolError as error:
            assert str(error)
            continue
        assert done.count > 0
        if ways == "COUNTERS":
            assert round(found["sendto"] / done.count, 4) == round(1 / 16, 4)  # one for the answers of each batch
            assert found["recvfrom"] >= found["sendto"]
        else:
            assert {frame.kind for stack in found for frame in stack} <= {*KINDS}
            assert any(frame.kind == "fastws" for frame in total_samples(found))
        worked += 1
    assert worked


def test_at_least_one_tool_of_each_kind_is_installed() -> None:
    assert shutil.which("strace") or shutil.which("perf")
    assert profiling.tool("py-spy")
