"""Builds the one compiled extension; everything declarative stands in pyproject.toml."""

import os
import re
import shutil
import sys
import tempfile
from glob import glob
from pathlib import Path

from Cython.Build import cythonize
from Cython.Compiler import Options
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.egg_info import egg_info
from setuptools.errors import CompileError, LinkError

# Before all else: pip would build uvloop before BuildExt runs, and uvloop fails on Windows with a message about itself.
if sys.platform != "linux":
    sys.exit(
        f"fastws needs Linux, for its epoll, and this is {sys.platform}: use a container, WSL or a virtual machine"
    )

# Developers and CI set FASTWS_STRICT=1; a user's newer compiler must not fail an install over a new warning.
strict = os.environ.get("FASTWS_STRICT") == "1"
Options.warning_errors = strict

#: All at once: who lacks one of these often lacks the next one, too.
PACKAGES = (
    "The build needs, on Debian and Ubuntu: apt-get install gcc libc6-dev python3-dev zlib1g-dev; "
    "on Fedora: dnf install gcc python3-devel zlib-devel"
)


class BuildExt(build_ext):
    def run(self) -> None:
        # Who builds in place, or sets CFLAGS, may want to debug or profile it, and a distribution strips by itself. To
        # others the debug information, which CPython's own flags ask for, is six sevenths of what they install.
        if not (self.inplace or self.editable_mode or "CFLAGS" in os.environ):  # super().run() unsets `inplace`
            for extension in self.extensions:
                extension.extra_compile_args.append("-g0")
                extension.extra_link_args.append("-Wl,-s")
        super().run()

    def build_extensions(self) -> None:
        self.look_for_what_is_needed()
        super().build_extensions()

    def look_for_what_is_needed(self) -> None:
        """Ends the build with what is missing, which a compiler's own complaint about the core does not tell."""
        compiler = self.compiler.compiler_so[0]
        if shutil.which(compiler) is None:
            named = "which CC names" if "CC" in os.environ else "with which this Python was built"
            sys.exit(f"fastws: there is no C compiler: {compiler}, {named}, is not found. {PACKAGES}")
        python = f"Python {sys.version_info.major}.{sys.version_info.minor}"
        with tempfile.TemporaryDirectory() as folder:
            for line, libraries, missing in (
                ("int fastws;", None, f"the C compiler {compiler} does not compile an empty program: see above"),
                ("int fastws;", [], f"{self.compiler.linker_so[0]} does not link an empty library: see above"),
                ("#include <stdio.h>", None, "the headers of the C library are missing: no stdio.h"),
                ("#include <Python.h>", None, f"the headers of {python} are missing: no Python.h"),
                ("#include <zlib.h>", None, "the headers of zlib are missing: no zlib.h"),
                ("int fastws;", ["z"], "there is zlib.h, but no libz to link with"),
            ):
                source = Path(folder) / "needed.c"
                source.write_text(f"{line}\n")
                try:
                    objects = self.compiler.compile([str(source)], folder)
                    if libraries is not None:
                        self.compiler.link_shared_object(objects, f"{folder}/needed.so", libraries=libraries)
                except (CompileError, LinkError):
                    sys.exit(f"fastws: {missing}. {PACKAGES}")


extension = Extension(
    "fastws._speedups",
    ["fastws/_speedups.pyx"],
    depends=[*glob("fastws/core/*/*"), *glob("fastws/_simd/*.h"), "fastws/_speedups.pxd"],
    include_dirs=["fastws/core/io", "fastws/core/connection", "fastws/_simd"],
    libraries=["z"],
    extra_compile_args=["-O3", "-fvisibility=hidden", "-Wall"] + (["-Werror"] if strict else []),
)


def with_absolute_links(text: str) -> str:
    """README.md with links that lead into the repository: in a clone and on a branch they are relative."""
    found = re.search(r'^Source = "(.+)"$', Path("pyproject.toml").read_text(), re.MULTILINE)
    assert found, "pyproject.toml names no Source"

    def absolute(link: re.Match[str]) -> str:
        picture, label, target = link.groups()
        where = "" if target.startswith("#") else "/raw/HEAD/" if picture else "/blob/HEAD/"
        return f"{picture}[{label}]({found[1]}{where}{target})"

    return re.sub(r"(!?)\[([^]]*)\]\((?!https?:)([^)\s]+)\)", absolute, text)


class EggInfo(egg_info):
    def run(self) -> None:
        metadata = self.distribution.metadata
        metadata.long_description = with_absolute_links(metadata.long_description)
        super().run()


setup(
    ext_modules=cythonize([extension], build_dir="build/cython"),
    cmdclass={"build_ext": BuildExt, "egg_info": EggInfo},
)
