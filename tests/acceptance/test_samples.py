"""Every sample is pushed for real and serves: built and run on the host itself, and in containers."""

import itertools
import shutil

import pytest

from contrib.installation import Installation
from tests.acceptance.conftest import missing_commands
from tests.contracts.engine import builder_image, engine_url, missing, runner_image

SERVING = {
    "python-web": ("Hello from Mooring", ""),
    "python-requirements": ("Hello from Flask", ""),
    "node-build": ("86400000 milliseconds", "node npm"),
    "go": ("Hello from Go", "go"),
    "ruby": ("Hello from Ruby", "ruby bundle"),
    "php": ("Hello from PHP", "php composer"),
    "static": ("It is served", ""),
    "multi-buildpack": ("Made by Node.js, served by Python: 42", "node npm"),
    "inline-buildpack": ("Hello from a buildpack of my own", ""),
    "release-command": ("Migrated before it served", ""),
}
"""What its page says, and the programs that the host needs for it."""
NUMBERS = itertools.count(1)


def of_containers():
    """The settings of an installation that builds and runs in containers."""
    url = engine_url()
    images = {"runner-image": runner_image(url), "builder-image": builder_image(url)}
    return {"backend": "docker", "builder": "docker", "docker-host": url, **images}


@pytest.fixture(scope="module", params=["host", "containers"])
def place(request):
    """The name of the place where samples are built and run, and its settings."""
    if absent := missing_commands():
        missing(f"not installed: {', '.join(absent)}")
    return request.param, of_containers() if request.param == "containers" else {}


@pytest.fixture(scope="module")
def system(place):
    """One installation for all samples of a place."""
    here = Installation(settings={"drain-timeout": "5", "stop-grace": "5", **place[1]})
    try:
        here.start()
        here.add_key()
        yield here
    finally:
        log = here.last_lines(200)
        here.remove()
        print(log)


@pytest.fixture
def needs(place):
    """`needs("node npm")`: on the host these programs must be there; the image for containers has them."""

    def check(programs):
        absent = [each for each in programs.split() if shutil.which(each) is None]
        if place[0] == "host" and absent:
            missing(f"not installed: {', '.join(absent)}")

    return check


@pytest.fixture
def app(system):
    """`app(sample=…)`: a new app with a checkout of the sample; its name and folder. Gone after the test."""
    made = []

    def make(sample):
        name = f"{sample}-{next(NUMBERS)}"
        system.moor("create", name)
        made.append(name)
        return name, system.checkout(name, sample=sample)

    yield make
    for name in made:
        system.moor("destroy", name, "--force")


def pushed(system, folder):
    done = system.push(folder)
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.parametrize("sample", SERVING)
def test_the_sample_serves(system, app, needs, sample):
    page, programs = SERVING[sample]
    needs(programs)
    name, folder = app(sample)
    said = pushed(system, folder)
    status, body = system.get(name)
    assert status == 200 and page in body, said
    assert " s · slug " in said


@pytest.mark.parametrize(
    ("sample", "words"), [("worker", "4 has 3 divisors"), ("procfile", "working, round 2")]
)
def test_an_app_of_workers_alone_works_and_has_no_route(system, app, sample, words):
    name, folder = app(sample)
    system.moor("config:set", "-a", name, "PAUSE=0.2")
    system.moor("ps:scale", "-a", name, "worker=1")
    pushed(system, folder)
    assert "worker.1" in system.moor("ps", "-a", name)
    system.wait_until(lambda: words in system.moor("logs", "-a", name), "the worker has logged its work")
    assert system.get(name)[0] in (404, 503)


def test_a_node_app_serves_and_a_push_that_changes_no_dependency_installs_none(system, app, needs):
    needs("node npm")
    name, folder = app("node")
    assert "Installing dependencies" in pushed(system, folder)
    assert "Hello from Node.js" in system.get(name)[1]
    (folder / "server.js").write_text((folder / "server.js").read_text().replace("Hello from", "Changed by"))
    system.commit(folder, "changed")
    second = pushed(system, folder)
    assert "Restoring dependencies" in second and "Installing dependencies" not in second
    assert "Changed by Node.js" in system.get(name)[1]


def test_a_django_app_serves_with_its_static_files(system, app):
    name, folder = app("django")
    assert "Running collectstatic" in pushed(system, folder)
    assert "Hello from Django" in system.get(name)[1]
    assert "teal" in system.get(name, "/static/style.css")[1]


def test_buildpacks_and_the_folder_that_is_built_are_chosen_from_outside(system, app):
    name, folder = app("python-web")
    (folder / "services/page").mkdir(parents=True)
    (folder / "services/page/index.html").write_text("<h1>from the folder</h1>")
    system.commit(folder, "two in one")
    system.moor("git:set", "-a", name, "build-dir", "services/page")
    system.moor("buildpacks:set", "-a", name, "nodejs")
    refused = system.push(folder)
    assert refused.returncode != 0
    assert "The buildpack nodejs, named by buildpacks:set, does not know this app" in refused.stdout
    system.moor("buildpacks:clear", "-a", name)
    pushed(system, folder)
    assert "from the folder" in system.get(name)[1]
    told = system.moor("buildpacks:detect", "-a", name)
    assert "there is no package.json at the top" in told
    assert [line.split()[1] for line in told.splitlines() if line.startswith("static ")] == ["builds"]


def test_a_build_that_forks_without_end_harms_nobody(system, app):
    peaceful, folder = app("python-web")
    pushed(system, folder)
    _, folder = app("inline-buildpack")
    (folder / "bin/compile").write_text("#!/bin/sh\nf() { f | f & }\nf\nsleep 600\n")
    system.commit(folder, "bomb")
    done = system.push(folder)
    assert done.returncode != 0 and "processes and threads at once" in done.stdout, done.stdout
    assert system.get(peaceful)[0] == 200
