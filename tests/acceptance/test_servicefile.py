"""The transcripts of contrib/servicefile.md, run as they stand there; and what one file makes of a server."""

import io
import re
import shlex
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from docker import APIClient

from contrib.installation import ROOT, Installation
from tests.contracts.engine import debian_image, engine_url

pytestmark = [pytest.mark.real, pytest.mark.acceptance]

PAGE = (ROOT / "contrib" / "servicefile.md").read_text()
BASE = "debian:bookworm-slim"
IMAGES = ("company/redis", "rock77/redis", "rock77/website")
SERVER = """#!/usr/bin/perl
use IO::Socket::INET;
$SIG{TERM} = sub { exit 0 };
my $door = IO::Socket::INET->new(LocalPort => $ENV{PORT} || 8000, Listen => 50, ReuseAddr => 1) or die;
while (my $who = $door->accept) {
    while (defined(my $line = <$who>)) { last if $line =~ /^\\r?$/ }
    my $body = "$ENV{BRANDING} $ENV{SDF}\\n";
    print $who "HTTP/1.0 200 OK\\r\\nContent-Length: ", length $body, "\\r\\n\\r\\n$body";
    close $who;
}
"""


def transcripts(kind: str) -> Iterator[tuple[str, list[str]]]:
    """Each command of the page's blocks of that kind, with the lines that it prints."""
    for block in re.findall(rf"```console {kind}\n(.*?)```", PAGE, re.DOTALL):
        for part in block.split("$ ")[1:]:
            command, *lines = part.splitlines()
            yield command, lines


def fits(expected: list[str], printed: list[str]) -> bool:
    """`...` stands for any lines."""
    if not expected:
        return not printed
    if expected[0] == "...":
        return any(fits(expected[1:], printed[at:]) for at in range(len(printed) + 1))
    return bool(printed) and expected[0].rstrip() == printed[0].rstrip() and fits(expected[1:], printed[1:])


def play(here: Installation, kind: str, folder: Path) -> None:
    for command, expected in transcripts(kind):
        done = here.run(*shlex.split(command), folder=folder)
        printed = [line for line in done.stdout.splitlines() if not line.startswith(" !     ")]
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{here.last_lines()}"
        assert fits(expected, printed), f"{command}\n{done.stdout}"


@pytest.fixture(scope="module")
def containers() -> Iterator[Installation]:
    """A server whose instances are containers, and the images of the page."""
    url = engine_url()
    client = APIClient(base_url=url, version="auto", timeout=120)
    debian_image(url)
    build_image(client)
    here = Installation(
        settings={"backend": "docker", "builder": "memory", "docker-host": url, "stop-grace": "5"}
    )
    try:
        here.start()
        yield here
    finally:
        here.run("moor", "apps:destroy", "my-site", "--force")
        here.run("moor", "apps:destroy", "foo", "--force")
        here.wait_until(
            lambda: not client.containers(all=True, filters={"name": "foo-redis"}), "its containers are gone"
        )
        here.remove()
        for each in IMAGES:
            client.remove_image(each, force=True)


def build_image(client: APIClient) -> None:
    context = io.BytesIO()
    recipe = f"FROM {BASE}\nCOPY runserver /bin/runserver\nEXPOSE 8000\nCMD /bin/runserver\n"
    with tarfile.open(fileobj=context, mode="w") as archive:
        for name, text, mode in (("Dockerfile", recipe, 0o644), ("runserver", SERVER, 0o755)):
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(text.encode()), mode
            archive.addfile(member, io.BytesIO(text.encode()))
    context.seek(0)
    steps = list(client.build(fileobj=context, custom_context=True, tag=IMAGES[0], rm=True, decode=True))
    assert "error" not in steps[-1], steps
    for each in IMAGES[1:]:
        client.tag(IMAGES[0], each)


def test_the_seeds_images(containers: Installation, tmp_path: Path) -> None:
    (tmp_path / "Servicefile").write_text(re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)[0])
    play(containers, "images", tmp_path)
    assert containers.get("website-my-site") == (200, "Company Ltd. \n")


def test_one_file_becomes_another_deployment(containers: Installation, tmp_path: Path) -> None:
    template = "Vars: {BRANDING: }\nwebsite: {image: rock77/website, env: {BRANDING: '{BRANDING}'}}\n"
    (tmp_path / "Template").write_text(template)
    (tmp_path / "Infrafile").write_text(re.findall(r"```yaml infra\n(.*?)```", PAGE, re.DOTALL)[0])
    try:
        play(containers, "values", tmp_path)
        assert containers.get("try.example") == (200, "Staging \n")
    finally:
        containers.run("moor", "apps:destroy", "staging", "--force")


def test_one_value_makes_one_version(containers: Installation, tmp_path: Path) -> None:
    text = (
        "Vars: {SITE: shop}\nEnv: {BRANDING: Shop}\nDomains: {'{SITE}.example.localhost': b}\n"
        "a: {image: company/redis, port: 8123, entrypoint: /usr/bin/perl, cmd: /bin/runserver}\n"
        "b: {image: company/redis, env: {SDF: '1'}}\n"
    )
    file = tmp_path / "Servicefile"
    file.write_text(text)
    try:
        first: Any = containers.json("-D", "shop", "deploy", str(file), "--create")
        assert [each["version"] for each in first["outcome"]["changes"]] == [1, 1]
        assert containers.get("shop.example") == (200, "Shop 1\n")
        file.write_text(text.replace("'1'", "'2'"))
        plan: Any = containers.json("-D", "shop", "deploy", str(file), "--plan")
        assert [each["service"] for each in plan["outcome"]["changes"]] == ["b"]
        second: Any = containers.json("-D", "shop", "deploy", str(file))
        assert [(each["service"], each["version"]) for each in second["outcome"]["changes"]] == [("b", 2)]
        assert containers.get("shop.example") == (200, "Shop 2\n")
        file.write_text("b: {image: company/redis, env: {SDF: '2'}}\n")
        assert "a: destroyed" in containers.run("moor", "-D", "shop", "deploy", str(file), "--prune").stdout
        assert "No changes." in containers.run("moor", "-D", "shop", "deploy", str(file), "--prune").stdout
        assert containers.get("shop.example")[0] == 404
    finally:
        containers.run("moor", "apps:destroy", "shop", "--force")


def test_the_seeds_code(system: Installation) -> None:
    system.moor("create", "code")
    folder = system.checkout("code")
    system.run("git", "remote", "remove", "deploy", folder=folder, check=True)
    (folder / "Servicefile").write_text("website: {git: .}\n")
    play(system, "code", folder)
    assert system.get("website-foo")[0] == 200


def test_a_push_goes_on_from_what_was_uploaded(system: Installation) -> None:
    system.moor("create", "both")
    folder = system.checkout("both")
    system.run("git", "remote", "remove", "deploy", folder=folder, check=True)
    (folder / "Servicefile").write_text("website: {git: .}\n")
    first = system.run("moor", "-D", "both", "deploy", folder=folder)
    assert first.returncode == 0, first.stdout
    same = system.run("git", "push", "deploy", "HEAD:master", folder=folder)
    assert same.returncode == 0, same.stdout
    for text in ("pushed", "uploaded", "pushed again"):
        system.commit(folder, text, **{"note.txt": text})
        if text == "uploaded":
            done = system.run("moor", "-D", "both", "deploy", folder=folder)
            assert "website: newer code" in done.stdout
        else:
            done = system.run("git", "push", "deploy", "HEAD:master", folder=folder)
            assert "Other history" not in done.stdout
        assert done.returncode == 0, done.stdout
    system.commit(folder, "ahead", **{"note.txt": "ahead"})
    assert system.run("moor", "-D", "both", "upload", "website", "--git", ".", folder=folder).returncode == 0
    system.run("git", "reset", "-q", "--hard", "HEAD~1", folder=folder, check=True)
    system.commit(folder, "aside", **{"note.txt": "aside"})
    refused = system.run("git", "push", "deploy", "HEAD:master", folder=folder)
    assert refused.returncode == 1
    assert "which this one does not build upon" in refused.stdout
    assert system.run("moor", "-D", "both", "upload", "website", "--git", ".", folder=folder).returncode == 0
    system.moor("apps:destroy", "both", "--force")


def test_what_was_refused_once_comes_with_the_next_deploy(system: Installation) -> None:
    folder = system.checkout("wants")
    system.commit(folder, "It wants a name", **{"app.json": '{"env": {"NEED": {"required": true}}}'})
    (folder / "Servicefile").write_text("web: {git: .}\n")
    refused = system.run("moor", "-D", "wants", "deploy", "--create", folder=folder)
    assert "NEED is required" in refused.stdout
    system.moor("config:set", "-a", "wants/web", "NEED=1")
    done = system.run("moor", "-D", "wants", "deploy", folder=folder)
    assert "web: its first code" in done.stdout
    assert done.returncode == 0, done.stdout
    assert system.get("web-wants")[0] == 200
    again = system.run("moor", "-D", "wants", "deploy", folder=folder)
    assert again.stdout.strip().endswith("No changes."), again.stdout
    system.moor("apps:destroy", "wants", "--force")


def test_commands_that_end_at_once_are_seen_to_end(containers: Installation, tmp_path: Path) -> None:
    text = (
        "Exec: {A: {service: w, cmd: 'true'}, B: {service: w, cmd: 'true'}}\n"
        "w: {image: company/redis, require: [A, B], predeploy: 'true', postdeploy: 'true'}\n"
    )
    (tmp_path / "Servicefile").write_text(text)
    for number in range(4):
        done = containers.run(
            "moor", "-D", f"quick{number}", "deploy", "--create", folder=tmp_path, timeout=60
        )
        assert done.returncode == 0, done.stdout
        assert "New instance id" in done.stdout
        containers.moor("apps:destroy", f"quick{number}", "--force")


def test_a_schedule_comes_and_goes_with_a_file_and_makes_no_version(system: Installation) -> None:
    system.moor("create", "saved")
    folder = system.checkout("saved")
    file = folder / "Servicefile"

    def deploy(volume: str, *words: str) -> str:
        file.write_text(f"app: {{git: ., volumes: {{data: {volume}}}}}\n")
        done = system.run("moor", "-D", "saved", "deploy", "Servicefile", *words, folder=folder, check=True)
        return done.stdout

    def schedules() -> list[str | None]:
        return [
            each["backup"] and each["backup"]["schedule"] for each in system.json("volumes", "-a", "saved")
        ]

    planned = '{path: /srv/data, backup: "0 3 * * *"}'
    assert '+ backup.data: at "0 3 * * *" (UTC); 7 are kept' in deploy(planned)
    assert schedules() == ["0 3 * * *"]
    system.kill()
    system.start()
    assert "No changes." in deploy(planned)
    later = planned.replace("0 3", "0 4")
    told = '~ backup.data: at "0 3 * * *" (UTC); 7 are kept -> at "0 4 * * *" (UTC); 7 are kept'
    assert told in deploy(later, "--plan") and schedules() == ["0 3 * * *"]
    assert told in deploy(later) and schedules() == ["0 4 * * *"]
    system.moor("volumes:schedule", "-a", "saved", "data", "0 5 * * *", "--keep", "2")
    assert "No changes." in deploy("/srv/data"), "what people set is no business of the file"
    assert '-> at "0 4 * * *"' in deploy(later), "what the file says is"
    assert "- backup.data" in deploy("/srv/data") and schedules() == [None]
    assert len(system.json("releases", "-a", "saved")) == 1


def test_what_serves_in_staging_is_promoted_and_outlives_it(system: Installation) -> None:
    system.moor("create", "staging")
    folder = system.checkout("staging")
    for name in ("staging", "production"):
        (folder / "Servicefile").write_text(f"app: {{git: ., env: {{GREETING: {name}}}}}\n")
        system.run("moor", "-D", name, "deploy", "Servicefile", "--create", folder=folder, check=True)
    system.commit(folder, "newer", VERSION="version 2\n")
    system.run("git", "push", "-q", "-f", "deploy", "master", folder=folder, check=True)
    assert system.get("production") == (200, "production\nThis is version 1.\n")
    builds = len(system.json("builds", "-a", "production"))
    assert "~ code: " in system.moor("promote", "staging", "production", "--plan")
    system.moor("promote", "staging", "production")
    assert system.get("production") == (200, "production\nThis is version 2.\n")
    assert len(system.json("builds", "-a", "production")) == builds
    assert "promoted from staging v" in system.moor("releases", "-a", "production")
    assert "No changes." in system.moor("promote", "staging", "production")
    system.moor("apps:destroy", "staging", "--force")
    system.moor("ps:restart", "-a", "production")
    assert system.get("production") == (200, "production\nThis is version 2.\n")


def test_a_domain_asks_for_the_password_of_its_file(system: Installation) -> None:
    system.moor("create", "door")
    folder = system.checkout("door")
    text = "Domains: {door.example.localhost: {http: app, auth: {internal: sesame}}}\napp: {git: .}\n"
    file = folder / "Servicefile"
    file.write_text(text)
    deploy = ("moor", "-D", "door", "deploy", "Servicefile")
    system.run(*deploy, folder=folder, check=True)

    def status(password: str) -> int:
        with httpx.Client(trust_env=False, auth=httpx.DigestAuth("internal", password)) as client:
            host = {"Host": "door.example.localhost"}
            return client.get(f"http://127.0.0.1:{system.http}/", headers=host).status_code

    assert system.get("door.example")[0] == 401
    assert (status("sesame"), status("other"), system.get("door")[0]) == (200, 401, 200)
    assert "No changes." in system.run(*deploy, folder=folder, check=True).stdout
    rows: Any = system.json("domains", "-a", "door")
    assert {each["domain"]: each["password"] for each in rows} == {
        "door.localhost": "",
        "door.example.localhost": "digest",
    }
    file.write_text(text.replace("sesame", "melon"))
    planned = system.run(*deploy, "--plan", folder=folder, check=True).stdout
    assert "domain door.example.localhost: asks for another password" in planned
    told = system.run(*deploy, folder=folder, check=True).stdout
    system.wait_until(lambda: status("melon") == 200, "the new password is asked for")
    assert status("sesame") == 401
    versions: Any = system.json("releases", "-a", "door")
    assert len(versions) == 1
    kept = [each.read_bytes() for each in system.data.iterdir() if each.is_file()]
    assert any(b"door.example.localhost" in each for each in kept)
    for place in (planned, told, *kept, system.last_lines(2000)):
        assert not any(word in str(place) for word in ("sesame", "melon"))
