"""Which of our files go into the image that builds are made in, as the tar of what the engine builds it from."""

import hashlib
import io
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import builder
import controller

PLACE = "/usr/lib/mooring"
CERTIFICATES = f"{PLACE}/ca-certificates.crt"
MODULES: Mapping[str, tuple[str, ...]] = {
    "builder": (
        *(
            "__init__",
            "base",
            "types",
            "buildpack",
            "procfile",
            "steps",
            "transcript",
            "clone",
            "detect",
            "packlist",
            "pack",
        ),
        *("slugignore", "tree", "ties", "workspace", "chain", "threads"),
        *(
            "inside/__init__",
            "inside/__main__",
            "inside/guard",
            "inside/order",
            "inside/printer",
            "inside/processes",
        ),
        "inside/reading",
    ),
    "controller": ("__init__", "types", "views", "errors", "names", "buildpacks"),
}
"""What runs there, and all that it imports but the standard library and PyYAML."""
START = b"""\
import runpy, sys
sys.path[:0] = ["/usr/lib/mooring/python", "/usr/lib/python3/dist-packages"]
runpy.run_module("builder.inside", run_name="__main__", alter_sys=True)
"""
DOCKERFILE = """\
FROM {base}
USER root
COPY mooring {place}
RUN mkdir -m 1777 /tmp/cache \\
 && /usr/bin/python3 -IS -m compileall -q --invalidation-mode unchecked-hash {place}/python
USER 1000
WORKDIR /
ENTRYPOINT ["/usr/bin/python3", "-IS", "{place}/slugbuilder"]
CMD ["-"]
"""


def files(buildpacks: Path, certificates: bytes | None) -> Mapping[str, tuple[bytes, bool]]:
    """Path below `PLACE` to content and whether it is a program. Blocking."""
    found = {"slugbuilder": (START, False)}
    for package, names in MODULES.items():
        root = Path({"builder": builder, "controller": controller}[package].__path__[0])
        for name in names:
            found[f"python/{package}/{name}.py"] = ((root / f"{name}.py").read_bytes(), False)
    for path in _packed(buildpacks):
        found[f"buildpacks/{path.relative_to(buildpacks)}"] = (path.read_bytes(), path.parent.name == "bin")
    if certificates is not None:
        found["ca-certificates.crt"] = (certificates, False)
    return found


def digest(base: str, parts: Mapping[str, tuple[bytes, bool]]) -> str:
    """Names what the image is made of."""
    hashed = hashlib.sha256(f"{base}\0{DOCKERFILE}".encode())
    for name, (content, program) in sorted(parts.items()):
        hashed.update(f"\0{name}\0{program}\0{len(content)}\0".encode() + content)
    return hashed.hexdigest()[:16]


def context(base: str, parts: Mapping[str, tuple[bytes, bool]]) -> io.BytesIO:
    """The tar that the engine builds it from."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        _add(archive, "Dockerfile", DOCKERFILE.format(base=base, place=PLACE).encode(), program=False)
        for name, (content, program) in sorted(parts.items()):
            _add(archive, f"mooring/{name}", content, program=program)
    target.seek(0)
    return target


def _add(archive: tarfile.TarFile, name: str, content: bytes, *, program: bool) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), 0o755 if program else 0o644
    archive.addfile(member, io.BytesIO(content))


def _packed(buildpacks: Path) -> Iterator[Path]:
    for path in sorted(buildpacks.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            yield path
