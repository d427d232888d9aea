"""Images: built from a pushed Dockerfile, taken from the engine, loaded from what `docker save` wrote."""

import asyncio
import secrets
import subprocess

import pytest

from contrib.installation import Installation
from controller.engine import REALM, Engine
from tests.acceptance.conftest import missing_commands, started
from tests.contracts.engine import builder_image, debian_image, engine_url, missing, runner_image

pytestmark = [pytest.mark.real, pytest.mark.acceptance]

SETTINGS = {"backend": "docker", "builder": "docker", "drain-timeout": "5", "stop-grace": "5"}


def asked(work):
    """What the engine answers to `work(client)`."""

    async def ask():
        engine = Engine(engine_url())
        try:
            return await engine.call(work)
        finally:
            await engine.close()

    return asyncio.run(ask())


@pytest.fixture(scope="module")
def here():
    if absent := missing_commands():
        missing(f"not there: {', '.join(absent)}")
    url = engine_url()
    debian_image(url)
    images = {"runner-image": runner_image(url), "builder-image": builder_image(url)}
    here = Installation(settings={**SETTINGS, "docker-host": url, **images})
    with started(here):
        yield here


def realm(here):
    return (here.data / "realm").read_text().strip()


def kept(here, app):
    """Tags of the images that are kept for an app."""
    prefix = f"mooring-{realm(here)}/{app}/"
    images = asked(lambda client: client.images())
    return [tag for each in images for tag in each.get("RepoTags") or () if tag.startswith(prefix)]


@pytest.fixture(scope="module")
def pushed(here):
    """An app with a Dockerfile that was pushed once; its checkout."""
    here.moor("create", "boxed")
    folder = here.checkout("boxed", sample="dockerfile")
    push = here.push(folder)
    assert push.returncode == 0, push.stdout
    assert "Dockerfile app detected" in push.stdout
    assert "COPY serve.pl /srv/serve.pl" in push.stdout
    return folder


def test_pushed_dockerfile_serves_what_its_image_runs(here, pushed):
    assert here.get("boxed") == (200, "Hello from a Dockerfile, in grey\n")
    version = here.json("releases:info", "-a", "boxed", "1")
    version = version.get("version", version)
    assert version["artifact"]["kind"] == "image"
    assert version["artifact"]["reference"].startswith("sha256:")
    assert len(kept(here, "boxed")) == 1


def test_arguments_count_from_the_next_build_on(here, pushed):
    here.moor("builder:args", "-a", "boxed", "COLOR=green")
    here.commit(pushed, "The same, in green")
    push = here.push(pushed)
    assert push.returncode == 0, push.stdout
    assert here.get("boxed")[1] == "Hello from a Dockerfile, in green\n"
    here.moor("rollback", "-a", "boxed")
    assert here.get("boxed")[1] == "Hello from a Dockerfile, in grey\n"


def test_config_reaches_the_image(here, pushed):
    here.moor("config:set", "-a", "boxed", "GREETING=ahoy")
    assert here.get("boxed")[1].endswith("ahoy\n")
    here.moor("config:unset", "-a", "boxed", "GREETING")


def test_broken_dockerfile_is_rejected_and_the_old_version_goes_on(here, pushed):
    before = here.get("boxed")
    content = (pushed / "Dockerfile").read_text()
    here.commit(pushed, "broken", Dockerfile=content + "RUN echo no such thing && exit 9\n")
    push = here.push(pushed)
    assert push.returncode != 0
    assert "no such thing" in push.stdout
    assert "ended with status 9" in push.stdout
    assert here.get("boxed") == before
    here.commit(pushed, "mended", Dockerfile=content)


def test_purged_cache_makes_the_next_build_run_every_step(here, pushed):
    assert "is gone" in here.moor("repo:purge-cache", "-a", "boxed")
    here.commit(pushed, "once more")
    push = here.push(pushed)
    assert push.returncode == 0, push.stdout
    assert "Taken from the cache" not in push.stdout


def test_image_of_the_engine_is_deployed_by_name(here, pushed):
    name = f"mooring-test-{secrets.token_hex(4)}"
    image = here.json("releases:info", "-a", "boxed", "1")
    reference = image.get("version", image)["artifact"]["reference"]
    asked(lambda client: client.tag(reference, name, tag="1"))
    here.moor("create", "taken")
    try:
        told = here.moor("git:from-image", "-a", "taken", f"{name}:1")
    finally:
        asked(lambda client: client.remove_image(f"{name}:1"))
    assert "Releasing v1" in told
    assert here.get("taken")[1] == "Hello from a Dockerfile, in grey\n"
    assert here.json("builds", "-a", "taken")[0]["status"] == "succeeded"


def test_image_that_is_nowhere_is_refused_in_words(here):
    here.moor("create", "nowhere")
    done = here.run("moor", "git:from-image", "-a", "nowhere", "no-such-image-at-all:1")
    assert done.returncode != 0
    assert "could not be pulled" in done.stdout


def test_saved_image_is_loaded_over_ssh_without_its_names(here, pushed, tmp_path):
    name = f"mooring-test-{secrets.token_hex(4)}"
    image = here.json("releases:info", "-a", "boxed", "1")
    reference = image.get("version", image)["artifact"]["reference"]

    def save(client):
        client.tag(reference, name, tag="2")
        (tmp_path / "saved.tar").write_bytes(b"".join(client.get_image(f"{name}:2")))
        client.remove_image(f"{name}:2")

    asked(save)
    here.moor("create", "loaded")
    with (tmp_path / "saved.tar").open("rb") as saved:
        done = subprocess.run(
            here.ssh_command("git:load-image", "loaded", f"{name}:2"),
            stdin=saved,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    assert here.get("loaded")[1] == "Hello from a Dockerfile, in grey\n"
    tags = asked(lambda client: client.inspect_image(reference))["RepoTags"]
    assert f"{name}:2" not in tags


def test_promoted_image_outlives_the_app_that_it_was_built_for(here):
    for name in ("try", "real"):
        here.moor("create", name)
    folder = here.checkout("try", sample="dockerfile")
    assert here.push(folder).returncode == 0
    here.moor("config:set", "-a", "real", "GREETING=for real")
    told = here.moor("promote", "try", "real")
    assert "app v1: a new version" in told
    assert here.get("real")[1].endswith("for real\n")
    assert len(kept(here, "real")) == 1
    here.moor("apps:destroy", "try", "--confirm", "try")
    here.wait_until(lambda: not kept(here, "try"), "its images are gone")
    here.moor("disk:collect")
    here.moor("ps:restart", "-a", "real")
    assert here.get("real")[1].endswith("for real\n")
    assert here.json("builds", "-a", "real") == []
    here.moor("apps:destroy", "real", "--confirm", "real")


def test_disk_tells_of_images(here, pushed):
    assert here.json("disk", "-a", "boxed")["usage"]["images"] > 0


def test_destroyed_app_leaves_no_image(here, pushed):
    for app in ("boxed", "taken", "loaded", "nowhere"):
        here.run("moor", "apps:destroy", app, "--confirm", app)
    here.wait_until(
        lambda: not any(kept(here, app) for app in ("boxed", "taken", "loaded")), "all images are gone"
    )
    filters = {"label": f"{REALM}={realm(here)}"}
    here.wait_until(
        lambda: asked(lambda client: client.images(filters=filters)) == [], "nothing of ours is left"
    )
