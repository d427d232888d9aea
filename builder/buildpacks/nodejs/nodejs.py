"""Makes a Node.js app runnable: installs what its lockfile says, runs its build, leaves out what only that needed.

Run as `python3 -I -S nodejs.py compile BUILD CACHE ENV_DIR` and `… release BUILD`. CACHE keeps the package
manager's own cache and the last ones of node_modules, used again where all is the same that they depend on.
"""

import json
import os
import platform
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lib"))
sys.path.insert(0, str(Path(__file__).resolve().parent))
import managers
import pack
from managers import Manager
from pack import Refused, say, step

PROFILE = """\
export PATH="$PWD/node_modules/.bin:$PATH"
export NODE_ENV="${NODE_ENV:-production}"
"""
DEFAULTS = {
    "NODE_ENV": "production",
    "CI": "true",
    "NPM_CONFIG_UPDATE_NOTIFIER": "false",
    "NPM_CONFIG_FUND": "false",
    "NPM_CONFIG_AUDIT": "false",
    "NPM_CONFIG_PROGRESS": "false",
    # A registry that does not answer is given up after a minute or two, and not after a quarter of an hour.
    "NPM_CONFIG_FETCH_TIMEOUT": "30000",
    "NPM_CONFIG_FETCH_RETRY_MAXTIMEOUT": "10000",
}
"""What the server's build_env and the app's variables may change."""
OF_INSTALLATION = ("preinstall", "install", "postinstall", "prepare")
"""Scripts of the app that run with an installation: they may change any file, so it is never skipped."""
DEPENDENCIES = (
    "dependencies",
    "devDependencies",
    "optionalDependencies",
    "peerDependencies",
    "overrides",
    "resolutions",
)


def compile_app(build: Path, cache: Path, env_dir: Path) -> None:
    manifest = pack.read_json(build / "package.json")
    given = pack.app_variables(env_dir)
    environment = {**DEFAULTS, **os.environ, **given, "NPM_CONFIG_CACHE": str(cache / "npm")}
    node = check_node(manifest, environment)
    manager = managers.choose(build, cache, manifest, environment)
    environment = {**manager.defaults, **environment, **manager.folders(build, cache)}
    environment["PATH"] = f"{build}/node_modules/.bin:{environment['PATH']}"
    run_script("heroku-prebuild", manifest, manager, build, environment)
    install(build, cache, manifest, manager, node, environment)
    if not run_script("heroku-postbuild", manifest, manager, build, environment):
        run_script("build", manifest, manager, build, environment)
    prune(build, manifest, manager, environment)
    run_script("heroku-cleanup", manifest, manager, build, environment)
    pack.write_profile(build, "000_nodejs.sh", PROFILE)
    export = Path(__file__).with_name("export")
    export.write_text('export PATH="$PWD/node_modules/.bin:$PATH"\n')


def check_node(manifest: "dict[str, object]", environment: "dict[str, str]") -> str:
    """The version of node; refused where it is not what the app asks for."""
    found = str(pack.output_of(["node", "--version"], Path("/"), environment)).lstrip("v")
    if not found:
        raise Refused("There is no node on this server: install the Debian packages nodejs and npm.")
    engines = manifest.get("engines")
    wanted = engines.get("node") if isinstance(engines, dict) else None
    say(f"Using Node.js {found}")
    if wanted is None:
        return found
    if not isinstance(wanted, str):
        raise Refused('package.json: engines.node must be a text such as ">=18".')
    suits = in_range(pack.version_of(found), wanted)
    if suits is None:
        pack.warn(f"package.json: engines.node {wanted[:60]!a} is not understood, and not checked.")
    elif not suits:
        raise Refused(
            f"package.json asks for Node.js {wanted[:60]} (engines.node), and this server has {found}: change "
            "engines.node, or have that version installed."
        )
    return found


def in_range(version: "tuple[int, ...]", wanted: str) -> "bool | None":
    """Whether the version is one of a range in npm's notation; None where that is not understood."""
    version = (*version, 0, 0, 0)[:3]
    answers = [_in_all(version, part) for part in wanted.split("||")]
    return True if True in answers else None if None in answers else False


def _in_all(version: "tuple[int, ...]", text: str) -> "bool | None":
    span = re.fullmatch(r"\s*v?(\S+)\s+-\s+v?(\S+)\s*", text)
    if span:
        text = f">={span[1]} <={span[2]}"
    terms = re.sub(r"([<>=~^]+)\s+", r"\1", text).split() or ["*"]
    answers = [_in_one(version, term) for term in terms]
    return None if None in answers else all(answers)


def _in_one(version: "tuple[int, ...]", term: str) -> "bool | None":
    match = re.fullmatch(
        r"(\^|~>?|>=|<=|>|<|=)?v?(\*|[xX]|\d{1,9})(?:\.(\*|[xX]|\d{1,9}))?(?:\.(\*|[xX]|\d{1,9}))?(?:[-+].*)?",
        term,
    )
    if match is None:
        return None
    parts = []
    for part in match.groups()[1:]:
        if part is None or not part.isdigit():
            break
        parts.append(int(part))
    if not parts:
        return True
    lowest = (*parts, 0, 0, 0)[:3]
    above = (*parts[:-1], parts[-1] + 1, 0, 0)[:3]
    operator = match[1] or "="
    if operator == "^":
        fixed = next((place for place, part in enumerate(parts) if part), len(parts) - 1)
        above = (*parts[:fixed], parts[fixed] + 1, 0, 0)[:3]
    elif operator.startswith("~"):
        above = (parts[0] + 1, 0, 0) if len(parts) == 1 else (parts[0], parts[1] + 1, 0)
    return {
        ">=": version >= lowest,
        ">": version >= above if len(parts) < 3 else version > lowest,
        "<": version < lowest,
        "<=": version < above,
    }.get(operator, lowest <= version < above)


def install(
    build: Path,
    cache: Path,
    manifest: "dict[str, object]",
    manager: Manager,
    node: str,
    environment: "dict[str, str]",
) -> None:
    if not any(manifest.get(name) for name in DEPENDENCIES) and not has_workspaces(build, manifest):
        say("No dependencies")
        return
    key = installation_key(build, manifest, manager, node, environment)
    if pack.take_from_cache(cache, "node_modules", key, build / "node_modules"):
        step("Restoring dependencies")
        say("They are the same as in an earlier build, using the node_modules kept from then")
        return
    if manager.lock is None:
        pack.warn("There is no lockfile: commit package-lock.json, so that each build installs the same.")
    step(f"Installing dependencies with {manager.title}")
    pack.run(
        manager.install,
        build,
        environment,
        f"The dependencies could not be installed; {manager.title} says above why.",
    )
    pack.keep_in_cache(cache, "node_modules", key, build / "node_modules")


def installation_key(
    build: Path, manifest: "dict[str, object]", manager: Manager, node: str, environment: "dict[str, str]"
) -> str:
    """Empty where the installation may be another one next time: then it is made each time."""
    wanted = {name: manifest.get(name) for name in DEPENDENCIES}
    text = json.dumps(wanted, sort_keys=True)
    if (
        manager.lock is None
        or has_workspaces(build, manifest)
        or any(name in scripts_of(manifest) for name in OF_INSTALLATION)
        or re.search(r'"(file|link|portal|workspace):|"\.{0,2}/', text)
    ):
        return ""
    settings = sorted(
        f"{name}={value}"
        for name, value in environment.items()
        if name.upper().startswith(("NPM_", "YARN_", "NODE_"))
        and not name.upper().endswith(("_CACHE", "_FOLDER"))
    )
    files = [
        (build / name).read_text(errors="surrogateescape")
        for name in (manager.lock.name, ".npmrc", ".yarnrc", ".yarnrc.yml", "pnpm-workspace.yaml")
        if (build / name).is_file()
    ]
    who = [manager.name, manager.version, node, platform.machine()]
    return str(pack.key_of([*who, text, *settings, *files]))


def has_workspaces(build: Path, manifest: "dict[str, object]") -> bool:
    """Whether packages of its own lie in the repository."""
    file = build / "pnpm-workspace.yaml"
    text = file.read_text(errors="replace") if file.is_file() else ""
    return "workspaces" in manifest or re.search(r"^packages:", text, re.MULTILINE) is not None


def prune(
    build: Path, manifest: "dict[str, object]", manager: Manager, environment: "dict[str, str]"
) -> None:
    """Leave out what only the build needed."""
    switch = "YARN_PRODUCTION" if manager.name in ("yarn", "berry") else "NPM_CONFIG_PRODUCTION"
    needless = manifest.get("devDependencies") or has_workspaces(build, manifest)
    if not needless or environment.get(switch, "").lower() == "false":
        return
    if not (build / "node_modules").is_dir():
        return
    if not manager.prunes:
        say(f"yarn {manager.version} can't take out devDependencies; yarn 4 can")
        return
    step("Pruning what only the build needed")
    quiet = {**environment, "YARN_ENABLE_SCRIPTS": "false"}
    pack.run(manager.prune, build, quiet, f"{manager.title} could not remove the devDependencies; see above.")


def run_script(
    name: str, manifest: "dict[str, object]", manager: Manager, build: Path, environment: "dict[str, str]"
) -> bool:
    """Run it if the app has it; whether it has."""
    if name not in scripts_of(manifest):
        return False
    step(f"Running the script {name}")
    pack.run(manager.run(name), build, environment, f"The script {name} of package.json failed; see above.")
    return True


def scripts_of(manifest: "dict[str, object]") -> "dict[str, str]":
    scripts = manifest.get("scripts")
    if not isinstance(scripts, dict):
        return {}
    return {name: text for name, text in scripts.items() if isinstance(text, str)}


def release(build: Path) -> None:
    types = {}
    command = web_command(scripts_of(pack.read_json(build / "package.json")))
    if command is not None:
        types["web"] = command
    elif (build / "server.js").is_file():
        types["web"] = "node server.js"
    pack.declare(types, {})


def web_command(scripts: "dict[str, str]") -> "str | None":
    """The script `start` itself: npm as its parent takes memory, and signals to itself. Unless it needs npm."""
    start = scripts.get("start", "").strip()
    if not start:
        return None
    needs_npm = "prestart" in scripts or "poststart" in scripts or "npm_" in start or "\n" in start
    return "npm start" if needs_npm else start


if __name__ == "__main__":
    pack.main({"compile": compile_app, "release": release}, sys.argv[1:])
