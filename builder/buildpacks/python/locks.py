"""Lockfiles of Python's package managers, as requirements that `uv pip install` takes.

Each function writes a file below the build's temporary folder and returns what the installation is told, or None
where the lockfile names nothing. Development dependencies are left out.
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lib"))
import pack
from pack import Refused, step

OWN = re.compile(r"\.{1,2}(/[^\s;#]*)?")
"""A line of requirements that is a folder of the app, and nothing else."""
PYPI = "https://pypi.org/simple"


def from_uv(build: Path, environment: "Mapping[str, str]") -> "list[str] | None":
    """uv.lock by uv's own export: with the app itself and the members of its workspace, where they are packages."""
    locked = _place(environment)
    switches = ["--quiet", "--frozen", "--no-dev", "--no-editable", "--no-header", "--no-annotate"]
    pack.run(
        ["uv", "export", *switches, "--format", "requirements.txt", "--output-file", str(locked)],
        build,
        environment,
        "uv.lock could not be read; uv says above why.",
    )
    # Packages of the app's own are told apart: they change without the lockfile.
    own = [line for line in meaningful_lines(locked) if OWN.fullmatch(line)]
    others = [line for line in locked.read_text().splitlines() if not OWN.fullmatch(line.strip())]
    locked.write_text("".join(f"{line}\n" for line in others))
    return [*(["-r", str(locked)] if meaningful_lines(locked) else []), *own] or None


def from_poetry(build: Path, environment: "Mapping[str, str]") -> "list[str] | None":
    """poetry.lock by poetry's own export, run by uv where the server has no poetry; then the app, if a package."""
    locked = _place(environment)
    export = ["export", "--format", "requirements.txt", "--output", str(locked)]
    poetry = shutil.which("poetry", path=environment["PATH"])
    tool = ["uv", "tool", "run", "--quiet", "--from", "poetry", "--with", "poetry-plugin-export", "poetry"]
    step(
        "Installing poetry's export of poetry.lock" if poetry is None else "Installing what poetry.lock says"
    )
    for command in [[poetry], tool] if poetry else [tool]:
        done = subprocess.run([*command, *export], cwd=build, env=dict(environment), check=False)
        if done.returncode == 0 and locked.is_file():
            found = ["-r", str(locked)] if meaningful_lines(locked) else []
            return [*found, "."] if is_package_of_poetry(build) else found or None
    raise Refused(
        "poetry.lock could not be read by poetry; see above. Run `poetry export -o requirements.txt` and commit that "
        "file beside it."
    )


def is_package_of_poetry(build: Path) -> bool:
    """Whether poetry would install the app itself: many have a [build-system] and no code that it could package."""
    file = build / "pyproject.toml"
    text = file.read_text(errors="replace") if file.is_file() else ""
    if "build-system" not in tables(text) or re.search(r"^package-mode\s*=\s*false\b", text, re.MULTILINE):
        return False
    if re.search(r"^packages\s*=", text, re.MULTILINE):
        return True
    match = re.search(r"^name\s*=\s*[\"']([^\"']+)[\"']", text, re.MULTILINE)
    name = re.sub(r"[-_.]+", "_", match[1]).lower() if match else ""
    return any((build / each).exists() for each in (f"{name}.py", name, f"src/{name}") if name)


def from_pipfile(build: Path, environment: "Mapping[str, str]") -> "list[str] | None":
    """Pipfile.lock: it is JSON, and says all that is needed. Refused where it is not as pipenv writes it."""
    content = pack.read_json(build / "Pipfile.lock")
    meta, packages = content.get("_meta"), content.get("default")
    if not isinstance(packages, dict):
        raise Refused("Pipfile.lock has no object `default`: run `pipenv lock`, and commit the file.")
    sources = meta.get("sources", []) if isinstance(meta, dict) else []
    lines = [*_indexes(sources), *(_requirement(name, entry) for name, entry in sorted(packages.items()))]
    _place(environment).write_text("".join(f"{line}\n" for line in lines))
    return ["-r", str(_place(environment))] if packages else None


def _indexes(sources: object) -> "list[str]":
    """The public one is what is asked anyway, or what the server asks in its place."""
    urls = (
        [each.get("url") for each in sources if isinstance(each, dict)] if isinstance(sources, list) else []
    )
    named = [each for each in urls if isinstance(each, str) and re.fullmatch(r"https?://\S+", each)]
    main = "" if any(each.rstrip("/") == PYPI for each in named) else "--index-url"
    others = [each for each in named if each.rstrip("/") != PYPI]
    return [f"{main or '--extra-index-url'} {each}" for each in others[:1]] + [
        f"--extra-index-url {each}" for each in others[1:]
    ]


def _requirement(name: str, entry: object) -> str:
    if not isinstance(entry, dict) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise Refused(f"Pipfile.lock: {name[:60]!a} is no package as pipenv writes it: run `pipenv lock`.")
    values = {key: value for key, value in entry.items() if isinstance(value, str)}
    if any(re.search(r"[\r\n]", value) for value in values.values()):
        raise Refused(f"Pipfile.lock: the entry {name!a} holds a line break.")
    extras = entry.get("extras")
    full = name + (f"[{','.join(map(str, extras))}]" if isinstance(extras, list) and extras else "")
    place = values.get("path") or values.get("file")
    if "git" in values:
        full += f" @ git+{values['git']}" + (f"@{values['ref']}" if "ref" in values else "")
    elif place:
        full = place if "path" in values else f"{full} @ {place}"
    else:
        full += values.get("version", "").replace("*", "", 1 if values.get("version") == "*" else 0)
    marker = f" ; {values['markers']}" if values.get("markers") else ""
    hashes = entry.get("hashes")
    sums = [each for each in hashes if isinstance(each, str)] if isinstance(hashes, list) else []
    return full + marker + "".join(f" --hash={each}" for each in sums if re.fullmatch(r"\w+:\w+", each))


def meaningful_lines(file: Path) -> "list[str]":
    lines = (line.strip() for line in file.read_text(errors="replace").splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def tables(text: str) -> "set[str]":
    """The names in brackets of a TOML file."""
    return set(re.findall(r"^\s*\[([^\[\]]+)\]\s*(?:#.*)?$", text, re.MULTILINE))


def _place(environment: "Mapping[str, str]") -> Path:
    return Path(environment["TMPDIR"]) / "locked.txt"
