"""Every sample is pushed for real, and serves."""

import os
import shutil

import pytest

SERVING = {
    "node": ("Hello from Node.js", "node npm"),
    "node-build": ("86400000 milliseconds", "node npm"),
    "go": ("Hello from Go", "go"),
    "ruby": ("Hello from Ruby", "ruby bundle"),
    "php": ("Hello from PHP", "php composer"),
    "django": ("Hello from Django", ""),
    "multi-buildpack": ("Made by Node.js, served by Python: 42", "node npm"),
    "inline-buildpack": ("Hello from a buildpack of my own", ""),
    "release-command": ("Migrated before it served", ""),
}


def needs(programs):
    missing = [each for each in programs.split() if shutil.which(each) is None]
    if missing and os.environ.get("MOOR_TEST_REAL"):
        pytest.fail(f"not installed: {', '.join(missing)}")
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")


def pushed(system, name, *, sample):
    system.moor("create", name)
    folder = system.checkout(name, sample=sample)
    done = system.push(folder)
    assert done.returncode == 0, done.stdout
    return folder, done.stdout


@pytest.mark.parametrize("sample", SERVING)
def test_the_sample_serves(system, sample):
    page, programs = SERVING[sample]
    needs(programs)
    _, said = pushed(system, sample, sample=sample)
    status, body = system.get(sample)
    assert status == 200 and page in body, said
    assert " s · slug " in said
    system.moor("destroy", sample, "--force")


def test_a_push_that_changes_no_dependency_installs_none(system):
    needs("node npm")
    folder, first = pushed(system, "again", sample="node")
    assert "Installing dependencies" in first
    (folder / "server.js").write_text((folder / "server.js").read_text().replace("Hello from", "Changed by"))
    system.commit(folder, "changed")
    second = system.push(folder).stdout
    assert "Restoring dependencies" in second and "Installing dependencies" not in second
    assert "Changed by Node.js" in system.get("again")[1]


def test_static_files_of_django_are_collected(system):
    _, said = pushed(system, "collected", sample="django")
    assert "Running collectstatic" in said
    assert "teal" in system.get("collected", "/static/style.css")[1]


def test_buildpacks_and_the_folder_that_is_built_are_chosen_from_outside(system):
    system.moor("create", "mono")
    folder = system.checkout("mono", sample="python-web")
    (folder / "services/page").mkdir(parents=True)
    (folder / "services/page/index.html").write_text("<h1>from the folder</h1>")
    system.commit(folder, "two in one")
    system.moor("git:set", "-a", "mono", "build-dir", "services/page")
    system.moor("buildpacks:set", "-a", "mono", "nodejs")
    refused = system.push(folder)
    assert refused.returncode != 0
    assert "The buildpack nodejs, named by buildpacks:set, does not know this app" in refused.stdout
    system.moor("buildpacks:clear", "-a", "mono")
    assert system.push(folder).returncode == 0
    assert "from the folder" in system.get("mono")[1]
    told = system.moor("buildpacks:detect", "-a", "mono")
    assert "there is no package.json at the top" in told
    assert [line.split()[1] for line in told.splitlines() if line.startswith("static ")] == ["builds"]


def test_a_build_that_forks_without_end_harms_nobody(system):
    pushed(system, "peaceful", sample="python-web")
    system.moor("create", "bomb")
    folder = system.checkout("bomb", sample="inline-buildpack")
    (folder / "bin/compile").write_text("#!/bin/sh\nf() { f | f & }\nf\nsleep 600\n")
    system.commit(folder, "bomb")
    done = system.push(folder)
    assert done.returncode != 0 and "processes and threads at once" in done.stdout, done.stdout
    assert system.get("peaceful")[0] == 200
