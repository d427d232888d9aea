"""Makes a Go app runnable: builds its main packages into `bin/`.

Run as `python3 -I -S go.py compile BUILD CACHE ENV_DIR` and `… release BUILD`. CACHE keeps the modules that were
fetched and what was compiled of them, so that only what changed is compiled again.
"""

import os
import re
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lib"))
import pack
from pack import Refused, say, step

PROFILE = 'export PATH="$PWD/bin:$PATH"\n'
BINARIES = ".mooring/go/binaries"
"""Names of what was built, for bin/release."""
FETCH_SECONDS = 300.0
"""For all modules: go itself waits without end for a proxy that does not answer."""
HEROKU = re.compile(r"^//\s*\+heroku\s+install\s+(.+)$", re.MULTILINE)


def compile_app(build: Path, cache: Path, env_dir: Path) -> None:
    given = pack.app_variables(env_dir)
    environment = {
        **os.environ,
        **given,
        "GOPATH": str(cache / "go"),
        "GOMODCACHE": str(cache / "go/mod"),
        "GOCACHE": str(cache / "go/build"),
        "GOTOOLCHAIN": "local",
        "GOFLAGS": " ".join(filter(None, ["-modcacherw", given.get("GOFLAGS", "")])),
    }
    if not any(shutil.which(name, path=environment["PATH"]) for name in ("gcc", "cc", "clang")):
        environment.setdefault("CGO_ENABLED", "0")
    check_go(build, environment)
    pack.run_hook(build, "bin/go-pre-compile", environment)
    if (build / "vendor/modules.txt").is_file():
        say("Dependencies are in vendor/")
    elif has_requirements((build / "go.mod").read_text(errors="replace")):
        step("Installing dependencies")
        pack.run(
            ["go", "mod", "download"],
            build,
            environment,
            "The modules could not be fetched; go says above why.",
            seconds=FETCH_SECONDS,
        )
    packages = main_packages(build, environment)
    step(f"Compiling {', '.join(packages)}")
    before = {file.name for file in (build / "bin").iterdir()} if (build / "bin").is_dir() else set()
    command = ["go", "build", "-trimpath", "-o", f"{build}/bin/", *packages]
    pack.run(command, build, environment, "The app could not be compiled; go says above why.")
    made = sorted({file.name for file in (build / "bin").iterdir()} - before)
    say(f"Built {', '.join(f'bin/{name}' for name in made) or 'nothing new in bin/'}")
    (build / BINARIES).parent.mkdir(parents=True, exist_ok=True)
    (build / BINARIES).write_text("\n".join(made))
    pack.run_hook(build, "bin/go-post-compile", environment)
    pack.write_profile(build, "000_go.sh", PROFILE)


def check_go(build: Path, environment: "dict[str, str]") -> None:
    """Refused where there is no go, or one that is older than go.mod asks for."""
    # Outside of the app: a newer go would read its go.mod even for this.
    found = pack.output_of(["go", "version"], Path("/"), environment)
    match = re.search(r"\bgo(\d+(?:\.\d+)*)", found)
    if match is None:
        raise Refused("There is no go on this server: install the Debian package golang-go.")
    say(f"Using Go {match[1]}")
    wanted = wanted_go((build / "go.mod").read_text(errors="replace"))
    if wanted and pack.version_of(match[1]) < pack.version_of(wanted):
        raise Refused(
            f"go.mod asks for Go {wanted}, and this server has {match[1]}: change the line `go {wanted}`, or have that "
            "version installed."
        )


def wanted_go(module: str) -> str:
    """What the `go` line of a go.mod asks for; empty where it has none."""
    match = re.search(r"^go\s+(\d+(?:\.\d+)*)", module, re.MULTILINE)
    return match[1] if match else ""


def has_requirements(module: str) -> bool:
    return re.search(r"^require\b", module, re.MULTILINE) is not None


def main_packages(build: Path, environment: "dict[str, str]") -> "list[str]":
    """What to build: the app's word for it, else the package at the top, else all below cmd/, else the only one."""
    named = environment.get("GO_INSTALL_PACKAGE_SPEC", "")
    line = HEROKU.search((build / "go.mod").read_text(errors="replace"))
    if named or line:
        return _checked((named or (line[1] if line else "")).split())
    listing = pack.output_of(
        ["go", "list", "-e", "-f", '{{if eq .Name "main"}}{{.Dir}}{{end}}', "./..."], build, environment
    )
    top = os.path.realpath(build)
    found = sorted(
        os.path.relpath(os.path.realpath(folder), top) for folder in listing.splitlines() if folder
    )
    below_cmd = [folder for folder in found if folder.startswith("cmd/")]
    chosen = ["."] if "." in found else below_cmd or found
    if not chosen:
        raise Refused("There is no package main in this repository: nothing can be run.")
    if len(chosen) > 1 and not below_cmd:
        raise Refused(
            f"There are several main packages ({', '.join(chosen[:5])}): set GO_INSTALL_PACKAGE_SPEC to those to "
            "build, such as ./server."
        )
    return ["." if folder == "." else f"./{folder}" for folder in chosen]


def _checked(packages: "list[str]") -> "list[str]":
    for each in packages:
        if each.startswith("-"):
            raise Refused(
                f"{each[:60]!a} is no package: GO_INSTALL_PACKAGE_SPEC takes paths such as ./cmd/server."
            )
    return packages


def release(build: Path) -> None:
    """One binary is `web`; of several, the one of that name or called as the repository's only server."""
    file = build / BINARIES
    made = file.read_text().split("\n") if file.is_file() else []
    plain = [name for name in made if re.fullmatch(r"[A-Za-z0-9._-]+", name)]
    chosen = plain if len(plain) == 1 else [name for name in plain if name in ("web", "server")][:1]
    pack.declare({"web": f"bin/{chosen[0]}"} if chosen else {}, {})


if __name__ == "__main__":
    pack.main({"compile": compile_app, "release": release}, sys.argv[1:])
