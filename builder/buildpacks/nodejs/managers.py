"""Package managers of Node.js, as commands: the lockfile says which one, and `packageManager` which version of it.

npm is the machine's. The others come from the machine where it has them, else from the npm registry, and are kept in
the cache by their version.
"""

import os
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lib"))
import pack
from pack import Refused, say

LOCKFILES = {
    "package-lock.json": "npm",
    "npm-shrinkwrap.json": "npm",
    "yarn.lock": "yarn",
    "pnpm-lock.yaml": "pnpm",
    "bun.lock": "bun",
    "bun.lockb": "bun",
}
PNPM_OF_LOCK = {"5": "7", "6": "8", "9": "10"}
"""First digit of a lockfile's version to the newest pnpm that writes it."""
DEFAULTS = {
    "berry": {
        # A process that starts with `node` finds its packages like this alone.
        "YARN_NODE_LINKER": "node-modules",
        "YARN_ENABLE_TELEMETRY": "false",
        "YARN_ENABLE_PROGRESS_BARS": "false",
        "YARN_HTTP_TIMEOUT": "30000",
    },
    "pnpm": {
        # Not links into the store: the slug gets another owner, which must not reach the cache.
        "NPM_CONFIG_PACKAGE_IMPORT_METHOD": "copy",
        "NPM_CONFIG_MODULES_CACHE_MAX_AGE": "0",  # what is pruned goes at once
        "NPM_CONFIG_MANAGE_PACKAGE_MANAGER_VERSIONS": "false",
    },
}
"""Variables that one of them alone understands, and that the app's own may change."""


@dataclass(frozen=True)
class Manager:
    name: str
    """npm, yarn (the classic one), berry (yarn from 2 on) or pnpm."""
    program: "tuple[str, ...]"
    lock: "Path | None"
    version: str = ""
    """As `packageManager` says it; empty for what the machine has."""

    @property
    def title(self) -> str:
        """Its name for people."""
        return "yarn" if self.name == "berry" else self.name

    @property
    def defaults(self) -> "dict[str, str]":
        return DEFAULTS.get(self.name, {})

    def folders(self, build: Path, cache: Path) -> "dict[str, str]":
        """Where it keeps what it fetched; a repository that holds all that itself is heard."""
        if self.name == "pnpm":
            return {"NPM_CONFIG_STORE_DIR": str(cache / "pnpm")}
        if self.name == "npm" or (build / ".yarn/cache").is_dir():
            return {}
        return {"YARN_CACHE_FOLDER": str(cache / "yarn"), "YARN_GLOBAL_FOLDER": str(cache / "berry")}

    @property
    def install(self) -> "list[str]":
        switches = {
            "npm": ["ci" if self.lock else "install", "--include=dev", "--no-audit", "--no-fund"],
            "yarn": ["install", "--frozen-lockfile", "--production=false", "--non-interactive"],
            "berry": ["install", "--immutable"],
            "pnpm": ["install", "--frozen-lockfile", "--prod=false"],
        }
        return [*self.program, *switches[self.name]]

    @property
    def prune(self) -> "list[str]":
        """No scripts: those of the app have run, and may need what is no longer there."""
        switches = {
            "npm": ["prune", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund"],
            "yarn": [
                *("install", "--frozen-lockfile", "--production", "--non-interactive"),
                *("--ignore-scripts", "--prefer-offline"),
            ],
            "berry": ["workspaces", "focus", "--all", "--production"],
            # Its `prune` knows nothing of workspaces.
            "pnpm": ["install", "--frozen-lockfile", "--prod", "--ignore-scripts", "--prefer-offline"],
        }
        return [*self.program, *switches[self.name]]

    def run(self, script: str) -> "list[str]":
        return [*self.program, "run", script]

    @property
    def prunes(self) -> bool:
        """Yarn 2 and 3 can do it with a plugin alone."""
        return self.name != "berry" or pack.version_of(self.version)[:1] not in ((2,), (3,))


def choose(build: Path, cache: Path, manifest: "dict[str, object]", environment: "dict[str, str]") -> Manager:
    """Refused where there are two lockfiles, or the program can't be had.

    What was fetched is put into the PATH of `environment`, because scripts of the app call it by its name.
    """
    found = [name for name in LOCKFILES if (build / name).is_file()]
    if len(found) > 1:
        raise Refused(f"There are two lockfiles, {found[0]} and {found[1]}: remove the one that is not used.")
    lock = build / found[0] if found else None
    name = LOCKFILES[found[0]] if found else "npm"
    npm = shutil.which("npm", path=environment["PATH"])
    if npm is None:
        raise Refused("There is no npm on this server: install the Debian package npm.")
    if name == "bun":
        raise Refused(
            f"bun is not supported: commit a package-lock.json (`npm install`) in place of {found[0]}."
        )
    if name == "npm" or lock is None:
        return Manager("npm", (npm,), lock)
    version = wanted_version(manifest, name)
    if name == "pnpm":
        return _pnpm(build, cache, lock, version, environment)
    return _yarn(build, cache, lock, version, environment)


def wanted_version(manifest: "dict[str, object]", name: str) -> str:
    """What `packageManager` says of this one: `pnpm@9.1.0+sha512.…`; empty where it says nothing."""
    said = manifest.get("packageManager")
    match = re.match(rf"{name}@(\d+(?:\.\d+){{0,2}}(?:-[\w.]+)?)", said) if isinstance(said, str) else None
    return match[1] if match else ""


def _pnpm(build: Path, cache: Path, lock: Path, version: str, environment: "dict[str, str]") -> Manager:
    program = shutil.which("pnpm", path=environment["PATH"])
    if not version and program:
        return Manager("pnpm", (program,), lock)
    of_lock = re.search(r"^lockfileVersion:\s*['\"]?(\d)", lock.read_text(errors="replace"), re.MULTILINE)
    version = version or (PNPM_OF_LOCK.get(of_lock[1], "latest") if of_lock else "latest")
    return Manager("pnpm", _fetched("pnpm", "pnpm", version, build, cache, environment), lock, version)


def _yarn(build: Path, cache: Path, lock: Path, version: str, environment: "dict[str, str]") -> Manager:
    own = own_yarn(build)
    # Only from yarn 2 on does the lockfile begin with what wrote it.
    if re.search(r"^__metadata:", lock.read_text(errors="replace"), re.MULTILINE):
        if own:
            return Manager("berry", ("node", str(build / own)), lock, version or _version_in(own))
        version = version or "4"
        program = _fetched("yarn", "@yarnpkg/cli-dist", version, build, cache, environment)
        return Manager("berry", program, lock, version)
    at_hand = shutil.which("yarn", path=environment["PATH"]) or shutil.which(
        "yarnpkg", path=environment["PATH"]
    )
    if at_hand:
        return Manager("yarn", (at_hand,), lock)
    return Manager("yarn", _fetched("yarn", "yarn", "1", build, cache, environment), lock)


def own_yarn(build: Path) -> str:
    """The yarn that the app brings along, as .yarnrc.yml names it; empty where it does not."""
    file = build / ".yarnrc.yml"
    text = file.read_text(errors="replace") if file.is_file() else ""
    match = re.search(r"^yarnPath:\s*[\"']?([\w./-]+)", text, re.MULTILINE)
    return match[1] if match and (build / match[1]).is_file() else ""


def _version_in(path: str) -> str:
    match = re.search(r"(\d+\.\d+\.\d+)", path)
    return match[1] if match else ""


def _fetched(
    name: str, package: str, version: str, build: Path, cache: Path, environment: "dict[str, str]"
) -> "tuple[str, ...]":
    """A package manager from the npm registry, kept in the cache."""
    folder = cache / "managers" / f"{package.replace('/', '-')}-{version}"
    programs = folder / "node_modules/.bin"
    if not (programs / name).exists():
        say(f"Fetching {name} {version}")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        pack.run(
            [
                *(
                    "npm",
                    "install",
                    "--prefix",
                    str(folder),
                    "--loglevel=error",
                    "--no-save",
                    "--ignore-scripts",
                ),
                *("--no-audit", "--no-fund", f"{package}@{version}"),
            ],
            folder,
            environment,
            f"{name} {version} could not be fetched; npm says above why. Commit a package-lock.json (`npm install`) "
            "in place of the lockfile, or have it installed on the server.",
        )
    environment["PATH"] = f"{programs}{os.pathsep}{environment['PATH']}"
    return (str(programs / name),)
