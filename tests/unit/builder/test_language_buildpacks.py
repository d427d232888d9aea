"""The deciding parts of the buildpacks for Node.js, Go, Ruby and PHP; the contract suite runs them for real."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys

import pytest

from builder.buildpack import BUNDLED


def load(name):
    spec = importlib.util.spec_from_file_location(f"{name}_buildpack", BUNDLED / name / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


nodejs, go, ruby, php = (load(name) for name in ("nodejs", "go", "ruby", "php"))
V20 = (20, 11, 1)


@pytest.mark.parametrize(
    "wanted",
    [
        *("20", "20.x", "20.11", "20.11.1", "v20.11.1", "=20.11.1", "*", "", "x", "20.*"),
        *(">=18", ">= 18.0.0", ">=18 <21", ">18", "<21", "<=20", "<=20.11.1", ">20.11.0"),
        *(
            "^20.1.0",
            "^20",
            "~20.11.0",
            "~20",
            "18 || 20",
            "18 - 20",
            "18.0.0 - 20.11.1",
            "^18.0.0 || >=20.0.0",
        ),
    ],
)
def test_versions_of_node_in_a_range(wanted):
    assert nodejs.in_range(V20, wanted) is True


@pytest.mark.parametrize(
    "wanted",
    [
        "18",
        "18.x",
        "20.10",
        ">20",
        ">20.11.1",
        "<20",
        "<20.11.1",
        "^18",
        "^20.12.0",
        "~20.10",
        "<=19",
        "18 - 19",
        "16 || 18",
    ],
)
def test_versions_of_node_out_of_a_range(wanted):
    assert nodejs.in_range(V20, wanted) is False


@pytest.mark.parametrize("wanted", ["lts/*", "latest", "20.1.1.1", "^^20"])
def test_a_range_that_is_not_understood_is_no_reason_to_refuse(wanted):
    assert nodejs.in_range(V20, wanted) is None


def test_a_caret_below_one_keeps_what_is_not_zero():
    assert nodejs.in_range((0, 2, 9), "^0.2.3") is True
    assert nodejs.in_range((0, 3, 0), "^0.2.3") is False
    assert nodejs.in_range((0, 0, 4), "^0.0.3") is False


@pytest.mark.parametrize(
    ("scripts", "command"),
    [
        ({}, None),
        ({"start": "node server.js"}, "node server.js"),
        ({"start": "node server.js", "prestart": "x"}, "npm start"),
        ({"start": "echo $npm_package_version"}, "npm start"),
    ],
)
def test_npm_is_kept_out_of_the_web_process_where_it_is_not_needed(scripts, command):
    assert nodejs.web_command(scripts) == command


def key(folder, manifest, lock="{}", **env):
    (folder / "package-lock.json").write_text(lock)
    manager = nodejs.Manager("npm", "npm", folder / "package-lock.json")
    return nodejs.installation_key(folder, manifest, manager, "20.1.0", {"PATH": "/bin", **env})


def test_an_installation_is_known_by_what_it_depends_on(tmp_path):
    manifest = {"dependencies": {"ms": "2"}, "version": "1"}
    first = key(tmp_path, manifest)
    assert first and first == key(
        tmp_path, {**manifest, "version": "2"}, GREETING="x", NPM_CONFIG_CACHE="/else"
    )
    assert first != key(tmp_path, {"dependencies": {"ms": "3"}})
    assert first != key(tmp_path, manifest, lock='{"x": 1}')
    assert first != key(tmp_path, manifest, NPM_CONFIG_REGISTRY="https://example.org")
    (tmp_path / ".npmrc").write_text("x=y")
    assert first != key(tmp_path, manifest)


@pytest.mark.parametrize(
    "manifest",
    [
        {"dependencies": {"own": "file:packages/own"}},
        {"dependencies": {"own": "./own"}},
        {"dependencies": {"ms": "2"}, "workspaces": ["packages/*"]},
        {"dependencies": {"ms": "2"}, "scripts": {"postinstall": "x"}},
    ],
)
def test_what_may_be_another_one_next_time_is_installed_each_time(tmp_path, manifest):
    assert key(tmp_path, manifest) == ""


def chosen(folder, monkeypatch, *, at_hand=("npm",), manifest=None, **files):
    """Which manager an app with these files gets; one that is fetched is only named."""
    for name, content in files.items():
        (folder / name.replace("__", "-").replace("_", ".")).write_text(content)
    have = {name: f"/bin/{name}" for name in at_hand}
    managers = nodejs.managers
    monkeypatch.setattr(managers.shutil, "which", lambda name, path=None: have.get(name))
    monkeypatch.setattr(managers, "_fetched", lambda name, package, version, *_: (f"{package}@{version}",))
    return managers.choose(folder, folder, manifest or {}, {"PATH": "/bin"})


BERRY = "__metadata:\n  version: 8\n"


@pytest.mark.parametrize(
    ("at_hand", "files", "says", "name", "program"),
    [
        (["npm"], {"package__lock_json": "{}"}, "", "npm", "/bin/npm"),
        (["npm", "yarn"], {}, "yarn@4.1.0", "npm", "/bin/npm"),
        (["npm", "yarn"], {"yarn_lock": ""}, "", "yarn", "/bin/yarn"),
        (["npm", "yarnpkg"], {"yarn_lock": ""}, "", "yarn", "/bin/yarnpkg"),
        (["npm"], {"yarn_lock": ""}, "yarn@1.22.19", "yarn", "yarn@1"),
        (["npm", "yarn"], {"yarn_lock": BERRY}, "yarn@4.1.0+sha512.ab", "berry", "@yarnpkg/cli-dist@4.1.0"),
        (["npm"], {"yarn_lock": BERRY}, "", "berry", "@yarnpkg/cli-dist@4"),
        (["npm"], {"pnpm__lock_yaml": "lockfileVersion: '9.0'\n"}, "pnpm@9.1.0", "pnpm", "pnpm@9.1.0"),
        (["npm"], {"pnpm__lock_yaml": "lockfileVersion: '9.0'\n"}, "", "pnpm", "pnpm@10"),
        (["npm"], {"pnpm__lock_yaml": "lockfileVersion: 5.4\n"}, "yarn@4.1.0", "pnpm", "pnpm@7"),
        (["npm", "pnpm"], {"pnpm__lock_yaml": "lockfileVersion: '9.0'\n"}, "", "pnpm", "/bin/pnpm"),
    ],
)
def test_the_lockfile_says_which_package_manager(tmp_path, monkeypatch, at_hand, files, says, name, program):
    manifest = {"packageManager": says} if says else {}
    found = chosen(tmp_path, monkeypatch, at_hand=at_hand, manifest=manifest, **files)
    assert (found.name, found.program) == (name, (program,))


def test_a_yarn_that_the_app_brings_along_is_run(tmp_path, monkeypatch):
    (tmp_path / ".yarnrc.yml").write_text("yarnPath: .yarn/releases/yarn-3.8.7.cjs\n")
    (tmp_path / ".yarn/releases").mkdir(parents=True)
    (tmp_path / ".yarn/releases/yarn-3.8.7.cjs").touch()
    found = chosen(tmp_path, monkeypatch, yarn_lock=BERRY)
    assert found.program == ("node", f"{tmp_path}/.yarn/releases/yarn-3.8.7.cjs")
    assert (found.title, found.version, found.prunes) == ("yarn", "3.8.7", False)


def test_a_server_without_npm_says_so(tmp_path, monkeypatch):
    with pytest.raises(nodejs.Refused, match="Debian package npm"):
        chosen(tmp_path, monkeypatch, at_hand=())


def test_go_mod_says_which_go_and_whether_anything_is_required():
    assert go.wanted_go("module x\n\ngo 1.21.3\n") == "1.21.3"
    assert go.wanted_go("module x\n") == ""
    assert go.has_requirements("module x\n\nrequire (\n\ta v1\n)\n")
    assert not go.has_requirements("module required\n")


@pytest.mark.parametrize(
    ("made", "web"),
    [("hello", "bin/hello"), ("job\nserver", "bin/server"), ("a\nb", None), ("$(x)", None), ("", None)],
)
def test_which_binary_is_the_web_process(tmp_path, capsys, made, web):
    (tmp_path / ".mooring/go").mkdir(parents=True)
    (tmp_path / ".mooring/go/binaries").write_text(made)
    go.release(tmp_path)
    assert json.loads(capsys.readouterr().out)["default_process_types"].get("web") == web


@pytest.mark.parametrize(
    ("gems", "rackup", "web"),
    [
        ("railties", False, "bundle exec rails server -b 0.0.0.0 -p $PORT"),
        ("puma", True, "bundle exec puma -p $PORT config.ru"),
        ("rackup", True, "bundle exec rackup config.ru -o 0.0.0.0 -p $PORT"),
        ("puma", False, None),
    ],
)
def test_how_a_ruby_app_is_served(tmp_path, capsys, gems, rackup, web):
    (tmp_path / "Gemfile.lock").write_text(f"GEM\n  specs:\n    {gems} (1.0)\n")
    if rackup:
        (tmp_path / "config.ru").touch()
    ruby.release(tmp_path)
    said = json.loads(capsys.readouterr().out)
    assert said["default_process_types"].get("web") == web
    assert ("RAILS_ENV" in said["config_vars"]) == (gems == "railties")


@pytest.mark.parametrize(
    ("files", "root"),
    [
        (["public/index.php", "index.php"], "public"),
        (["web/index.php"], "web"),
        (["index.php"], ""),
        (["public/x"], ""),
    ],
)
def test_where_a_php_app_is_served_from(tmp_path, files, root):
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert php.document_root(tmp_path) == root


def test_packages_from_folders_of_the_app_are_no_reason_to_skip_an_installation(tmp_path):
    (tmp_path / "composer.lock").write_text('{"packages": [{"dist": {"type": "path"}}]}')
    assert php.installation_key(tmp_path, {}, "8.2") == ""
    (tmp_path / "composer.lock").write_text('{"packages": []}')
    assert php.installation_key(tmp_path, {}, "8.2") != php.installation_key(tmp_path, {}, "8.3")


pack = nodejs.pack


def installed(tmp_path, content):
    folder = tmp_path / "installed"
    folder.mkdir(exist_ok=True)
    (folder / "file").write_text(content)
    return folder


def restored(tmp_path, key):
    """What a build with this key finds; None when it has to install."""
    target = tmp_path / "build" / "target"
    return (target / "file").read_text() if pack.take_from_cache(tmp_path, "layer", key, target) else None


def test_an_installation_comes_back_under_its_key_alone(tmp_path):
    pack.keep_in_cache(tmp_path, "layer", "a", installed(tmp_path, "of a"))
    assert restored(tmp_path, "a") == "of a"
    assert restored(tmp_path, "b") is None
    assert restored(tmp_path, "") is None


def test_two_sets_of_dependencies_in_turn_are_installed_once_each(tmp_path):
    for key in ("a", "b"):
        pack.keep_in_cache(tmp_path, "layer", key, installed(tmp_path, f"of {key}"))
    assert [restored(tmp_path, key) for key in ("a", "b", "a", "b")] == ["of a", "of b", "of a", "of b"]


def test_few_installations_stay_and_those_that_were_used_last(tmp_path):
    for number, key in enumerate(("a", "b")):
        pack.keep_in_cache(tmp_path, "layer", key, installed(tmp_path, f"of {key}"))
        os.utime(tmp_path / "layers/layer" / key, (number, number))
    assert restored(tmp_path, "a") == "of a"
    pack.keep_in_cache(tmp_path, "layer", "c", installed(tmp_path, "of c"))
    assert sorted(path.name for path in (tmp_path / "layers/layer").iterdir()) == ["a", "c"]


def test_an_installation_without_a_key_is_not_kept(tmp_path):
    pack.keep_in_cache(tmp_path, "layer", "", installed(tmp_path, "x"))
    assert not (tmp_path / "layers").exists()


def test_a_build_that_was_ended_halfway_leaves_nothing_to_trust(tmp_path, monkeypatch):
    monkeypatch.setattr(pack, "_copy", lambda _origin, _target: False)
    pack.keep_in_cache(tmp_path, "layer", "a", installed(tmp_path, "half"))
    assert restored(tmp_path, "a") is None


# Copies that are made while a build container waits


def make_ready(tmp_path):
    done = subprocess.run(
        [sys.executable, "-I", "-S", BUNDLED / "lib/ready.py", tmp_path, tmp_path / "ready"], check=False
    )
    assert done.returncode == 0
    return sorted(str(path.relative_to(tmp_path / "ready")) for path in (tmp_path / "ready").glob("*/*"))


def test_the_installation_that_was_used_last_is_copied_ahead_and_taken_once(tmp_path, monkeypatch):
    for number, key in enumerate(("b", "a")):
        pack.keep_in_cache(tmp_path, "layer", key, installed(tmp_path, f"of {key}"))
        os.utime(tmp_path / "layers/layer" / key, (number, number))
    (tmp_path / "layers/layer/half").mkdir()
    assert make_ready(tmp_path) == ["layer/a"]
    monkeypatch.setenv("MOORING_READY", str(tmp_path / "ready"))
    (tmp_path / "ready/layer/a/file").write_text("of the copy")
    assert [restored(tmp_path, key) for key in ("b", "a", "a")] == ["of b", "of the copy", "of a"]


def test_a_copy_of_what_is_no_more_in_the_cache_is_not_taken(tmp_path, monkeypatch):
    pack.keep_in_cache(tmp_path, "layer", "a", installed(tmp_path, "of a"))
    make_ready(tmp_path)
    monkeypatch.setenv("MOORING_READY", str(tmp_path / "ready"))
    shutil.rmtree(tmp_path / "layers")
    assert restored(tmp_path, "a") is None


def test_half_a_copy_is_not_taken(tmp_path, monkeypatch):
    pack.keep_in_cache(tmp_path, "layer", "a", installed(tmp_path, "of a"))
    make_ready(tmp_path)
    monkeypatch.setenv("MOORING_READY", str(tmp_path / "ready"))
    (tmp_path / "ready/layer/a").rename(tmp_path / "ready/layer/a.half")
    assert restored(tmp_path, "a") == "of a"


def test_what_is_large_is_left_to_the_build_that_wants_it(tmp_path):
    assert make_ready(tmp_path) == []
    folder = installed(tmp_path, "x")
    with (folder / "large").open("wb") as file:
        file.truncate(201 * 1024**2)
    (tmp_path / "layers/layer/a").mkdir(parents=True)
    folder.rename(tmp_path / "layers/layer/a/content")
    assert make_ready(tmp_path) == []
