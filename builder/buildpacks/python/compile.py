"""Makes a Python app runnable: picks the interpreter, installs what the app requires.

Run as `python3 -I -S compile.py BUILD CACHE ENV_DIR`, by any Python from 3.8 on; standard library only.

BUILD/.mooring/python/ gets links named python and python3, so that `python app.py` works on a
machine that only has `python3`. An app with requirements gets a virtualenv at BUILD/.mooring/venv,
made and filled by uv, relocatable because the app runs under another path. CACHE keeps uv's cache and
the last virtualenv, which is used again while interpreter and requirements are the same.
"""

import contextlib
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

PROFILE = """\
export PATH="$PWD/.mooring/venv/bin:$PWD/.mooring/python:$PATH"
export PYTHONUNBUFFERED="${PYTHONUNBUFFERED:-1}"
"""
PROFILE_VENV = """\
export VIRTUAL_ENV="$PWD/.mooring/venv"
"""
NOT_FROM_ENV = re.compile(
    r"PATH|HOME|TMPDIR|STACK|REQUEST_ID|SOURCE_VERSION|PYTHON.*|LD_.*|GIT_.*|IFS|SHELL|VIRTUAL_ENV|UV_CACHE_DIR"
)
PINNED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\s*(\[[^\]]*\])?\s*([<>=!~][^@/]*)?\\?|--hash=\S+\s*\\?")
"""Lines that mean the same in every build: no path, no link, no other file."""


class Refused(Exception):
    """The app can't be built; the words are for the person who pushed it."""


def main(build: Path, cache: Path, env_dir: Path) -> None:
    environment = build_environment(cache, env_dir)
    python, version = find_python(wanted_version(build))
    say(f"Using Python {version} ({python})")
    run_hook(build, "bin/pre_compile", environment)
    venv = install(build, cache, python, version, environment)
    link_python(build, python)
    write_profile(build, venv=venv)
    if (build / "bin/post_compile").is_file():
        path = f"{build}/.mooring/venv/bin:{build}/.mooring/python:{environment['PATH']}"
        run_hook(build, "bin/post_compile", {**environment, "PATH": path})
    compile_sources(build, version)


def build_environment(cache: Path, env_dir: Path) -> "dict[str, str]":
    """Ours, and the app's own variables: requirements may name a private index by them.

    The app's win over the server's build_env.
    """
    given = {
        file.name: file.read_text()
        for file in sorted(env_dir.iterdir())
        if not NOT_FROM_ENV.fullmatch(file.name)
    }
    ours = {
        "UV_CACHE_DIR": str(cache / "uv"),
        "UV_LINK_MODE": "copy",  # the slug gets another owner, which must not reach the cache
        "UV_NO_PROGRESS": "1",
        "UV_PYTHON_DOWNLOADS": "never",
        "PYC_INVALIDATION_MODE": "UNCHECKED_HASH",  # a slug changes all times, and never its content
    }
    return {**with_names_of_uv(os.environ), **with_names_of_uv(given), **ours}


def with_names_of_uv(variables: "Mapping[str, str]") -> "dict[str, str]":
    """An index that was given in pip's words counts for uv too."""
    names = (("PIP_INDEX_URL", "UV_DEFAULT_INDEX"), ("PIP_EXTRA_INDEX_URL", "UV_INDEX"))
    return {**{uvs: variables[pips] for pips, uvs in names if pips in variables}, **variables}


def wanted_version(build: Path) -> "tuple[str, str] | None":
    """The version asked for and the file that asks; None when no file does."""
    for name, pattern in (
        (".python-version", r"(?:python-)?(\d+\.\d+)(\.\d+)?"),
        ("runtime.txt", r"python-(\d+\.\d+)(\.\d+)?"),
    ):
        file = build / name
        if not file.is_file():
            continue
        lines = [line.strip() for line in file.read_text(errors="replace").splitlines()]
        asked = next((line for line in lines if line and not line.startswith("#")), "")
        match = re.fullmatch(pattern, asked)
        if match is None:
            raise Refused(
                f"{name}: {asked[:60]!a} is no version that we understand; write one like "
                f"{'3.11' if name.startswith('.') else 'python-3.11'}."
            )
        return match[1], name
    return None


def find_python(wanted: "tuple[str, str] | None") -> "tuple[str, str]":
    """An interpreter that this user can run, and its version.

    The patch level of a wanted version is the machine's: 3.11.2 stands in for 3.11.9.
    """
    if wanted is None:
        return os.path.realpath(sys.executable), ".".join(map(str, sys.version_info[:3]))
    version, file = wanted
    for name in (f"python{version}", "python3"):
        program = shutil.which(name)
        if program:
            found = _version_of(program)
            if found.startswith(f"{version}."):
                return os.path.realpath(program), found
    have = sorted({found for found in map(_version_of, _installed()) if found})
    raise Refused(
        f"{file} asks for Python {version}, which this server does not have. It has "
        f"{', '.join(have) or 'none'}: change {file}, or have python{version} installed."
    )


def _installed() -> "list[str]":
    folders = [Path(folder) for folder in os.environ["PATH"].split(os.pathsep)]
    names = [file.name for folder in folders if folder.is_dir() for file in folder.glob("python3*")]
    found = (shutil.which(name) for name in names if re.fullmatch(r"python3(\.\d+)?", name))
    return [program for program in found if program]


def _version_of(program: str) -> str:
    command = [program, "-I", "-S", "-c", "import platform; print(platform.python_version())"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def install(build: Path, cache: Path, python: str, version: str, environment: "dict[str, str]") -> bool:
    """Install what the app requires; False when it requires nothing."""
    arguments = requirements(build, environment)
    if arguments is None:
        say("No dependencies")
        return False
    venv = build / ".mooring/venv"
    shutil.rmtree(venv, ignore_errors=True)
    venv.parent.mkdir(exist_ok=True)
    key = cache_key(build, arguments, python, version, environment)
    if key and take_from_cache(cache, key, venv):
        say("Requirements are the same as last time, using the virtualenv kept from then")
        return True
    step("Installing dependencies with uv")
    uv(build, environment, "venv", "--quiet", "--no-project", "--relocatable", "--python", python, str(venv))
    uv(
        build,
        environment,
        "pip",
        "install",
        "--python",
        str(venv / "bin/python"),
        "--compile-bytecode",
        *arguments,
    )
    keep_in_cache(cache, key, venv)
    return True


def requirements(build: Path, environment: "dict[str, str]") -> "list[str] | None":
    """What `uv pip install` is told; None when there is nothing to install."""
    if (build / "requirements.txt").is_file():
        lines = meaningful_lines(build / "requirements.txt")
        return ["-r", "requirements.txt"] if lines else None
    if (build / "uv.lock").is_file():
        locked = Path(environment["TMPDIR"]) / "locked.txt"
        uv(
            build,
            environment,
            "export",
            "--quiet",
            "--frozen",
            "--no-dev",
            "--no-emit-project",
            "--format",
            "requirements.txt",
            "--output-file",
            str(locked),
        )
        return ["-r", str(locked)] if meaningful_lines(locked) else None
    if (build / "pyproject.toml").is_file():
        tables = [line.strip() for line in meaningful_lines(build / "pyproject.toml")]
        if "[build-system]" in tables:
            return ["."]
        return ["-r", "pyproject.toml"] if "[project]" in tables else None
    if (build / "setup.py").is_file():
        return ["."]
    if (build / "Pipfile").is_file():
        raise Refused(
            "A Pipfile alone can't be installed here. Run `pipenv requirements > requirements.txt` "
            "and commit that file beside it."
        )
    return None


def meaningful_lines(file: Path) -> "list[str]":
    lines = (line.strip() for line in file.read_text(errors="replace").splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def cache_key(
    build: Path, arguments: "list[str]", python: str, version: str, environment: "dict[str, str]"
) -> str:
    """Names what the virtualenv depends on; empty when that can't be told from one file."""
    if arguments[0] != "-r":
        return ""
    file = build / arguments[1]
    if file.suffix == ".txt":
        for line in meaningful_lines(file):
            if not PINNED.fullmatch(re.sub(r"(^|\s+)#.*", "", line.partition(";")[0]).strip()):
                return ""
    indexes = sorted(f"{name}={value}" for name, value in environment.items() if name.startswith("UV_"))
    parts = [python, version, *indexes, file.read_text(errors="surrogateescape")]
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).hexdigest()


def take_from_cache(cache: Path, key: str, venv: Path) -> bool:
    name = cache / "venv.key"
    if not (name.is_file() and name.read_text() == key and (cache / "venv").is_dir()):
        return False
    return subprocess.run(["cp", "-a", "--", str(cache / "venv"), str(venv)], check=False).returncode == 0


def keep_in_cache(cache: Path, key: str, venv: Path) -> None:
    """The key is written last: a build that is ended halfway leaves no virtualenv to trust."""
    (cache / "venv.key").unlink(missing_ok=True)
    shutil.rmtree(cache / "venv", ignore_errors=True)
    if (
        key
        and subprocess.run(["cp", "-a", "--", str(venv), str(cache / "venv")], check=False).returncode == 0
    ):
        (cache / "venv.key").write_text(key)


def uv(build: Path, environment: "dict[str, str]", *arguments: str) -> None:
    done = subprocess.run(["uv", *arguments], cwd=build, env=environment, check=False)
    if done.returncode != 0:
        raise Refused("The dependencies could not be installed; uv says above why.")


def run_hook(build: Path, name: str, environment: "dict[str, str]") -> None:
    """A program of the app's own, by the names that other hosts know too."""
    program = build / name
    if program.is_file():
        step(f"Running {name}")
        command = [str(program)] if os.access(program, os.X_OK) else ["sh", str(program)]
        if subprocess.run(command, cwd=build, env=environment, check=False).returncode != 0:
            raise Refused(f"{name} failed; its last lines above say why.")


def link_python(build: Path, python: str) -> None:
    folder = build / ".mooring/python"
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("python", "python3"):
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(python)


def write_profile(build: Path, *, venv: bool) -> None:
    folder = build / ".profile.d"
    folder.mkdir(exist_ok=True)
    (folder / "000_python.sh").write_text(PROFILE + (PROFILE_VENV if venv else ""))


def compile_sources(build: Path, version: str) -> None:
    """Bytecode for the app's modules: it can't write any itself, its folder is read-only to it.

    A script that is started directly has no use for bytecode, so an app of one file is left alone.
    """
    files = []
    for folder, folders, names in os.walk(build):
        folders[:] = [name for name in folders if not name.startswith(".") and name != "node_modules"]
        files += [Path(folder, name) for name in names if name.endswith(".py")]
    if len(files) < 2 or version != ".".join(map(str, sys.version_info[:3])):
        return
    import py_compile

    for file in files:
        # What does not compile is a template or a test case; if it matters, the app will say so.
        with contextlib.suppress(py_compile.PyCompileError, OSError, ValueError):
            py_compile.compile(
                str(file),
                dfile=str(file.relative_to(build)),
                doraise=True,
                invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
            )


def step(text: str) -> None:
    print(f"-----> {text}", flush=True)


def say(text: str) -> None:
    print(f"       {text}", flush=True)


if __name__ == "__main__":
    try:
        main(*(Path(argument) for argument in sys.argv[1:4]))
    except Refused as error:
        print(f" !     {error}", flush=True)
        sys.exit(1)
