"""The classic buildpack API, with packs made here; then the bundled buildpacks, on the samples."""

import os
import shutil
import subprocess

import pytest

from builder.base import BuildFailed
from tests.contracts.building import host_builder, run
from tests.servers.git_http import git_over_http
from tests.unit.builder.printed import Printed

pytestmark = pytest.mark.real


def write_pack(folder, *, detect="echo Pack", compiles="true", release=None, **files):
    """A buildpack of shell lines."""
    (folder / "bin").mkdir(parents=True)
    programs = {"detect": detect, "compile": compiles, "release": release}
    for name, script in programs.items():
        if script is not None:
            (folder / "bin" / name).write_text(f"#!/bin/sh\n{script}\n")
            (folder / "bin" / name).chmod(0o755)
    for name, content in files.items():
        (folder / name).write_text(content)
    return folder


@pytest.fixture
def shelf(host):
    """A folder of the server that services may take buildpacks from."""
    path = host.folder / "shelf"
    path.mkdir(mode=0o755)
    host.builder = host_builder(host, buildpack_folders=[path])
    return path


# Which are asked, and in which order


async def test_named_buildpacks_run_in_their_order_and_the_last_says_what_is_run(host, shelf):
    for name in "ab":
        write_pack(
            shelf / name,
            detect=f"echo Pack {name}",
            compiles=f'echo {name} >> "$1/order"',
            release=f'echo \'{{"default_process_types": {{"web": "run-{name}"}}, '
            f'"config_vars": {{"BY": "{name}", "HAS_{name.upper()}": "1"}}}}\'',
        )
    source = host.source(README="x")
    artifact, out = await host.build(source, buildpacks=(f"{shelf}/a", f"{shelf}/b"))
    assert artifact.process_types == {"web": "run-b"}
    assert artifact.env == {"BY": "b", "HAS_A": "1", "HAS_B": "1"}
    assert artifact.buildpack == "Pack a + Pack b"
    assert [text for kind, text in out.lines if "detected" in text] == [
        "Pack a app detected",
        "Pack b app detected",
    ]
    assert (await host.tree(artifact) / "order").read_text() == "a\nb\n"


async def test_what_one_exports_the_next_one_sees_and_nobody_else(host, shelf):
    write_pack(
        shelf / "a",
        compiles='echo "export FROM_A=\\"$PWD\\" PATH=/from/a:\\$PATH" > "$(dirname "$0")/../export"',
    )
    write_pack(
        shelf / "b", compiles='echo "FROM_A=$FROM_A PATH=$PATH"; pwd; echo x > "$(dirname "$0")/../mark"'
    )
    names = (f"{shelf}/a", f"{shelf}/b")
    _, out = await host.build(host.source(Procfile="web: x"), buildpacks=names)
    assert f"FROM_A={host.folder}/builds/build1.tmp/build PATH=/from/a:" in out.text
    assert not (shelf / "a/export").exists() and not (shelf / "b/mark").exists()
    _, out = await host.build(host.source(Procfile="web: x"), buildpacks=(f"{shelf}/b",))
    assert "FROM_A= PATH=" in out.text


@pytest.mark.parametrize(
    ("files", "env", "names"),
    [
        ({".buildpacks": "# ours\nnull\n\nprocfile\r\n"}, {}, "Null + Procfile"),
        (
            {"app.json": '{"buildpacks": [{"url": "heroku/nodejs"}, "null"]}', "package.json": "{}"},
            {},
            "Node.js + Null",
        ),
        ({"app.json": '{"buildpacks": [{"url": "nodejs"}]}', ".buildpacks": "null"}, {}, "Null"),
        ({".buildpacks": "python"}, {"BUILDPACK_URL": "null"}, "Null"),
        ({"app.json": '{"name": "x"}'}, {}, "Procfile"),
    ],
)
async def test_the_source_says_which_buildpacks_build_it(host, files, env, names):
    source = host.source(Procfile="web: x")
    for name, content in files.items():
        (source / name).write_text(content)
    artifact, _ = await host.build(source, env=env)
    assert artifact.buildpack == names


async def test_what_was_set_for_the_service_comes_before_what_the_source_says(host):
    source = host.source(Procfile="web: x")
    (source / ".buildpacks").write_text("python\n")
    artifact, _ = await host.build(source, buildpacks=("null",))
    assert artifact.buildpack == "Null"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("cobol", "no buildpack 'cobol'"),
        ("../python", "names no buildpack"),
        ("/etc", "no folder that this server takes buildpacks from"),
        ("lib", "no buildpack 'lib'"),
        ("inline", "bin/detect and bin/compile"),
        ("nodejs", "does not know this app: there is no package.json at the top"),
        ("git@example.org:x/y.git", "names no buildpack"),
        ("file:///etc/x.git", "fetched by https"),
        ("https://me:secret@example.org/x.git", "can't have a user"),
    ],
)
async def test_a_buildpack_that_can_not_be_taken_is_answered_with_the_way_out(host, name, words):
    source = host.source(Procfile="web: x")
    (source / ".buildpacks").write_text(name)
    with pytest.raises(BuildFailed, match=words):
        await host.build(source)
    assert host.leftovers() == []


async def test_a_link_out_of_the_allowed_folder_leads_nowhere(host, shelf):
    write_pack(host.folder / "elsewhere")
    (shelf / "pack").symlink_to(host.folder / "elsewhere")
    with pytest.raises(BuildFailed, match="no folder that this server takes"):
        await host.build(host.source(Procfile="web: x"), buildpacks=(f"{shelf}/pack",))


async def test_each_tells_why_it_did_or_did_not_match(host, shelf):
    verdicts = {
        each.buildpack: each for each in await host.inspect(host.source(Procfile="web: x", package_json="{}"))
    }
    assert verdicts["procfile"].builds and verdicts["procfile"].words == "Procfile"
    assert verdicts["go"].words == "there is no go.mod at the top" and not verdicts["go"].matched
    assert "null" not in verdicts and "lib" not in verdicts
    write_pack(shelf / "odd", detect="exit 7")
    (verdict,) = await host.inspect(host.source(Procfile="web: x"), buildpacks=(f"{shelf}/odd",))
    assert (verdict.by, verdict.words) == ("buildpacks:set", "its bin/detect ended with status 7")


async def test_only_the_first_that_matches_would_build(host):
    source = host.source(Procfile="web: x", requirements_txt="")
    (source / "package.json").write_text("{}")
    found = await host.inspect(source)
    assert [each.buildpack for each in found if each.matched] == ["python", "nodejs", "procfile"]
    assert [each.buildpack for each in found if each.builds] == ["python"]


async def test_an_app_with_the_programs_of_a_buildpack_builds_itself(host):
    source = write_pack(
        host.source(),
        detect="echo Mine",
        compiles='cp "$3/GREETING" "$1/greeting"',
        release="echo 'config_vars: {A: b}'",
    )
    (source / "Procfile").write_text("web: x")
    artifact, _ = await host.build(source, env={"GREETING": "hello"})
    assert (artifact.buildpack, artifact.env) == ("Mine", {"A": "b"})
    assert (await host.tree(artifact) / "greeting").read_text() == "hello"


# From git


@pytest.fixture
def remote(host):
    """A repository with a buildpack, reached over HTTP: its URL, a function that commits to it, the requests."""
    root = host.folder / "remote"
    work = write_pack(
        root / "remote", detect="echo Remote 1", release="echo 'default_process_types: {web: x}'"
    )

    def git(*words):
        env = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null"}
        names = ["-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "init.defaultBranch=main"]
        done = subprocess.run(
            ["git", *names, *words], cwd=work, env=env, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    def commit():
        git("add", "-A")
        git("commit", "-qm", "x")
        return git("rev-parse", "HEAD")

    git("init", "-q")
    commit()
    with git_over_http(root) as (url, requests):
        yield f"{url}/remote/.git", work, git, commit, requests


async def test_a_buildpack_from_git_is_kept_by_commit(host, remote):
    url, work, _git, commit, requests = remote
    artifact, out = await host.build(host.source(x="y"), buildpacks=(url,))
    assert artifact.buildpack == "Remote 1"
    requests.clear()
    await host.build(host.source(x="y"), buildpacks=(url,))
    assert all("git-upload-pack" in each or "info/refs" in each for each in requests) and len(requests) == 2
    (work / "bin/detect").write_text("#!/bin/sh\necho Remote 2\n")
    new = commit()
    artifact, out = await host.build(host.source(x="y"), buildpacks=(url,))
    assert artifact.buildpack == "Remote 2"
    assert f"Buildpack {url} at {new[:7]}" in out.text
    assert len(list((host.folder / "caches/foo/app/.buildpacks").glob("*/*"))) == 1


async def test_a_branch_a_tag_and_a_commit_can_be_named(host, remote):
    url, work, git, commit, _ = remote
    first = git("rev-parse", "HEAD")
    git("tag", "-a", "v1", "-m", "x")
    (work / "bin/detect").write_text("#!/bin/sh\necho Remote 2\n")
    commit()
    git("branch", "stable")
    for ref, name in (("v1", "Remote 1"), (first, "Remote 1"), ("stable", "Remote 2"), ("main", "Remote 2")):
        artifact, _ = await host.build(host.source(x="y"), buildpacks=(f"{url}#{ref}",))
        assert artifact.buildpack == name
    with pytest.raises(BuildFailed, match="no branch or tag 'v2'"):
        await host.build(host.source(x="y"), buildpacks=(f"{url}#v2",))


async def test_submodules_and_hooks_of_a_buildpack_are_not_followed(host, remote):
    url, work, git, commit, requests = remote
    (work / ".gitmodules").write_text(f'[submodule "s"]\n\tpath = s\n\turl = {url}/other\n')
    git("update-index", "--add", "--cacheinfo", f"160000,{git('rev-parse', 'HEAD')},s")
    commit()
    artifact, _ = await host.build(host.source(x="y"), buildpacks=(url,))
    assert artifact.buildpack == "Remote 1" and not any("other" in each for each in requests)


async def test_a_buildpack_that_is_too_large_or_not_there_is_refused(host, remote, monkeypatch):
    url, work, _git, commit, _ = remote
    with pytest.raises(BuildFailed, match="could not be fetched: "):
        await host.build(host.source(x="y"), buildpacks=(url.replace("remote", "nothing"),))
    (work / "large").write_bytes(os.urandom(300_000))
    commit()
    monkeypatch.setattr("builder.clone.MAX_BYTES", 100_000)
    with pytest.raises(BuildFailed, match=r"could not be fetched|is larger than"):
        await host.build(host.source(x="y"), buildpacks=(url,))
    assert host.leftovers() == []
    monkeypatch.undo()
    artifact, _ = await host.build(host.source(x="y"), buildpacks=(url,))
    assert artifact.buildpack == "Remote 1"


async def test_fetching_that_takes_too_long_ends(host, remote, monkeypatch):
    monkeypatch.setattr("builder.clone.FETCH_SECONDS", 0.01)
    with pytest.raises(BuildFailed, match=r"took longer than 0 seconds"):
        await host.build(host.source(x="y"), buildpacks=(remote[0],))
    assert host.leftovers() == []


# The source


async def test_a_folder_of_the_repository_is_built_alone(host):
    source = host.source(Procfile="web: top", services__api="x")
    (source / "services/api").unlink()
    (source / "services/api").mkdir()
    (source / "services/api/Procfile").write_text("web: api")
    artifact, _ = await host.build(source, build_dir="services/api")
    assert artifact.process_types == {"web": "api"}
    assert [path.name for path in (await host.tree(artifact)).iterdir()] == ["Procfile"]


@pytest.mark.parametrize("wanted", ["missing", "link", "Procfile", "real/../../..", "/etc"])
async def test_a_build_dir_that_is_none_of_the_repository_is_refused(host, wanted):
    source = host.source(Procfile="web: x", real__file="x")
    (source / "link").symlink_to("real")
    with pytest.raises(BuildFailed, match="There is no folder"):
        await host.build(source, build_dir=wanted)
    assert host.leftovers() == []


async def test_what_slugignore_names_is_gone_before_the_build(host):
    source = host.source(Procfile="web: x", docs__a="x", keep__b="x")
    (source / ".slugignore").write_text("/docs\n*.psd\nProcfile\n")
    (source / "keep/image.psd").write_text("x")
    artifact, _ = await host.build(source)
    tree = await host.tree(artifact)
    found = sorted(str(path.relative_to(tree)) for path in tree.rglob("*") if path.is_file())
    assert found == [".slugignore", "Procfile", "keep/b"]


# The bundled ones, on the samples


def needs(*programs):
    """Where a program is missing, that is a failure in CI and a skip elsewhere."""
    missing = [each for each in programs if shutil.which(each) is None]
    if missing and os.environ.get("MOOR_TEST_REAL"):
        pytest.fail(f"not installed: {', '.join(missing)}")
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")


async def build_twice(host, sample, **changes):
    """What was built, and what the first and the second build printed."""
    source = host.source(sample)
    first, out = await host.build(source, **changes)
    second, again = await host.build(host.source(sample), **changes)
    return first, out.text, second, again.text


async def test_a_node_app_gets_what_its_lockfile_says_and_the_second_build_installs_nothing(host):
    needs("node", "npm")
    artifact, first, again, second = await build_twice(host, "node")
    assert artifact.buildpack == "Node.js" and artifact.process_types == {"web": "node server.js"}
    assert "Installing dependencies with npm" in first
    assert "Restoring dependencies" in second and "Installing" not in second
    tree = await host.tree(again)
    assert (
        await run(tree, "node -e 'console.log(require(\"ms\")(60000))'; echo $NODE_ENV")
    ) == "1m\nproduction\n"
    assert artifact.reference == again.reference


async def test_a_build_script_runs_and_what_only_it_needed_is_pruned(host):
    needs("node", "npm")
    artifact, first, again, _second = await build_twice(host, "node-build")
    assert "Running the script build" in first and "Pruning" in first
    tree = await host.tree(again)
    assert "86400000" in (tree / "dist/page.html").read_text()
    assert not (tree / "node_modules/ms").exists()
    assert artifact.process_types == {"web": "node dist/server.js"}


async def test_a_heroku_postbuild_runs_in_place_of_build(host):
    needs("node", "npm")
    source = host.source()
    scripts = '{"scripts": {"heroku-postbuild": "echo postbuild > made", "build": "exit 1", "start": "x"}}'
    (source / "package.json").write_text(scripts)
    artifact, _ = await host.build(source)
    assert (await host.tree(artifact) / "made").read_text() == "postbuild\n"


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"package.json": "{"}, "package.json is no valid JSON"),
        ({"package.json": '{"engines": {"node": "4.x"}}'}, "asks for Node.js 4.x"),
        ({"package.json": "{}", "yarn.lock": "", "package-lock.json": "{}"}, "two lockfiles"),
        ({"package.json": "{}", "bun.lock": ""}, "bun is not supported"),
        ({"package.json": '{"scripts": {"build": "exit 3"}}'}, "The script build of package.json failed"),
        ({"package.json": '{"scripts": {"build": "true"}}'}, "Nothing says how to start this app"),
    ],
)
async def test_a_node_app_that_can_not_be_built_says_why(host, files, words):
    needs("node", "npm")
    source = host.source()
    for name, content in files.items():
        (source / name).write_text(content)
    with pytest.raises(BuildFailed, match=words):
        await host.build(source)


async def test_a_go_app_becomes_a_binary(host):
    needs("go")
    artifact, first, again, _second = await build_twice(host, "go")
    assert artifact.process_types == {"web": "bin/hello"} and "Compiling ." in first
    assert os.access(await host.tree(again) / "bin/hello", os.X_OK)


async def test_main_packages_below_cmd_are_all_built_and_vendored_modules_used(host):
    needs("go")
    source = host.source()
    for name, content in {
        "go.mod": "module example.org/two\n\ngo 1.19\n\nrequire example.org/dep v1.0.0\n",
        "cmd/server/main.go": 'package main\n\nimport "example.org/dep"\n\nfunc main() { println(dep.Word) }\n',
        "cmd/job/main.go": "package main\n\nfunc main() {}\n",
        "vendor/modules.txt": "# example.org/dep v1.0.0\n## explicit\nexample.org/dep\n",
        "vendor/example.org/dep/dep.go": 'package dep\n\nconst Word = "vendored"\n',
        "Procfile": "worker: bin/job\n",
    }.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(content)
    artifact, out = await host.build(source)
    assert "Dependencies are in vendor/" in out.text
    assert artifact.process_types == {"worker": "bin/job", "web": "bin/server"}
    assert "vendored" in await run(await host.tree(artifact), "bin/server")


@pytest.mark.parametrize(
    ("module", "code", "words"),
    [
        ("module x\n\ngo 9.1\n", "package main\nfunc main() {}\n", "asks for Go 9.1"),
        ("module x\n", "package other\n", "no package main"),
        ("module x\n", "package main\nfunc main() { x }\n", "could not be compiled"),
    ],
)
async def test_a_go_app_that_can_not_be_built_says_why(host, module, code, words):
    needs("go")
    source = host.source()
    (source / "go.mod").write_text(module)
    (source / "main.go").write_text(code)
    with pytest.raises(BuildFailed, match=words):
        await host.build(source)


async def test_a_ruby_app_finds_its_gems_where_it_runs(host):
    needs("ruby", "bundle")
    artifact, _ = await host.build(host.source("ruby"))
    assert artifact.buildpack == "Ruby" and artifact.env["RACK_ENV"] == "production"
    command = "bundle exec ruby -e 'require \"greeting\"; puts Greeting.text'"
    assert (await run(await host.tree(artifact), command)).strip() == "Hello from Ruby"


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"Gemfile": 'source "https://rubygems.org"\n'}, "no Gemfile.lock"),
        (
            {"Gemfile": "", "Gemfile.lock": "RUBY VERSION\n   ruby 1.9.3p0\n"},
            "Gemfile.lock asks for Ruby 1.9.3",
        ),
        (
            {"Gemfile": "", "Gemfile.lock": "", ".ruby-version": "ruby-1.8.7"},
            ".ruby-version asks for Ruby 1.8.7",
        ),
        ({"Gemfile": "no ruby", "Gemfile.lock": "GEM\n"}, "gems could not be installed"),
    ],
)
async def test_a_ruby_app_that_can_not_be_built_says_why(host, files, words):
    needs("ruby", "bundle")
    source = host.source()
    for name, content in files.items():
        (source / name).write_text(content)
    with pytest.raises(BuildFailed, match=words):
        await host.build(source)


async def test_a_php_app_has_composers_autoloader_and_a_web_server(host):
    needs("php", "composer")
    artifact, _ = await host.build(host.source("php"))
    assert artifact.process_types == {"web": ".mooring/php/web"}
    tree = await host.tree(artifact)
    assert await run(tree, "php public/index.php") == "<h1>Hello from PHP</h1>\n"


async def test_two_buildpacks_of_the_sample_work_together(host):
    needs("node", "npm")
    artifact, _ = await host.build(host.source("multi-buildpack"))
    assert artifact.buildpack == "Node.js + Python" and artifact.process_types == {"web": "python app.py"}
    assert "42" in (await host.tree(artifact) / "page.html").read_text()


async def test_the_inline_sample_counts_its_builds_in_the_cache(host):
    artifact, first, _again, second = await build_twice(host, "inline-buildpack", env={"GREETING": "hello"})
    assert "for the 1. time" in first and "for the 2. time" in second
    assert "hello" in (await host.tree(artifact) / "site/index.html").read_text()


async def test_the_end_tells_how_long_each_phase_took(host):
    needs("node", "npm")
    _, out = await host.build(host.source("node"))
    last = out.lines[-1][1]
    assert last.startswith("Compiled slug size is ") and "(detect " in last and "· slug " in last


async def test_a_failing_pack_shows_its_last_line(host, shelf):
    write_pack(shelf / "a", compiles="echo ' !     it is so'; exit 1")
    out = Printed()
    with pytest.raises(BuildFailed, match="it is so"):
        await host.builder.build(host.request(host.source(x="y"), buildpacks=(f"{shelf}/a",)), out)
