"""Makes a Python app runnable: picks the interpreter, installs what the app requires.

Run as `python3 -I -S compile.py BUILD CACHE ENV_DIR`, by any Python from 3.8 on; standard library only.

BUILD/.mooring/python/ gets links named python and python3, so that `python app.py` works on a
machine that only has `python3`. An app with requirements gets a virtualenv at BUILD/.mooring/venv,
made and filled by uv, relocatable because the app runs under another path. CACHE keeps uv's cache and
the last virtualenvs, which are used again where interpreter and requirements are the same.
"""

import contextlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lib"))
sys.path.insert(0, str(Path(__file__).resolve().parent))
import locks
import pack
from locks import meaningful_lines
from pack import Refused, say, step

PROFILE = """\
export PATH="$PWD/.mooring/venv/bin:$PWD/.mooring/python:$PATH"
export PYTHONUNBUFFERED="${PYTHONUNBUFFERED:-1}"
"""
PROFILE_VENV = """\
export VIRTUAL_ENV="$PWD/.mooring/venv"
"""
PINNED = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9._-]*\s*(\[[^\]]*\])?\s*([<>=!~][^@/]*)?\\?|--hash=\S+\s*\\?|--(extra-)?index-url\s+\S+"
)
"""Lines that mean the same in every build: no path, no link, no other file."""
LOCKS = {
    "uv.lock": locks.from_uv,
    "poetry.lock": locks.from_poetry,
    "Pipfile.lock": locks.from_pipfile,
}


def main(build: Path, cache: Path, env_dir: Path) -> None:
    environment = build_environment(cache, env_dir)
    python, version = choose_python(build, environment)
    say(f"Using Python {version} ({python})")
    pack.run_hook(build, "bin/pre_compile", environment)
    venv = install(build, cache, python, version, environment)
    link_python(build, python)
    pack.write_profile(build, "000_python.sh", PROFILE + (PROFILE_VENV if venv else ""))
    path = f"{build}/.mooring/venv/bin:{build}/.mooring/python"
    installed = {**environment, "PATH": f"{path}:{environment['PATH']}"}
    collect_static(build, installed)
    pack.run_hook(build, "bin/post_compile", installed)
    compile_sources(build, version)
    Path(__file__).with_name("export").write_text(f'export PATH="{path}:$PATH"\n')


def build_environment(cache: Path, env_dir: Path) -> "dict[str, str]":
    """Ours, and the app's own variables: requirements may name a private index by them.

    The app's win over the server's build_env.
    """
    given = pack.app_variables(env_dir, beside="VIRTUAL_ENV|UV_CACHE_DIR")
    ours = {
        "UV_CACHE_DIR": str(cache / "uv"),
        "UV_LINK_MODE": "copy",  # the slug gets another owner, which must not reach the cache
        "UV_NO_EDITABLE": "1",  # the app runs under another path than it is built at
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


def choose_python(build: Path, environment: "dict[str, str]") -> "tuple[str, str]":
    """By what a file asks for by name; else the range that the project gives; else the machine's."""
    wanted, needed = wanted_version(build), needed_range(build)
    if wanted is not None or not needed:
        return find_python(wanted)
    usual = find_python(None)
    found = pack.output_of(["uv", "python", "find", "--no-project", "--system", needed], build, environment)
    if not found:
        raise Refused(
            f"pyproject.toml asks for Python {needed[:60]} (requires-python), which this server does not have. It "
            f"has {_all_versions()}: change requires-python, or have such a Python installed."
        )
    real = os.path.realpath(found)
    return usual if real == usual[0] else (real, _version_of(real))


def needed_range(build: Path) -> str:
    """What the project itself says that it runs with; empty where it says nothing."""
    file = build / "pyproject.toml"
    text = file.read_text(errors="replace") if file.is_file() else ""
    match = re.search(r"^requires-python\s*=\s*[\"']([<>=!~\d.,* ]+)[\"']", text, re.MULTILINE)
    return match[1].strip() if match else ""


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
    raise Refused(
        f"{file} asks for Python {version}, which this server does not have. It has "
        f"{_all_versions()}: change {file}, or have python{version} installed."
    )


def _all_versions() -> str:
    found = sorted({version for version in map(_version_of, _installed()) if version})
    return ", ".join(found) or "none"


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
    # What the app itself is changes with each push; what it was locked to does not.
    locked, app = (arguments[:2], arguments[2:]) if arguments[0] == "-r" else ([], arguments)
    key = cache_key(build, locked, python, version, environment)
    if pack.take_from_cache(cache, "venv", key, venv):
        step("Restoring dependencies")
        say("Requirements are the same as in an earlier build, using the virtualenv kept from then")
    else:
        step("Installing dependencies with uv")
        uv(
            build,
            environment,
            *("venv", "--quiet", "--no-project", "--relocatable", "--python", python, str(venv)),
        )
        if locked:
            install_into(venv, build, environment, locked)
        pack.keep_in_cache(cache, "venv", key, venv)
    if app:
        install_into(venv, build, environment, app)
    return True


def install_into(venv: Path, build: Path, environment: "dict[str, str]", arguments: "list[str]") -> None:
    python = str(venv / "bin/python")
    uv(build, environment, "pip", "install", "--python", python, "--compile-bytecode", *arguments)


def requirements(build: Path, environment: "dict[str, str]") -> "list[str] | None":
    """What `uv pip install` is told; None when there is nothing to install."""
    if (build / "requirements.txt").is_file():
        lines = meaningful_lines(build / "requirements.txt")
        return ["-r", "requirements.txt"] if lines else None
    for name, read in LOCKS.items():
        if (build / name).is_file():
            locked: list[str] | None = read(build, environment)
            return locked
    if (build / "pyproject.toml").is_file():
        found = locks.tables((build / "pyproject.toml").read_text(errors="replace"))
        if "build-system" in found:
            return ["."]
        return ["-r", "pyproject.toml"] if "project" in found else None
    if (build / "setup.py").is_file():
        return ["."]
    if (build / "Pipfile").is_file():
        raise Refused("There is no Pipfile.lock: run `pipenv lock`, and commit the file beside the Pipfile.")
    return None


def cache_key(
    build: Path, arguments: "list[str]", python: str, version: str, environment: "dict[str, str]"
) -> str:
    """Names what the virtualenv depends on; empty when that can't be told from one file."""
    if len(arguments) != 2:
        return ""
    file = build / arguments[1]
    lines = meaningful_lines(file)
    if file.suffix == ".txt":
        for line in lines:
            if not PINNED.fullmatch(re.sub(r"(^|\s+)#.*", "", line.partition(";")[0]).strip()):
                return ""
    indexes = sorted(f"{name}={value}" for name, value in environment.items() if name.startswith("UV_"))
    return str(pack.key_of([python, version, *indexes, *lines]))


def uv(build: Path, environment: "dict[str, str]", *arguments: str) -> None:
    done = subprocess.run(["uv", *arguments], cwd=build, env=environment, check=False)
    if done.returncode != 0:
        raise Refused("The dependencies could not be installed; uv says above why.")


def collect_static(build: Path, environment: "Mapping[str, str]") -> None:
    """A Django app's static files, put where it serves them from; DISABLE_COLLECTSTATIC leaves that out."""
    manage = find_manage(build)
    if manage is None or environment.get("DISABLE_COLLECTSTATIC", "0") not in ("", "0"):
        return
    # Without a folder for them there is nothing to collect: asking is the only way to know.
    ask = "from django.conf import settings; print('STATIC_ROOT:', settings.STATIC_ROOT or '')"
    answer = pack.output_of(["python", str(manage), "shell", "-c", ask], build, environment)
    _, known, root = answer.rpartition("STATIC_ROOT:")
    if not known:
        pack.warn("Static files are not collected: the settings can't be read in the build; see above.")
        pack.warn("Set what they need with config:set, or say that there are none: DISABLE_COLLECTSTATIC=1")
        return
    if not root.strip():
        say("Static files are not collected: STATIC_ROOT is not set")
        return
    step("Running collectstatic")
    pack.run(
        ["python", str(manage), "collectstatic", "--noinput"],
        build,
        environment,
        "collectstatic failed; see above. Mend that, or leave it out: config:set DISABLE_COLLECTSTATIC=1",
    )


def find_manage(build: Path) -> "Path | None":
    """The manage.py of a Django app with requirements, at the top or one folder below it."""
    if not (build / ".mooring/venv/bin/django-admin").exists():
        return None
    found = [build / "manage.py", *sorted(build.glob("[!.]*/manage.py"))]
    return next((file for file in found if file.is_file()), None)


def link_python(build: Path, python: str) -> None:
    folder = build / ".mooring/python"
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("python", "python3"):
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(python)


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


if __name__ == "__main__":
    pack.main({"compile": main}, ["compile", *sys.argv[1:4]])
