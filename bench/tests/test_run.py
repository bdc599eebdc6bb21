"""What a run takes, in which order, and what may be concluded from it."""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench import compare, run
from bench.machine import BENCH, BenchError
from bench.results import CPU, MEMORY, Results, Sample
from bench.servers import SERVERS, Server
from bench.workloads import IN_FLIGHT, QUICK, STANDARD, WORKLOADS, chosen

ECHO, OPEN = WORKLOADS["echo-64-text-100-1"], WORKLOADS["latency-50"]
NAMES = ["fastws", "picows", "bare"]


def sample(server: str = "fastws", number: int = 0, **changes: Any) -> Sample:
    usual: dict[str, Any] = {"count": 100_000, "seconds": 1.0, "server_cpu": 0.99, "server_wait": 0.0}
    usual |= {"generator_cpu": 0.5, "memory": 0, "elapsed": 2.0, "workload": ECHO.name}
    return Sample(server=server, round=number, **{**usual, **changes})


def results(*samples: Sample) -> Results:
    provenance: dict[str, object] = {"build": "b", "cpu": "c", "kernel": "k", "cores": [0, 1], "date": "2026-01-01"}
    provenance |= {"versions": {"picows": "2.0", "fastws": "1.0"}, "command": "python -m bench run"}
    works = {work.name: work.described() for work in (ECHO, OPEN)}
    servers = {name: SERVERS[name].described() for name in NAMES}
    return Results(provenance, {"rounds": 3, "seconds": 0.5, "kind": "quick"}, works, servers, list(samples))


class TestMatrix:
    def test_names_tell_workloads_apart(self) -> None:
        assert all(name == work.name for name, work in WORKLOADS.items())
        assert len({work.title for work in WORKLOADS.values()}) == len(WORKLOADS)

    def test_what_rests_on_another(self) -> None:
        for work in WORKLOADS.values():
            assert work.rate_of in {"", *WORKLOADS}
            assert not work.same_as or WORKLOADS[work.same_as].command == work.command
        assert [work.name for work in chosen(["latency-25"])] == ["echo-64-text-100-1", "latency-25"]
        assert [work.name for work in chosen(["idle-10000"])] == ["accept-10000", "idle-10000"]

    def test_no_echo_has_more_in_flight_than_sockets_hold(self) -> None:
        for work in (work for work in WORKLOADS.values() if work.group == "echo"):
            size, connections, window = (work.parameters[p] for p in ("size", "connections", "window"))
            assert isinstance(size, int) and isinstance(connections, int) and isinstance(window, int)
            assert size * connections * window <= IN_FLIGHT

    def test_quick_is_part_of_the_standard(self) -> None:
        assert set(QUICK) <= set(STANDARD) <= set(WORKLOADS)

    def test_patterns(self) -> None:
        assert {work.group for work in chosen(["broadcast"])} == {"broadcast"}
        assert [work.name for work in chosen(["scale-10000-*"])] == ["scale-10000-10000", "scale-10000-100"]
        with pytest.raises(BenchError, match="'echo-65'"):
            chosen(["echo-65"])


class TestPlan:
    def test_servers_take_turns_and_each_round_begins_with_another(self) -> None:
        plan = run.planned(results(), [ECHO], [SERVERS[name] for name in NAMES], rounds=3)
        assert [(step.number, step.server.name) for step in plan.steps] == [
            *((0, name) for name in ["fastws", "picows", "bare"]),
            *((1, name) for name in ["picows", "bare", "fastws"]),
            *((2, name) for name in ["bare", "fastws", "picows"]),
        ]

    def test_what_is_there_is_not_measured_again(self) -> None:
        there = results(sample("fastws", 0), sample("bare", 1))
        there.failures.append({"workload": ECHO.name, "server": "picows", "round": 0, "error": "..."})
        plan = run.planned(there, [ECHO], [SERVERS[name] for name in NAMES], rounds=2)
        assert {(step.number, step.server.name) for step in plan.steps} == {(0, "bare"), (1, "fastws"), (1, "picows")}
        assert plan.left(0) == pytest.approx(2.0 + 2.0 + 1.3 + 0.5 + 0.04)  # picows has not been seen yet

    def test_only_servers_that_can(self) -> None:
        plan = run.planned(results(), [WORKLOADS["ping-10000"]], [SERVERS["fastws"], SERVERS["bare"]], rounds=1)
        assert [step.server.name for step in plan.steps] == ["fastws"]


class TestGoingOn:
    def test_round_trip(self, tmp_path: Path) -> None:
        latency = {"p50_us": 10.0, "histogram": [[10, 3]]}
        whole = results(sample(), sample("picows", 1, latency=latency, lag={"p99_us": 1.0}))
        whole.save(tmp_path / "r.json")
        assert Results.load(tmp_path / "r.json") == whole
        assert json.loads((tmp_path / "r.json").read_text())["format"] == 1

    @pytest.mark.parametrize("what", ["build", "picows", "seconds"])
    def test_another_run_is_moved_out_of_the_way(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], what: str
    ) -> None:
        monkeypatch.setattr(run, "BUILD", tmp_path / "build")
        old = results(sample())
        where = {"build": old.provenance, "picows": old.provenance["versions"], "seconds": old.settings}
        where[what][what] = "other"
        old.save(tmp_path / "r.json")
        assert run.begun(tmp_path / "r.json", results(), again=False).samples == []
        assert "other" in capsys.readouterr().out
        assert [Results.load(path) for path in (tmp_path / "build").iterdir()] == [old]
        assert not (tmp_path / "r.json").exists()

    def test_again(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(run, "BUILD", tmp_path / "build")
        results(sample()).save(tmp_path / "r.json")
        assert run.begun(tmp_path / "r.json", results(), again=True).samples == []
        assert len(list((tmp_path / "build").iterdir())) == 1

    def test_more_rounds_of_the_same(self, tmp_path: Path) -> None:
        results(sample()).save(tmp_path / "r.json")
        fresh = results()
        fresh.settings["rounds"] = 7
        fresh.provenance["command"] += " --rounds 7"
        fresh.provenance["versions"] = {"aiohttp": "3.0"}
        found = run.begun(tmp_path / "r.json", fresh, again=False)
        assert (found.settings["rounds"], len(found.samples)) == (7, 1)
        assert found.provenance["command"] == "python -m bench run && python -m bench run --rounds 7"
        assert found.provenance["versions"] == {"picows": "2.0", "fastws": "1.0", "aiohttp": "3.0"}

    @pytest.mark.parametrize("text", ["", "[]", '{"format": 2}'])
    def test_not_a_file_of_results(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "r.json").write_text(text)
        with pytest.raises(BenchError, match=r"r\.json"):
            Results.load(tmp_path / "r.json")


class TestConclusions:
    def test_ratios_are_taken_within_rounds(self) -> None:
        found = results(
            *(sample("fastws", n, server_cpu=cpu) for n, cpu in enumerate([0.1, 0.2, 0.9])),
            *(sample("picows", n, server_cpu=cpu) for n, cpu in enumerate([0.2, 0.4, 0.9])),
        )
        assert found.ratio(ECHO.name, "fastws", "picows") == pytest.approx(0.5)
        assert found.figure(ECHO.name, "fastws") == pytest.approx(2.0)
        assert found.ratio(ECHO.name, "fastws", "bare") is None

    def test_figures(self) -> None:
        one = sample(memory=50_000_000, latency={"p50_us": 7.0})
        assert one.figure(CPU) == pytest.approx(9.9)
        assert (one.figure(MEMORY), one.figure("latency")) == (500, 7)

    @pytest.mark.parametrize(
        ("changes", "floor", "why"),
        [
            ({}, {"count": 300_000}, ""),
            ({"generator_cpu": 0.95}, {"count": 300_000}, "generator was at 95%"),
            ({"server_cpu": 0.6}, {"count": 300_000}, "server was at 60%"),
            ({}, {"count": 90_000}, "no more against bare"),
            ({}, None, "headroom is not proved"),
        ],
    )
    def test_a_throughput_that_does_not_count(
        self, changes: dict[str, Any], floor: dict[str, Any] | None, why: str
    ) -> None:
        found = results(sample(**changes))
        if floor is not None:
            found.samples.append(sample("bare", **floor))
        assert (found.throughput(ECHO.name, "fastws") is None) == bool(why)
        assert why in found.objection(ECHO.name, "fastws")

    @pytest.mark.parametrize(
        ("count", "lag", "why"),
        [(99_000, 10.0, ""), (90_000, 10.0, "only 90% of what was due"), (99_000, 60.0, "p99 is 60%")],
    )
    def test_a_latency_that_does_not_count(self, count: int, lag: float, why: str) -> None:
        latency = {"p50_us": 20.0, "p99_us": 100.0}
        late = sample(workload=OPEN.name, count=count, asked_rate=100_000, latency=latency, lag={"p99_us": lag})
        assert why in (told := results(late).lateness(OPEN.name, "fastws"))
        assert bool(why) == bool(told)
        assert results().lateness(OPEN.name, "fastws") == "it was not measured"

    def test_disturbance(self) -> None:
        assert results(sample()).disturbance(ECHO.name) == ""
        assert "fastws 10%" in results(sample(server_wait=0.1)).disturbance(ECHO.name)


class TestOpenLoop:
    def test_a_share_of_the_servers_own_peak(self) -> None:
        found = results(sample("picows", 0, count=10_000), sample("picows", 1, count=30_000), sample("bare"))
        assert run.rate_for(found, OPEN, "picows") == 10_000
        with pytest.raises(BenchError, match="no throughput"):
            run.rate_for(found, OPEN, "fastws")

    def test_the_same_for_all(self) -> None:
        assert run.rate_for(results(), WORKLOADS["latency-10k"], "fastws") == 10_000
        assert run.rate_for(results(), ECHO, "fastws") == 0


class TestTelling:
    """`compare`: what an interval says."""

    def test_a_difference_is_found(self) -> None:
        chance = random.Random(7)
        low, high = compare.interval([chance.gauss(0.95, 0.03) for _ in range(30)], draws=2000)
        assert 0.92 < low < 0.95 < high < 0.98
        assert compare.verdict(low, high) == "less"
        assert compare.verdict(1 / high, 1 / low) == "more"

    def test_noise_is_no_difference(self) -> None:
        """In 95 of 100 the interval holds what is true."""
        chance, wrong = random.Random(8), 0
        for _ in range(100):
            low, high = compare.interval([chance.gauss(1, 0.1) for _ in range(15)], draws=500)
            wrong += compare.verdict(low, high) != "no difference can be told"
        assert wrong <= 12

    def test_no_such_commit(self) -> None:
        with pytest.raises(BenchError, match="no commit 'not-one'"):
            compare.built("not-one", "fastws")


def bench(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=BENCH.parent)


CORES = ",".join(map(str, sorted(os.sched_getaffinity(0))[:2]))


class TestCommand:
    @pytest.mark.slow
    def test_a_run_is_interrupted_by_its_limit_and_goes_on(self, tmp_path: Path) -> None:
        path = tmp_path / "r.json"
        run = [
            "run",
            "--servers",
            "fastws",
            "bare",
            "--workloads",
            ECHO.name,
            "idle-10000",
            "latency-50",
            "--rounds",
            1,
        ]
        run += ["--seconds", 0.2, "--cores", CORES, "--output", path]
        first = bench(*run, "--minutes", 0.1)
        assert first.returncode == 0, first.stderr
        assert "the same command goes on" in first.stdout
        there = Results.load(path).samples
        assert 0 < len(there) < 8
        second = bench(*run)
        assert second.returncode == 0, second.stderr
        found = Results.load(path)
        assert found.samples[: len(there)] == there
        works = [ECHO.name, "accept-10000", "idle-10000", "latency-50"]
        assert {(s.workload, s.server) for s in found.samples} == {(w, s) for w in works for s in ("fastws", "bare")}
        assert len(found.samples) == 8
        assert 100 < (found.figure("idle-10000", "fastws") or 0) < 2000
        for latency in (s for s in found.samples if s.workload == "latency-50"):
            peak = found.of(ECHO.name, latency.server)[0].rate
            assert latency.asked_rate == pytest.approx(peak / 2)
            assert latency.latency is not None
            assert 0 < latency.latency["p50_us"] <= latency.latency["p99_us"] <= latency.latency["max_us"]

    def test_a_server_that_fails_is_told_and_given_up(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        broken = Server(**{**vars(SERVERS["bare"]), "name": "broken", "command": [sys.executable, "-c", "exit('no')"]})
        plan = run.planned(results(), [ECHO], [broken], rounds=4)
        found = results()
        cores = tuple(map(int, CORES.split(",")))
        assert run.carry_out(found, plan, (cores[0], cores[1]), tmp_path / "r.json", until=float("inf"))
        assert [(f["server"], f["round"]) for f in found.failures] == [("broken", 0), ("broken", 1)]
        assert "no" in found.failures[0]["error"]
        assert Results.load(tmp_path / "r.json") == replace(found)

    def test_wrong_arguments(self) -> None:
        for arguments, told in [
            (["run", "--servers", "nginx"], "no server 'nginx'"),
            (["run", "--workloads", "echo-65"], "'echo-65'"),
            (["run", "--quick", "--full"], "exclude each other"),
            (["run", "--rounds", "0"], "not at least 1"),
            (["compare", "HEAD", "HEAD"], "the same"),
            (["compare", "HEAD", "not-one"], "no commit 'not-one'"),
        ]:
            done = bench(*arguments)
            assert done.returncode == 2
            assert told in done.stderr
            assert "Traceback" not in done.stderr

    def test_list(self) -> None:
        assert "echo-64-text-100-1" in bench("list").stdout


def test_parse_cores() -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="two different cores"):
        run.core_pair("0,0")
