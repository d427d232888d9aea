"""Each package manager with real packages: what its lockfile says is there where the app runs, and nothing else."""

import functools
import http.server
import json
import shutil
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

import pytest

from builder.base import BuildFailed
from tests.contracts.building import Place, host_builder, run
from tests.contracts.test_buildpacks import needs
from tests.unit.builder.printed import Printed

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


@pytest.fixture
async def host(folder):
    """A host builder that reaches package registries."""
    place = Place(folder)
    place.builder = host_builder(place, ca_bundle=CERTIFICATES)
    yield place
    await place.builder.close()


def write(folder, files):
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


async def built(host, files, command):
    """What the command prints where the app runs, and what the build printed."""
    source = host.source()
    write(source, files)
    out = Printed()
    try:
        artifact = await host.builder.build(host.request(source, timeout=200.0), out)
    finally:
        print(out.text)
    return await run(await host.tree(artifact), command), out.text


# Python


APP = {"Procfile": "web: python app.py", "app.py": "import six; print('six', six.__version__)"}
HASHES = (
    "sha256:8abb2f1d86890a2dfb989f9a77cfcfd3e47c2a354b01111771326f8aa26e0254",
    "sha256:1e61c37477a1626458e36f7b1d82aa5c9b094fa4802892072e49de9c60c4c926",
)
PROJECT = (
    '[project]\nname = "hello"\nversion = "1"\nrequires-python = ">=3.10"\ndependencies = ["six==1.16.0"]\n'
)
SETUPTOOLS = '[build-system]\nrequires = ["setuptools>=61"]\nbuild-backend = "setuptools.build_meta"\n'
PIPFILE_LOCK = {
    "_meta": {"sources": []},
    "default": {"six": {"version": "==1.16.0", "hashes": list(HASHES)}},
    "develop": {"iniconfig": {"version": "==2.0.0"}},
}


@pytest.mark.parametrize(
    "files",
    [
        {"requirements.txt": f"six==1.16.0 --hash={HASHES[0]} \\\n    --hash={HASHES[1]}\n"},
        {"pyproject.toml": PROJECT},
        {"Pipfile": "", "Pipfile.lock": json.dumps(PIPFILE_LOCK)},
    ],
    ids=["hashes", "project", "pipenv"],
)
async def test_python_packages_are_installed_once(host, files):
    printed, first = await built(host, {**APP, **files}, "python app.py; python -c 'import iniconfig'")
    assert printed.startswith("six 1.16.0\n") and "No module named 'iniconfig'" in printed
    assert "Installing dependencies with uv" in first
    printed, second = await built(host, {**APP, **files, "other.py": "x = 1"}, "python app.py")
    assert printed == "six 1.16.0\n" and "Restoring dependencies" in second


async def test_a_package_that_is_not_what_the_lockfile_names_is_refused(host):
    requirements = f"six==1.16.0 --hash=sha256:{'0' * 64}\n"
    out = Printed()
    source = host.source()
    write(source, {**APP, "requirements.txt": requirements})
    with pytest.raises(BuildFailed, match="uv says above why"):
        await host.builder.build(host.request(source), out)
    assert "ash mismatch" in out.text


def lock_with_uv(folder):
    program = Path(sys.executable).with_name("uv")
    subprocess.run([program, "lock", "--quiet"], cwd=folder, check=True, timeout=60)


async def test_a_uv_lock_installs_the_app_and_the_members_of_its_workspace(host):
    source = host.source()
    write(
        source,
        {
            "pyproject.toml": PROJECT.replace('"]', '", "tiny"]')
            + '[project.scripts]\nhello = "hello:main"\n[tool.uv.sources]\ntiny = { workspace = true }\n'
            + f'[tool.uv.workspace]\nmembers = ["packages/*"]\n{SETUPTOOLS}',
            "src/hello/__init__.py": "import six, tiny\ndef main(): print(tiny.WORD, six.__version__)\n",
            "packages/tiny/pyproject.toml": f'[project]\nname = "tiny"\nversion = "1"\n{SETUPTOOLS}',
            "packages/tiny/src/tiny/__init__.py": "WORD = 'tiny'\n",
            "Procfile": "web: hello",
        },
    )
    lock_with_uv(source)
    again = host.folder / "again"
    shutil.copytree(source, again)
    artifact, _ = await host.build(source, timeout=200.0)
    assert await run(await host.tree(artifact), "hello") == "tiny 1.16.0\n"
    (again / "packages/tiny/src/tiny/__init__.py").write_text("WORD = 'changed'\n")
    artifact, out = await host.build(again, timeout=200.0)
    assert await run(await host.tree(artifact), "hello") == "changed 1.16.0\n"
    assert "Restoring dependencies" in out.text


async def test_a_uv_lock_of_packages_alone_is_installed_once(host):
    files = {**APP, "pyproject.toml": f'{PROJECT}[dependency-groups]\ndev = ["iniconfig"]\n'}
    write(host.folder / "locked", files)
    lock_with_uv(host.folder / "locked")
    files["uv.lock"] = (host.folder / "locked/uv.lock").read_text()
    printed, _ = await built(host, files, "python app.py; python -c 'import iniconfig'")
    assert printed.startswith("six 1.16.0\n") and "No module named 'iniconfig'" in printed
    assert "Restoring dependencies" in (await built(host, files, "true"))[1]


POETRY_HASH = "ca88747b8f39844f7d69d8841a83e7bac559f7b7e421744afc750803934efca8"
"""Of the pyproject.toml below, as poetry counts it."""
POETRY = {
    "pyproject.toml": f'{PROJECT}[project.scripts]\nhello = "hello:main"\n[build-system]\n'
    'requires = ["poetry-core>=2"]\nbuild-backend = "poetry.core.masonry.api"\n',
    "poetry.lock": '[[package]]\nname = "six"\nversion = "1.16.0"\noptional = false\npython-versions = "*"\n'
    f'groups = ["main"]\nfiles = [{{file = "six-1.16.0-py2.py3-none-any.whl", hash = "{HASHES[0]}"}}]\n'
    f'[metadata]\nlock-version = "2.1"\npython-versions = ">=3.10"\ncontent-hash = "{POETRY_HASH}"\n',
    "hello/__init__.py": "import six\ndef main(): print(six.__version__)\n",
    "Procfile": "web: hello",
}


async def test_a_poetry_lock_is_read_by_poetry_and_the_package_installed(host):
    printed, _ = await built(host, POETRY, "hello")
    assert printed == "1.16.0\n"
    changed = {**POETRY, "hello/__init__.py": "import six\ndef main(): print('changed')\n"}
    printed, text = await built(host, changed, "hello")
    assert printed == "changed\n" and "Restoring dependencies" in text


async def test_a_project_for_another_python_is_refused(host):
    source = host.source()
    write(source, {**APP, "pyproject.toml": PROJECT.replace(">=3.10", ">=3.99")})
    with pytest.raises(BuildFailed, match=r"asks for Python >=3\.99 \(requires-python\).*It has 3\."):
        await host.build(source)


async def test_what_is_required_as_editable_is_there_where_the_app_runs(host):
    files = {
        "requirements.txt": "-e .\n",
        "pyproject.toml": f'{PROJECT}[project.scripts]\nhello = "hello:main"\n{SETUPTOOLS}',
        "src/hello/__init__.py": "def main(): print('hello')\n",
        "Procfile": "web: hello",
    }
    assert (await built(host, files, "hello"))[0] == "hello\n"


# Node.js


MS = "sha512-6FlzubTLZG3J2a/NVCAleEhjzq5oxgHyaCU9yYXvcLsvoVaHJq/s5xXI6/XXP6tz7R9xAOtHnSO/tXtF3WRTlA=="
PAD = "sha512-XI5MPzVNApjAyhQzphX8BkmKsKUxD4LdyK24iZeQGinBN9yTQT3bFlCBy/aVx2HrNcqQGsdot8ghrjyrvMCoEA=="
MS_SUM = (
    "d924b57e7312b3b63ad21fc5b3dc0af5e78d61a1fc7cfb5457edaf26326bf62b"
    "e5307cc87ffb6862ef1c2b33b0233cdb5d4f01c4c958cc0d660948b65a287a48"
)
PAD_SUM = (
    "3fb59c76e281a2f5c810ad71dbbb8eba8b10c6cf94733dc7f27b8c516a5376ca"
    "cea53543e76f6ae477d866c8954b27f1e15ca349424c2542474eb5bb1d2b6955"
)
MANIFEST = {
    "name": "y",
    "version": "1.0.0",
    "private": True,
    "license": "MIT",
    "scripts": {
        "build": "node -e \"require('fs').writeFileSync('built', require('left-pad')('x', 3))\"",
        "start": "node server.js",
    },
    "dependencies": {"ms": "2.1.3"},
    "devDependencies": {"left-pad": "1.3.0"},
}
BERRY_LOCK = f"""# This file is generated by running "yarn install" inside your project.
# Manual changes might be lost - proceed with caution!

__metadata:
  version: 8
  cacheKey: 10c0

"left-pad@npm:1.3.0":
  version: 1.3.0
  resolution: "left-pad@npm:1.3.0"
  checksum: 10c0/{PAD_SUM}
  languageName: node
  linkType: hard

"ms@npm:2.1.3":
  version: 2.1.3
  resolution: "ms@npm:2.1.3"
  checksum: 10c0/{MS_SUM}
  languageName: node
  linkType: hard

"y@workspace:.":
  version: 0.0.0-use.local
  resolution: "y@workspace:."
  dependencies:
    left-pad: "npm:1.3.0"
    ms: "npm:2.1.3"
  languageName: unknown
  linkType: soft
"""
PNPM_LOCK = f"""lockfileVersion: '9.0'
settings:
  autoInstallPeers: true
  excludeLinksFromLockfile: false
importers:
  .:
    dependencies:
      ms: {{specifier: 2.1.3, version: 2.1.3}}
    devDependencies:
      left-pad: {{specifier: 1.3.0, version: 1.3.0}}
packages:
  left-pad@1.3.0:
    resolution: {{integrity: {PAD}}}
  ms@2.1.3:
    resolution: {{integrity: {MS}}}
snapshots:
  left-pad@1.3.0: {{}}
  ms@2.1.3: {{}}
"""
SERVER = """const fs = require("fs")
console.log(require("ms")(60000), fs.readFileSync("built", "utf8"), fs.existsSync("node_modules/left-pad"))
"""


def lock_with_yarn(folder, files):
    """The lockfile of the classic yarn names a registry: it is made here."""
    write(folder, files)
    command = [
        "npm",
        "exec",
        "--yes",
        "--package=yarn@1",
        "--",
        "yarn",
        "install",
        "--silent",
        "--ignore-scripts",
    ]
    subprocess.run(command, cwd=folder, check=True, timeout=100)
    return (folder / "yarn.lock").read_text()


@pytest.mark.parametrize(
    ("lock", "content", "says"),
    [
        ("yarn.lock", None, "yarn@1.22.22"),
        ("yarn.lock", BERRY_LOCK, "yarn@4.5.0"),
        ("pnpm-lock.yaml", PNPM_LOCK, ""),
    ],
    ids=["yarn", "yarn4", "pnpm"],
)
async def test_a_lockfile_of_another_manager_than_npm_is_followed(host, lock, content, says):
    needs("node", "npm")
    manifest = {**MANIFEST, "packageManager": says} if says else MANIFEST
    files = {"package.json": json.dumps(manifest), "server.js": SERVER}
    files[lock] = content or lock_with_yarn(host.folder / "locked", files)
    printed, first = await built(host, files, "node server.js")
    assert printed == "1m   x false\n"
    assert "Installing dependencies" in first and "Pruning" in first
    printed, second = await built(host, {**files, "other.js": ""}, "node server.js")
    assert printed == "1m   x false\n"
    assert "Restoring dependencies" in second and "Fetching yarn" not in second


async def test_packages_of_a_workspace_find_each_other_where_the_app_runs(host):
    needs("node", "npm")
    source = host.source()
    write(
        source,
        {
            "package.json": json.dumps(
                {
                    "name": "all",
                    "private": True,
                    "workspaces": ["packages/*"],
                    "scripts": {
                        "build": "npm run build --workspaces --if-present",
                        "start": "node packages/web/x.js",
                    },
                }
            ),
            "packages/tiny/package.json": '{"name": "tiny", "version": "1.0.0", "main": "x.js"}',
            "packages/tiny/x.js": "module.exports = 'tiny'",
            "packages/web/package.json": json.dumps(
                {
                    "name": "web",
                    "version": "1.0.0",
                    "dependencies": {"tiny": "1.0.0"},
                    "devDependencies": {"left-pad": "1.3.0"},
                    "scripts": {"build": "echo built > made"},
                }
            ),
            "packages/web/x.js": 'console.log(require("tiny"), require("fs").readdirSync(__dirname).join())',
        },
    )
    subprocess.run(["npm", "install", "--package-lock-only", "--silent"], cwd=source, check=True, timeout=100)
    artifact, _ = await host.build(source, timeout=200.0)
    tree = await host.tree(artifact)
    assert (await run(tree, "node packages/web/x.js")).startswith("tiny made,")
    assert not (tree / "node_modules/left-pad").exists()


# Ruby and PHP: without a registry


async def test_gems_that_lie_in_the_repository_need_no_registry(host):
    needs("ruby", "bundle", "gem")
    source = host.source(Procfile="web: bundle exec ruby app.rb")
    gem = host.folder / "tiny"
    write(
        gem,
        {
            "tiny.gemspec": "Gem::Specification.new { |s| s.name = 'tiny'; s.version = '1.0.0'; s.summary = 'x'; "
            "s.authors = ['x']; s.files = ['lib/tiny.rb'] }",
            "lib/tiny.rb": "module Tiny; WORD = 'vendored'; end",
        },
    )
    subprocess.run(["gem", "build", "--silent", "tiny.gemspec"], cwd=gem, check=True, capture_output=True)
    (source / "vendor/cache").mkdir(parents=True)
    shutil.copy(gem / "tiny-1.0.0.gem", source / "vendor/cache")
    write(
        source,
        {
            "Gemfile": 'source "https://gems.invalid"\ngem "tiny"\ngroup(:development) { gem "absent" }\n',
            "Gemfile.lock": "GEM\n  remote: https://gems.invalid/\n  specs:\n    absent (1.0)\n    tiny (1.0.0)\n\n"
            "PLATFORMS\n  ruby\n  x86_64-linux\n\nDEPENDENCIES\n  absent\n  tiny\n\nBUNDLED WITH\n   9.9.9\n",
            "app.rb": 'require "tiny"; puts Tiny::WORD',
        },
    )
    artifact, _ = await host.build(source)
    assert await run(await host.tree(artifact), "bundle exec ruby app.rb") == "vendored\n"


TINY_PHP = {
    "composer.json": '{"name": "own/tiny", "version": "1.0.0", "autoload": {"psr-4": {"Own\\\\": "src/"}}}',
    "src/Tiny.php": "<?php namespace Own; class Tiny { const WORD = 'tiny works'; }",
}
INDEX_PHP = {
    "public/index.php": '<?php require __DIR__ . "/../vendor/autoload.php"; echo Own\\Tiny::WORD, "\\n";'
}


@pytest.fixture
def packages(folder):
    """A repository of composer packages, over HTTP."""
    root = folder / "packages"
    write(root / "tiny", TINY_PHP)
    with tarfile.open(root / "tiny.tar", "w") as archive:
        archive.add(root / "tiny", "tiny")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(root))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    url = f"http://127.0.0.1:{server.server_port}"
    entry = {**json.loads(TINY_PHP["composer.json"]), "dist": {"type": "tar", "url": f"{url}/tiny.tar"}}
    (root / "packages.json").write_text(json.dumps({"packages": {"own/tiny": {"1.0.0": entry}}}))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield url
    server.shutdown()
    server.server_close()
    thread.join()


def composer_files(folder, repository):
    """composer.json with its lockfile, written by composer itself."""
    manifest = {
        "name": "a/b",
        "config": {"secure-http": False},
        "repositories": [repository, {"packagist.org": False}],
        "require": {"own/tiny": "1.0.0"},
    }
    write(folder, {"composer.json": json.dumps(manifest)})
    env = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(folder), "COMPOSER_ALLOW_SUPERUSER": "1"}
    subprocess.run(["composer", "update", "-q", "--no-install"], cwd=folder, env=env, check=True, timeout=60)
    return {name: (folder / name).read_text() for name in ("composer.json", "composer.lock")}


async def test_composer_packages_from_a_folder_of_the_app(host):
    needs("php", "composer")
    own = {f"packages/tiny/{name}": content for name, content in TINY_PHP.items()}
    write(host.folder / "locked", own)
    files = composer_files(host.folder / "locked", {"type": "path", "url": "packages/*"})
    printed, _ = await built(host, {**INDEX_PHP, **own, **files}, "php public/index.php")
    assert printed == "tiny works\n"


async def test_composer_packages_from_a_repository_are_installed_once(host, packages):
    needs("php", "composer")
    files = {**INDEX_PHP, **composer_files(host.folder / "locked", {"type": "composer", "url": packages})}
    printed, first = await built(host, files, "php public/index.php")
    assert printed == "tiny works\n" and "Installing dependencies with composer" in first
    printed, second = await built(host, files, "php public/index.php")
    assert printed == "tiny works\n" and "Restoring dependencies" in second


# A registry that can't be reached


NOWHERE = "http://127.0.0.1:9"
GO = {
    "go.mod": "module example.org/x\n\ngo 1.19\n\nrequire example.com/dep v1.0.0\n",
    "main.go": "package main\n\nfunc main() {}\n",
}
GEMS = {
    "Gemfile": f'source "{NOWHERE}"\ngem "tiny"\n',
    "Gemfile.lock": f"GEM\n  remote: {NOWHERE}/\n  specs:\n    tiny (1.0.0)\n\nPLATFORMS\n  ruby\n  x86_64-linux\n\n"
    "DEPENDENCIES\n  tiny\n",
}
COMPOSER = {
    "composer.json": '{"config": {"secure-http": false}, "require": {"own/tiny": "1.0.0"}}',
    "composer.lock": json.dumps(
        {
            "content-hash": "x",
            "packages": [
                {
                    "name": "own/tiny",
                    "version": "1.0.0",
                    "type": "library",
                    "dist": {"type": "tar", "url": f"{NOWHERE}/x.tar"},
                }
            ],
            "packages-dev": [],
        }
    ),
}


@pytest.mark.parametrize(
    ("programs", "files", "env", "words"),
    [
        (
            "",
            {"requirements.txt": "six\n"},
            {"UV_DEFAULT_INDEX": NOWHERE, "UV_HTTP_RETRIES": "0"},
            "uv says above",
        ),
        (
            "npm",
            {"package.json": '{"dependencies": {"ms": "2"}}'},
            {"NPM_CONFIG_REGISTRY": NOWHERE, "NPM_CONFIG_FETCH_RETRIES": "0"},
            "npm says above",
        ),
        (
            "npm",
            {"package.json": '{"dependencies": {"ms": "2"}}', "pnpm-lock.yaml": "lockfileVersion: '9.0'\n"},
            {"NPM_CONFIG_REGISTRY": NOWHERE, "NPM_CONFIG_FETCH_RETRIES": "0"},
            "pnpm 10 could not be fetched; npm says above why. Commit a package-lock.json",
        ),
        ("go", GO, {"GOPROXY": NOWHERE, "GONOSUMDB": "*"}, "go says above"),
        ("bundle", GEMS, {"BUNDLE_RETRY": "0"}, "bundler says above"),
        ("composer", COMPOSER, {}, "composer says above"),
    ],
    ids=["uv", "npm", "pnpm", "go", "bundler", "composer"],
)
async def test_a_registry_that_does_not_answer_is_named(host, programs, files, env, words):
    needs(*programs.split())
    source = host.source(Procfile="web: x")
    write(source, files)
    out = Printed()
    with pytest.raises(BuildFailed, match=words):
        await host.builder.build(host.request(source, env=env, timeout=100.0), out)
    assert "127.0.0.1" in out.text and host.leftovers() == []
