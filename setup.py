"""Builds what is compiled or generated: protobuf stubs from proto/, extensions from native/.

A generated or compiled module lands at the same path under engine/ that its source has under proto/ or native/engine/.
Everything else about the distribution is in pyproject.toml.
"""

from __future__ import annotations

import copy
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import ClassVar

from setuptools import Command, Extension, find_packages, setup
from setuptools.command.build import build
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
PROTOS = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("proto/engine/v1/*.proto"))
BOX = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("native/box/*.c"))
BOX_HEADERS = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("native/box/*.h"))
PARTS = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("native/engine/*/*.p*"))
LOOP = [
    "native/sched/lane.c",
    "native/sched/loop.c",
    "native/sched/json.c",
    "native/sched/carry.c",
    "native/sched/crc.c",
]
SCHED = sorted({path.relative_to(ROOT).as_posix() for path in ROOT.glob("native/sched/*.c")} - set(LOOP))
FRONT = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("native/front/*.[ch]"))
RELAY = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("native/relay/*.c"))
RELAY_HEADERS = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("native/relay/*.h"))
HTTP = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("native/http/*.[ch]"))
SCHED_HEADERS = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("native/sched/*.h"))

PROCESSORS = len(os.sched_getaffinity(0))

C_FLAGS = [
    "-std=gnu11",
    "-O2",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-Wno-format-truncation",
    "-D_GNU_SOURCE",
    "-fstack-protector-strong",
    "-D_FORTIFY_SOURCE=2",
]
# Cython's own output is not ours to make free of warnings.
CYTHON_FLAGS = [flag for flag in C_FLAGS if flag not in ("-Wall", "-Wextra", "-Werror")]
LINK_FLAGS = ["-Wl,-z,relro,-z,now"]
if os.environ.get("CLEAVE_SANITIZE"):
    SANITIZE = [f"-fsanitize={os.environ['CLEAVE_SANITIZE']}", "-fno-omit-frame-pointer", "-g"]
    C_FLAGS += SANITIZE
    CYTHON_FLAGS += SANITIZE
    LINK_FLAGS += SANITIZE
STEPS = bool(os.environ.get("CLEAVE_STEPS"))
if STEPS:
    # The step counter of tests/faults/test_steps_*.py; see native/box/steps.h. Nobody times it, and the tests of a
    # fresh clone build it: the compiler need not try hard.
    C_FLAGS += ["-DBOX_STEPS", "-O1"]
    CYTHON_FLAGS += ["-DBOX_STEPS", "-O1"]
    LINK_FLAGS.append("-Wl,-soname,cleave-steps")  # what a function in the tests knows its zygote's copy by
BARE = bool(os.environ.get("CLEAVE_BARE"))
if BARE:
    # Starts without isolation, for bench/isolation.py to measure against; see native/box/forkserver.c.
    C_FLAGS.append("-DBOX_BARE")
    CYTHON_FLAGS.append("-DBOX_BARE")


class GenerateProto(Command):
    """Turn proto/engine/v1/*.proto into engine/v1/*_pb2.py, with .pyi stubs."""

    description = "generate protobuf and gRPC modules"
    user_options: ClassVar[list[tuple[str, str | None, str]]] = []
    build_lib: str | None = None
    editable_mode = False

    def initialize_options(self) -> None:
        self.build_lib = None

    def finalize_options(self) -> None:
        self.set_undefined_options("build_py", ("build_lib", "build_lib"))

    def run(self) -> None:
        self._generate(ROOT)
        if not self.editable_mode:
            assert self.build_lib is not None
            self._generate(ROOT / self.build_lib)

    def _generate(self, target: Path) -> None:
        from importlib.resources import files

        from grpc_tools import protoc

        target.mkdir(parents=True, exist_ok=True)
        package = target / "engine" / "v1"
        package.mkdir(parents=True, exist_ok=True)
        (package / "__init__.py").write_text('"""Generated from proto/engine/v1: do not edit."""\n')
        os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        status = protoc.main(
            [
                "protoc",
                f"--proto_path={ROOT / 'proto'}",
                f"--proto_path={files('grpc_tools') / '_proto'}",
                f"--python_out={target}",
                f"--grpc_python_out={target}",
                f"--mypy_out={target}",
                f"--mypy_grpc_out={target}",
                *(str(ROOT / path) for path in PROTOS),
            ]
        )
        if status != 0:
            raise SystemExit(f"protoc failed with status {status}; its messages are above")

    def get_source_files(self) -> list[str]:
        return list(PROTOS)

    def get_outputs(self) -> list[str]:
        names = []
        for proto in PROTOS:
            stem = Path(proto).stem
            names += [f"{stem}_pb2.py", f"{stem}_pb2.pyi", f"{stem}_pb2_grpc.py", f"{stem}_pb2_grpc.pyi"]
        return [f"{self.build_lib}/engine/v1/{name}" for name in names]

    def get_output_mapping(self) -> dict[str, str]:
        return {}


class BuildPyAfterProto(build_py):
    """Generate before the packages are collected, so that engine.v1 is one of them."""

    def run(self) -> None:
        self.run_command("generate_proto")
        if "engine.v1" not in self.packages:
            self.packages.append("engine.v1")
            self.data_files = self._get_data_files()
        super().run()


class BuildExt(build_ext):
    """Compile Cython sources only where an extension is built."""

    def finalize_options(self) -> None:
        from Cython.Build import cythonize

        self.distribution.ext_modules = cythonize(  # type: ignore[no-untyped-call]
            self.distribution.ext_modules,
            include_path=["native"],
            build_dir="build/cython",
            nthreads=PROCESSORS,
            compiler_directives={"language_level": "3", "binding": False, "embedsignature": False},
        )
        super().finalize_options()
        if self.parallel is None:
            self.parallel = PROCESSORS

    def build_extension(self, ext: Extension) -> None:
        """In a folder of its own: extensions are built at once, and have sources in common."""
        own = copy.copy(self)
        own.build_temp = str(Path(self.build_temp, ext.name))
        super(BuildExt, own).build_extension(ext)


build.sub_commands.insert(0, ("generate_proto", None))

EXTENSIONS = [
    # What the engine holds: Cython over the box.
    Extension(
        "engine.sandbox._box",
        ["native/engine/sandbox/_box.pyx", *BOX, *LOOP, *SCHED],
        include_dirs=["native/box", "native"],
        depends=[*BOX_HEADERS, *SCHED_HEADERS, *PARTS],
        extra_compile_args=CYTHON_FLAGS,
        extra_link_args=LINK_FLAGS,
    ),
    # The scheduler's decisions.
    Extension(
        "engine.scheduler._sched",
        ["native/engine/scheduler/_sched.pyx", *SCHED],
        include_dirs=["native"],  # native/sched would hide the system's sched.h
        depends=SCHED_HEADERS,
        extra_compile_args=CYTHON_FLAGS,
        extra_link_args=LINK_FLAGS,
    ),
    # The same decisions over virtual sandboxes: a load in a second that takes a day.
    Extension(
        "engine.scheduler._simulate",
        ["native/engine/scheduler/_simulate.pyx", *SCHED],
        include_dirs=["native"],
        depends=SCHED_HEADERS,
        extra_compile_args=CYTHON_FLAGS,
        extra_link_args=LINK_FLAGS,
    ),
    # The way of a plain HTTP request between the process that reads it and the engine.
    Extension(
        "engine.rest._relay",
        ["native/engine/rest/_relay.pyx", *RELAY],
        include_dirs=["native"],
        depends=[*RELAY_HEADERS, *SCHED_HEADERS],
        extra_compile_args=CYTHON_FLAGS,
        extra_link_args=LINK_FLAGS,
    ),
    # Plain HTTP requests, past the HTTP server.
    Extension(
        "engine.rest._http",
        ["native/engine/rest/_http.pyx", *(path for path in HTTP if path.endswith(".c"))],
        include_dirs=["native"],
        depends=[*HTTP, *SCHED_HEADERS],
        extra_compile_args=CYTHON_FLAGS,
        extra_link_args=LINK_FLAGS,
    ),
    # What a zygote loads: plain C on the limited API, so that one build serves every Python from 3.9 on.
    Extension(
        "engine.zygote._fork",
        ["native/engine/zygote/_fork.c", *BOX],
        include_dirs=["native/box"],
        depends=BOX_HEADERS,
        define_macros=[("Py_LIMITED_API", "0x03090000")],
        py_limited_api=True,
        extra_compile_args=C_FLAGS,
        extra_link_args=LINK_FLAGS,
    ),
]


def has_nghttp2() -> bool:
    """Whether the gRPC front of the engine's own can be built; without it the servicers run on grpcio's."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "has.c")
        # What came last of what the front asks for: a libnghttp2 without it cannot bound resets.
        uses = "nghttp2_option_set_stream_reset_rate_limit(0, 0, 0)"
        source.write_text(f"#include <nghttp2/nghttp2.h>\nint main(void) {{ {uses}; return 0; }}\n")
        command = [*shlex.split(os.environ.get("CC", "cc")), str(source), "-lnghttp2", "-o", str(Path(folder, "has"))]
        try:
            return subprocess.run(command, capture_output=True, check=False).returncode == 0
        except OSError:
            return False


if has_nghttp2():
    EXTENSIONS.append(
        # What gRPC clients speak to.
        Extension(
            "engine.rpc._front",
            ["native/engine/rpc/_front.pyx", *(path for path in FRONT if path.endswith(".c"))],
            include_dirs=["native"],
            depends=[*FRONT, *SCHED_HEADERS, *PARTS],
            libraries=["nghttp2"],
            extra_compile_args=CYTHON_FLAGS,
            extra_link_args=LINK_FLAGS,
        )
    )

if os.environ.get("CLEAVE_SANITIZE") == "thread":
    # A zygote has one thread, and an environment of its own, in which nothing loads the sanitizer's runtime.
    for one in EXTENSIONS:
        if one.name == "engine.zygote._fork":
            one.extra_compile_args = [flag for flag in C_FLAGS if flag not in SANITIZE]
            one.extra_link_args = [flag for flag in LINK_FLAGS if flag not in SANITIZE]

# Only what differs from the ordinary build.
if STEPS:
    EXTENSIONS = [one for one in EXTENSIONS if "native/box" in one.include_dirs]
if BARE:
    EXTENSIONS = [one for one in EXTENSIONS if one.name == "engine.zygote._fork"]

setup(
    # engine.v1 is found once it was generated; in a fresh clone BuildPyAfterProto adds it.
    packages=find_packages(include=["engine", "engine.*"]),
    package_data={"engine": ["py.typed"], "engine.rest": ["*.json"], "engine.v1": ["*.pyi"]},
    ext_modules=EXTENSIONS,
    cmdclass={"generate_proto": GenerateProto, "build_py": BuildPyAfterProto, "build_ext": BuildExt},
)
