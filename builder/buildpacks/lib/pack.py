"""What the bundled buildpacks share. Runs under any Python from 3.8 on; standard library only."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

NOT_FROM_ENV = (
    r"PATH|HOME|TMPDIR|STACK|REQUEST_ID|SOURCE_VERSION|LD_.*|GIT_.*|IFS|SHELL|BASH_ENV|PYTHON.*|NODE_OPTIONS|"
    r"RUBYOPT|RUBYLIB"
)
"""Variables of an app that mean its running processes, or that would turn our own tools around."""

KEPT = 2
"""Installations of a kind that stay in the cache: somebody may go back and forth between two sets of dependencies."""
CONTENT = "content"
"""The installation within its layer: the layer's own time says when it was used."""
HALF = "half"
"""What is not whole yet."""
READY = "MOORING_READY"
"""Variable of our own that names the folder with copies that were made ahead of a build, below KIND/KEY."""


class Refused(Exception):
    """The app can't be built; the words are for the person who pushed it."""


def step(text: str) -> None:
    print(f"-----> {text}", flush=True)


def say(text: str) -> None:
    print(f"       {text}", flush=True)


def warn(text: str) -> None:
    print(f" !     {text}", flush=True)


def main(programs: "Mapping[str, Callable[..., None]]", arguments: "Sequence[str]") -> None:
    """Run `NAME PATH…`: the programs of a buildpack are one file each. Exits with 1 where it is refused."""
    try:
        programs[arguments[0]](*(Path(argument) for argument in arguments[1:]))
    except Refused as error:
        warn(str(error))
        sys.exit(1)


def app_variables(env_dir: Path, beside: str = "") -> "dict[str, str]":
    """The app's own variables, without those that mean its running processes, and without `beside`."""
    kept_out = re.compile(f"{NOT_FROM_ENV}|{beside}" if beside else NOT_FROM_ENV)
    found = {}
    for file in sorted(env_dir.iterdir()):
        if not kept_out.fullmatch(file.name):
            found[file.name] = file.read_text(errors="surrogateescape")
    return found


def run(
    command: "Sequence[str]",
    folder: Path,
    environment: "Mapping[str, str]",
    failure: str,
    seconds: "float | None" = None,
) -> None:
    """Raises Refused with the sentence `failure` where it fails; what it prints is shown.

    `seconds`: for a program that would wait for a silent server without end.
    """
    try:
        done = subprocess.run(list(command), cwd=folder, env=dict(environment), timeout=seconds, check=False)
    except subprocess.TimeoutExpired as error:
        raise Refused(
            f"{' '.join(command[:3])} took longer than {seconds:.0f} seconds, and was ended: what it fetches "
            "from does not answer, or is slow."
        ) from error
    except OSError as error:
        raise Refused(f"{command[0]} could not be started: {error.strerror}.") from error
    if done.returncode != 0:
        raise Refused(failure)


def output_of(command: "Sequence[str]", folder: Path, environment: "Mapping[str, str]") -> str:
    """What it prints on standard output; empty where it fails."""
    try:
        done = subprocess.run(
            list(command), cwd=folder, env=dict(environment), stdout=subprocess.PIPE, timeout=120, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode("utf-8", "replace").strip() if done.returncode == 0 else ""


def run_hook(build: Path, name: str, environment: "Mapping[str, str]") -> None:
    """A program of the app's own, by the names that other hosts know too."""
    program = build / name
    if program.is_file():
        step(f"Running {name}")
        command = [str(program)] if os.access(program, os.X_OK) else ["sh", str(program)]
        run(command, build, environment, f"{name} failed; its last lines above say why.")


def read_json(file: Path) -> "dict[str, object]":
    """Raises Refused where it is no JSON object."""
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig", errors="replace"))
    except (ValueError, RecursionError) as error:
        raise Refused(f"{file.name} is no valid JSON: {error}.") from error
    except OSError as error:
        raise Refused(f"{file.name} can't be read: {error.strerror}.") from error
    if not isinstance(content, dict):
        raise Refused(f"{file.name} must hold a JSON object.")
    return content


def key_of(parts: "Iterable[str]") -> str:
    """Names what an installation depends on."""
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).hexdigest()


def take_from_cache(cache: Path, name: str, key: str, target: Path) -> bool:
    """Put the installation that was kept under this key in place; False where there is none."""
    layer = cache / "layers" / name / key
    if not (key and layer.is_dir()):
        return False
    shutil.rmtree(target, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    if not (_is_taken(name, key, target) or _copy(layer / CONTENT, target)):
        return False
    os.utime(layer)  # as one that was used last, it stays
    return True


def _is_taken(name: str, key: str, target: Path) -> bool:
    """Whether a copy was made ready for this build, and is in place now."""
    if READY not in os.environ:
        return False
    try:
        (Path(os.environ[READY]) / name / key).rename(target)
    except OSError:
        return False
    return True


def make_ready(layer: Path, place: Path) -> None:
    """Copy one, for `take_from_cache` of a build whose environment names `place` as READY. It may be killed."""
    target = place / layer.parent.name / layer.name
    half = target.with_name(f"{layer.name}.{HALF}")
    half.parent.mkdir(parents=True, exist_ok=True)
    if _copy(layer / CONTENT, half):
        half.rename(target)


def keep_in_cache(cache: Path, name: str, key: str, origin: Path) -> None:
    """Keep it as a layer that later builds with this key take, and few layers in all."""
    layers = cache / "layers" / name
    half = layers / HALF
    shutil.rmtree(half, ignore_errors=True)
    if not (key and origin.is_dir()):
        return
    half.mkdir(parents=True)
    if _copy(origin, half / CONTENT):
        shutil.rmtree(layers / key, ignore_errors=True)
        # Only now can it be found: a build that is ended halfway leaves nothing to trust.
        half.rename(layers / key)
    shutil.rmtree(half, ignore_errors=True)
    newest_first = sorted(layers.iterdir(), key=lambda layer: layer.stat().st_mtime, reverse=True)
    for layer in newest_first[KEPT:]:
        shutil.rmtree(layer, ignore_errors=True)


def write_profile(build: Path, name: str, text: str) -> None:
    """A shell file that is sourced before each process starts."""
    folder = build / ".profile.d"
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text)


def declare(types: "Mapping[str, str]", variables: "Mapping[str, str]") -> None:
    """Print what bin/release has to say. JSON is YAML too, whatever a command has in it."""
    print(json.dumps({"default_process_types": dict(types), "config_vars": dict(variables)}))


def version_of(text: str) -> "tuple[int, ...]":
    """The first number with dots in a text: () where there is none."""
    match = re.search(r"\d{1,9}(?:\.\d{1,9})*", text)
    return tuple(int(part) for part in match[0].split(".")[:3]) if match else ()


def _copy(origin: Path, target: Path) -> bool:
    # Links between files where the disk can share their content; a plain copy else. Of times and owners nothing
    # is kept in a slug, and asking for them of each file takes a quarter longer.
    command = ["cp", "-dR", "--preserve=links", "--reflink=auto", "--", str(origin), str(target)]
    return subprocess.run(command, check=False).returncode == 0
