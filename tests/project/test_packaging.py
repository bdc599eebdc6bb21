"""What an install builds and brings, what it says where something is missing, and what the package index shows.

The extension is an empty one here, so that setup.py builds it in a second.
"""

from __future__ import annotations

import email
import os
import re
import shutil
import stat
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import fastws

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
FILES = ("setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "CHANGELOG.md", "LICENSE")
MADE = ("*.so", "_speedups.c", "__pycache__")
#: What would choose another compiler, or be preloaded into it.
UNSET = {"CC", "CFLAGS", "LDSHARED", "LDFLAGS", "LD_PRELOAD", "FASTWS_STRICT"}


class Tree:
    """A copy of what setup.py needs, with an empty core."""

    def __init__(self, root: Path) -> None:
        self.root = root / "tree"
        shutil.copytree(ROOT / "fastws", self.root / "fastws", ignore=shutil.ignore_patterns(*MADE))
        # The tests of an installed package run in a tree without it.
        shutil.copy(str(fastws.__file__), self.root / "fastws")
        for name in FILES:
            shutil.copy(ROOT / name, self.root)
        (self.root / "fastws" / "_speedups.pxd").write_text("")
        (self.root / "fastws" / "_speedups.pyx").write_text("nothing = None\n")

    def run(self, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=self.root,
            env={name: value for name, value in os.environ.items() if name not in UNSET} | variables,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def python(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return self.run(sys.executable, *arguments, **variables)

    def hook(self, name: str, to: Path) -> Path:
        """What this hook (PEP 517) of the build backend has made in the folder."""
        done = self.python("-c", f"from setuptools import build_meta; print(build_meta.{name}({str(to)!r}))")
        assert done.returncode == 0, done.stdout + done.stderr
        return to / done.stdout.splitlines()[-1]

    def build_ext(self, *arguments: str, **variables: str) -> None:
        done = self.python("setup.py", "-q", "build_ext", *arguments, **variables)
        assert done.returncode == 0, done.stderr

    def built(self, where: str) -> bytes:
        (extension,) = self.root.glob(f"{where}/_speedups.*.so")
        return extension.read_bytes()


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def tool(folder: Path, script: str) -> str:
    path = folder / "compiler"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def gcc_without(folder: Path, argument: str, instead: str) -> str:
    """gcc, as a machine has it on which there is not what the argument leads to."""
    change = f'case $one in {argument}) one={instead};; esac; set -- "$@" "$one"'
    return tool(folder, f'for one do shift; {change}; done\nexec gcc "$@"')


# What is missing


class TestWhatIsMissing:
    """Said in the last line, with what to install."""

    def last_line(self, tree: Tree, **variables: str) -> str:
        done = tree.python("setup.py", "-q", "build_ext", **variables)
        assert done.returncode == 1
        last = done.stderr.splitlines()[-1]
        assert last.startswith("fastws: ")
        assert "Traceback" not in done.stderr
        assert "apt-get install gcc libc6-dev python3-dev zlib1g-dev" in last
        assert list(tree.root.rglob("*.so")) == []
        return last

    def test_any_compiler(self, tree: Tree, tmp_path: Path) -> None:
        last = self.last_line(tree, PATH=str(tmp_path))
        assert re.search(r"there is no C compiler: \S+, with which this Python was built, is not found", last)
        assert "zlib.h" not in last

    @pytest.mark.parametrize("compiler", ["no-such-gcc", "/no/such/gcc", "no-such-gcc -m64"])
    def test_the_compiler_that_cc_names(self, tree: Tree, compiler: str) -> None:
        last = self.last_line(tree, CC=compiler)
        assert f"there is no C compiler: {compiler.split(maxsplit=1)[0]}, which CC names, is not found" in last

    def test_a_compiler_that_works(self, tree: Tree, tmp_path: Path) -> None:
        broken = tool(tmp_path, "exit 1")
        assert f"the C compiler {broken} does not compile an empty program" in self.last_line(tree, CC=broken)

    def test_a_linker(self, tree: Tree) -> None:
        assert "fastws: false does not link an empty library" in self.last_line(tree, LDSHARED="false")

    def test_the_c_librarys_headers(self, tree: Tree) -> None:
        assert "no stdio.h" in self.last_line(tree, CC="gcc -nostdinc")

    def test_the_headers_of_python(self, tree: Tree, tmp_path: Path) -> None:
        last = self.last_line(tree, CC=gcc_without(tmp_path, "-I*/python3*", "-I/no/such"))
        assert f"the headers of Python 3.{sys.version_info.minor} are missing: no Python.h" in last

    def test_the_headers_of_zlib(self, tree: Tree, tmp_path: Path) -> None:
        """gcc with all the headers that it finds by itself, but zlib.h."""
        told = tree.run("gcc", "-x", "c", "-E", "-v", "/dev/null").stderr
        compiler = "gcc -nostdinc"
        for number, line in enumerate(re.findall(r"^ (/\S+)$", told.partition("> search starts")[2], re.MULTILINE)):
            mirror = tmp_path / str(number)
            mirror.mkdir()
            compiler += f" -isystem {mirror}"
            for one in Path(line).iterdir():
                if one.name != "zlib.h":
                    (mirror / one.name).symlink_to(one)
        assert "the headers of zlib are missing: no zlib.h" in self.last_line(tree, CC=compiler)

    def test_zlib_itself(self, tree: Tree, tmp_path: Path) -> None:
        last = self.last_line(tree, CC=gcc_without(tmp_path, "-lz", "-lno-such-z"))
        assert "there is zlib.h, but no libz to link with" in last

    @pytest.mark.parametrize("platform", ["darwin", "win32"])
    def test_linux(self, tree: Tree, platform: str) -> None:
        """Said before all else, when pip asks what the package needs."""
        imports = "import runpy, sys, Cython.Build, setuptools.command.build_ext"
        done = tree.python("-c", f"{imports}; sys.platform = {platform!r}; runpy.run_path('setup.py')")
        assert done.returncode == 1
        assert done.stderr.startswith(f"fastws needs Linux, for its epoll, and this is {platform}: use a container")
        assert done.stderr.count("\n") == 1


# What is built


def test_what_is_installed_is_stripped(tree: Tree) -> None:
    tree.build_ext()
    built = tree.built("build/lib*/fastws")
    assert b"PyInit__speedups" in built
    assert b".debug_info" not in built
    assert b".symtab" not in built


def test_who_develops_keeps_symbols(tree: Tree, tmp_path: Path) -> None:
    """As sanitizers, perf and py-spy need them."""
    tree.hook("build_editable", tmp_path)
    assert b".symtab" in tree.built("fastws")
    tree.build_ext("--inplace", "--force", CFLAGS="-g")
    assert b".debug_info" in tree.built("fastws")
    tree.build_ext("--force", CFLAGS="-g")
    assert b".debug_info" in tree.built("build/lib*/fastws")


def test_a_build_in_place_keeps_symbols(tree: Tree) -> None:
    tree.build_ext("--inplace")
    assert b".symtab" in tree.built("fastws")


def test_the_core_that_is_tested_here() -> None:
    core = Path(fastws._speedups.__file__)
    assert (b".symtab" in core.read_bytes()) == (core.parent == ROOT / "fastws")


def test_the_source_distribution_has_all_that_a_wheel_is_built_of(tree: Tree, tmp_path: Path) -> None:
    with tarfile.open(tree.hook("build_sdist", tmp_path)) as archive:
        names = {Path(*Path(one.name).parts[1:]) for one in archive if one.isfile()}
    sources = {path.relative_to(tree.root) for path in tree.root.glob("fastws/**/*") if path.is_file()}
    sources = {path for path in sources if path.suffix != ".pyc"}
    made = {Path("PKG-INFO"), Path("setup.cfg")} | {name for name in names if name.parts[0].endswith(".egg-info")}
    assert names - made == sources | {Path(name) for name in FILES}


def test_a_wheel_has_what_is_imported_and_shown_and_nothing_else(tree: Tree, tmp_path: Path) -> None:
    with zipfile.ZipFile(tree.hook("build_wheel", tmp_path)) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    sources = [path.relative_to(tree.root) for path in tree.root.glob("fastws/**/*") if path.is_file()]
    of_the_core = {".pyx", ".pxd", ".pxi", ".h", ".c", ".so", ".pyc"}
    (extension,) = [name for name in names if name.endswith(".so")]
    assert names - {extension} == {str(path) for path in sources if path.suffix not in of_the_core}
    assert {"fastws/py.typed", "fastws/_speedups.pyi", "fastws/demo/index.html"} < names


# What the index shows


@pytest.fixture(scope="module")
def metadata(tmp_path_factory: pytest.TempPathFactory) -> email.message.Message:
    folder = tmp_path_factory.mktemp("metadata")
    tree = Tree(folder)
    return email.message_from_bytes((tree.hook("prepare_metadata_for_build_wheel", folder) / "METADATA").read_bytes())


def test_the_metadata_says_who_made_it_and_where_it_is(metadata: email.message.Message) -> None:
    assert metadata["Author"] == "fastws contributors"
    urls = dict(url.split(", ") for url in metadata.get_all("Project-URL", ()))
    assert set(urls) == {"Source", "Documentation", "Changelog", "Issues"}
    assert all(url.startswith(urls["Source"]) for url in urls.values())
    minors = {int(found) for found in re.findall(r"Python :: 3\.(\d+)", str(metadata.get_all("Classifier")))}
    required = re.search(r"^REQUIRED_IN_CI := (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert required
    assert {f"3.{minor}" for minor in minors} == set(required[1].split()), "what CI tests is what we say"


def test_every_link_of_the_index_leads_somewhere(metadata: email.message.Message) -> None:
    """What was relative leads into the repository, to a file or heading that is there."""
    shown = metadata.get_payload()
    assert isinstance(shown, str)
    (source,) = [url.partition(", ")[2] for url in metadata.get_all("Project-URL", ()) if url.startswith("Source")]
    links = re.findall(r"(!?)\[[^]]*\]\(([^)]*)\)", shown)
    assert len(links) == len(re.findall(r"\[[^]]*\]\([^)]*\)", README)) > 20
    assert not re.search(r"<(?:img|a)\b|^\[[^]]+\]:", shown, re.MULTILINE), "other kinds of links"
    ours = 0
    for picture, url in links:
        assert url.startswith("https://"), url
        if url.startswith(source):
            ours += 1
            found = re.fullmatch(r"(?:/(raw|blob)/HEAD/([^#]+))?(?:#([\w-]+))?", url.removeprefix(source))
            assert found, url
            kind, path, heading = found.groups()
            assert (kind == "raw") == bool(picture), url
            assert path is None or (ROOT / path).is_file(), url
            if heading:
                headings = re.findall(r"^#+ (.+)$", (ROOT / (path or "README.md")).read_text(), re.MULTILINE)
                assert heading in {re.sub(r"[^\w-]", "", one.lower().replace(" ", "-")) for one in headings}, url
    assert ours > 20


def test_the_index_shows_the_code_as_it_is(metadata: email.message.Message) -> None:
    code = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
    shown = metadata.get_payload()
    assert isinstance(shown, str)
    assert code.findall(shown) == code.findall(README) != []
