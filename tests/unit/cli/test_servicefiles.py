"""Deploying, planning and checking service files, and uploading, at the local door."""

import json
import subprocess
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from cli.folder import Folder
from controller.deliveries import DeliveryStep, Mark
from controller.names import Address
from controller.types import Code
from tests.factories import slug
from tests.unit.cli.doors import Door, local, ssh
from tests.unit.cli.fake_client import FakeClient

FILE = "redis: {image: company/redis, env: {A: 1}}\n"


class Uploads(FakeClient):
    """Takes archives, and keeps what came."""

    def __init__(self) -> None:
        super().__init__()
        self.uploads = list[tuple[Address, str, int]]()

    async def deploy_archive(
        self, address: Address, content: AsyncIterator[bytes], *, name: str = "", origin: str = ""
    ) -> AsyncIterator[DeliveryStep]:
        size = sum([len(each) async for each in content])
        self.uploads.append((address, name, size))
        self._version(address, commit="5e" * 20, origin=origin, definition=self._get(address).definition)
        yield DeliveryStep(mark=Mark.LINE, text="Python app detected")
        yield DeliveryStep(mark=Mark.DONE, text="")


def here(folder: Path, client: FakeClient | None = None) -> Door:
    return Door(client or FakeClient(), folder=Folder(folder, {"PATH": "/usr/bin:/bin", "HOME": str(folder)}))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "Servicefile").write_text(FILE)
    return tmp_path


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    place = tmp_path / "code"
    (place / "sub").mkdir(parents=True)
    (place / "app.py").write_text("print('hello')\n")
    (place / "sub" / "more.py").write_text("print('more')\n")
    for words in (
        ["init", "-q"],
        ["add", "."],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "x"],
    ):
        subprocess.run(["git", *words], cwd=place, check=True)
    return place


async def test_the_same_again_is_no_change(folder: Path) -> None:
    door = here(folder)
    first = await door("-D", "bare", "deploy", "Servicefile")
    assert first.out.splitlines()[0] == "----> redis v1: a new service"
    assert first.out.splitlines()[-1] == "----> New instance id bare-redis-1-1"
    again = await door("-D", "bare", "deploy", "Servicefile")
    assert (again.status, again.out) == (0, "No changes.\n")
    assert json.loads((await door("-D", "bare", "deploy", "--json")).out)["outcome"]["changes"] == []


async def test_a_plan_shows_the_difference_and_does_nothing(folder: Path) -> None:
    client = FakeClient()
    (folder / "Servicefile").write_text(
        "Env: {BRAND: x}\nredis: {image: company/redis:2, env: {A: 1}, port: 80}\n"
    )
    result = await here(folder, client)("-D", "foo", "deploy", "--plan", "--prune")
    assert result.out.splitlines() == [
        "+ Env.BRAND",
        "+ redis: a new service",
        "    + image: company/redis:2",
        "    + port: 80",
        "    + env.A",
        "- app: destroyed, with all that belongs to it",
    ]
    assert ("foo", "redis") not in client.services_


async def test_nothing_is_planned_for_a_deployment_that_is_not_there(folder: Path) -> None:
    done = await here(folder, FakeClient())("-D", "shop", "deploy", "Servicefile", "--create", "--plan")
    assert done.status == 1
    assert "There is no deployment shop yet" in done.err and "create-deployment shop" in done.err, done.err


async def test_create_makes_the_deployment(folder: Path) -> None:
    client = FakeClient()
    missing = await here(folder, client)("-D", "shop", "deploy", "Servicefile")
    assert (missing.status, missing.err) == (1, " !     There is no app shop.\n")
    done = await here(folder, client)("-D", "shop", "deploy", "Servicefile", "--create")
    assert done.out.startswith("----> Created shop\n----> redis v1: a new service\n")


async def test_errors_are_told_with_their_places(folder: Path) -> None:
    (folder / "Servicefile").write_text("redis:\n    port: x\n    cmd: ''\n")
    for verb in (["-D", "foo", "deploy"], ["validate"]):
        result = await here(folder)(*verb, "Servicefile")
        assert result.status == 1
        assert result.err.splitlines()[0] == (
            " !     Servicefile:2:11: port must be a port number from 1 to 65535, or assign."
        )
        assert result.err.splitlines()[1].startswith(" !     Servicefile:3:10: ")


async def test_a_version_that_is_given_up_fails_the_deploy(folder: Path) -> None:
    client = FakeClient()
    client.broken_rollout = "it crashed"
    result = await here(folder, client)("-D", "bare", "deploy")
    assert (result.status, "bare/redis v1 was given up: it crashed" in result.err) == (1, True)
    assert (await here(folder, client)("-D", "bare", "deploy", "--force", "--detach")).status == 0


async def test_includes_and_variables(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "sub" / "common.yml").write_text("redis: {image: 'company/redis:{TAG}'}\n")
    (folder / "Servicefile").write_text("Includes: sub/common.yml\n")
    shown = await here(folder)("validate", "--print", "--var", "TAG=v7")
    assert shown.out == "redis:\n  image: company/redis:v7\n"
    assert "is no variable" in (await here(folder)("validate", "--var", "TAG")).err


async def test_a_link_out_of_the_folder_is_not_followed(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = tmp_path_factory.mktemp("other")
    (other / "secret.yml").write_text("redis: {image: a}\n")
    (folder / "link.yml").symlink_to(other / "secret.yml")
    (folder / "Servicefile").write_text("Includes: link.yml\n")
    assert "is a link that leads out of the folder" in (await here(folder)("validate")).err
    allowed = await here(folder)("validate", "--include-dir", str(other))
    assert allowed.status == 0


async def test_over_ssh_it_comes_on_standard_input() -> None:
    done = await ssh()("deploy", "bare", "-", typed=FILE)
    assert "----> redis v1: a new service" in done.out
    assert "Over SSH there is no file" in (await ssh()("deploy", "bare", "other.yml", typed=FILE)).err
    assert "files of yours are not" in (await ssh()("deploy", "bare", "-", typed="Includes: a.yml")).err


async def test_the_schema_is_printed() -> None:
    assert json.loads((await local()("validate", "--schema")).out)["title"] == "Mooring service file"


async def test_upload_sends_what_is_committed(repository: Path) -> None:
    client = Uploads()
    await client.ensure_service(Address("foo", "website"))
    done = await here(repository, client)("-D", "foo", "upload", "website", "--git", ".")
    assert done.out == "----> Deploying a new version\n       Python app detected\n"
    ((address, name, size),) = client.uploads
    assert (address, size > 0) == (Address("foo", "website"), True)
    assert name.startswith("git archive of ")
    await here(repository, client)("-D", "foo", "upload", "website", "--git", ".:sub")
    assert client.uploads[1][1].endswith(":sub")
    assert client.uploads[1][2] > 0


async def test_upload_of_no_repository_is_told(tmp_path: Path, repository: Path) -> None:
    door = here(tmp_path, Uploads())
    assert "is no git repository" in (await door("-D", "foo", "upload", "website")).err
    assert (
        "There is no folder nowhere" in (await door("-D", "foo", "upload", "website", "--git", "nowhere")).err
    )
    missing = await here(repository, Uploads())("-D", "foo", "upload", "website", "--git", ".:nosuch")
    assert (missing.status, "git archive HEAD:nosuch failed" in missing.err) == (1, True)


async def test_set_service_with_git_holds_adds_the_remote_and_uploads(repository: Path) -> None:
    client = Uploads()
    done = await here(repository, client)("-D", "bare", "set-service", "website", '{"git": "."}')
    assert done.out.splitlines() == [
        "----> Held: no code yet",
        "----> Adding remote deploy to repository '.'",
        "----> Uploading",
        "       Python app detected",
    ]
    remote = Folder(repository, {"PATH": "/usr/bin:/bin"}).remote_app()
    assert remote == "bare/website"
    again = await here(repository, Uploads())(
        "-D", "bare", "set-service", "website", '{"git": "."}', "--json"
    )
    json.loads(again.out)


async def test_a_held_service_without_a_repository_says_how_to_go_on(tmp_path: Path) -> None:
    result = await here(tmp_path, Uploads())("-D", "bare", "set-service", "website", '{"git": "."}')
    assert result.status == 0
    assert "Then: moor -D bare upload website --git ." in result.err


async def test_a_file_brings_its_code_along(repository: Path) -> None:
    client = Uploads()
    (repository / "Servicefile").write_text("website: {git: .}\n")
    door = here(repository.parent, client)
    cast(Any, client).held = True
    result = await door("-D", "bare", "deploy", "code/Servicefile")
    assert result.out.splitlines()[:2] == ["----> website: a new service, held", "       + git: ."]
    assert [str(each) for each, _, _ in client.uploads] == ["bare/website"]


def committed(repository: Path, name: str = "app.py", text: str = "print('news')\n") -> None:
    (repository / name).write_text(text)
    subprocess.run(["git", "add", "-f", name], cwd=repository, check=True)
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", *who, "commit", "-qm", "news"], cwd=repository, check=True)


async def deployed(client: Uploads, repository: Path, git: str = ".") -> Door:
    """The repository's code is deployed by a service file."""
    (repository / "Servicefile").write_text(f"website: {{git: '{git}'}}\n")
    door = here(repository, client)
    await door("-D", "bare", "deploy")
    assert len(client.uploads) == 1
    return door


async def test_a_file_brings_newer_commits_along_and_only_those(repository: Path) -> None:
    client = Uploads()
    door = await deployed(client, repository)
    assert (await door("-D", "bare", "deploy")).out == "No changes.\n"
    committed(repository)
    plan = await door("-D", "bare", "deploy", "--plan")
    assert "    ~ code: " in plan.out
    assert "~ website: newer code is uploaded" in plan.out
    assert len(client.uploads) == 1
    lines = (await door("-D", "bare", "deploy")).out.splitlines()
    assert (lines[0], lines[2]) == ("----> website: newer code", "----> Uploading")
    assert len(client.uploads) == 2
    assert (await door("-D", "bare", "deploy")).out == "No changes.\n"


async def test_what_a_held_service_waits_with_is_brought_up_to_date(repository: Path) -> None:
    client = Uploads()
    door = await deployed(client, repository)
    address = Address("bare", "website")
    service = client._get(address)
    sent = client.versions_["bare", "website"][-1]
    code = Code(artifact=slug("a" * 64), commit=sent.commit, origin=sent.origin)
    client.services_["bare", "website"] = replace(service, target=None, current=None, code=code)
    assert (await door("-D", "bare", "deploy")).out == "No changes.\n"
    committed(repository)
    assert "~ website: newer code is uploaded" in (await door("-D", "bare", "deploy", "--plan")).out
    await door("-D", "bare", "deploy")
    assert len(client.uploads) == 2


async def test_a_commit_that_was_pushed_is_no_news(repository: Path) -> None:
    client = Uploads()
    door = await deployed(client, repository)
    committed(repository)
    head = Folder(repository, {"PATH": "/usr/bin:/bin"}).commit()
    address = Address("bare", "website")
    client._version(address, commit=head, definition=client._get(address).definition)
    assert (await door("-D", "bare", "deploy")).out == "No changes.\n"
    assert len(client.uploads) == 1


async def test_what_is_outside_of_the_folder_is_no_news(repository: Path) -> None:
    client = Uploads()
    door = await deployed(client, repository, ".:sub")
    committed(repository)
    assert (await door("-D", "bare", "deploy")).out == "No changes.\n"
    committed(repository, "sub/more.py")
    await door("-D", "bare", "deploy")
    assert client.uploads[1][1].endswith(":sub")


async def test_an_older_commit_does_not_go_over_what_is_deployed(repository: Path) -> None:
    client = Uploads()
    committed(repository)
    door = await deployed(client, repository)
    subprocess.run(["git", "reset", "-q", "--hard", "HEAD~1"], cwd=repository, check=True)
    (repository / "Servicefile").write_text("website: {git: .}\n")
    result = await door("-D", "bare", "deploy")
    assert result.out == "No changes.\n"
    assert "is ahead of what is committed in ." in result.err
    assert len(client.uploads) == 1


async def test_code_that_never_came_is_sent_by_the_next_deploy(repository: Path) -> None:
    client = Uploads()
    door = await deployed(client, repository)
    address = Address("bare", "website")
    service = client._get(address)
    client.services_["bare", "website"] = replace(service, target=None, current=None, latest=0, code=None)
    client.versions_.clear()
    assert "~ website: its first code is uploaded" in (await door("-D", "bare", "deploy", "--plan")).out
    detached = await door("-D", "bare", "deploy", "--detach")
    assert "what is committed is not sent with --detach" in detached.err
    lines = (await door("-D", "bare", "deploy")).out.splitlines()
    assert lines[0] == "----> website: its first code"
    assert lines[1].startswith("       ~ code: none -> ")
    assert "----> Uploading" in lines
    assert len(client.uploads) == 2


async def test_with_detach_code_of_a_new_service_is_told_and_not_sent(repository: Path) -> None:
    client = Uploads()
    (repository / "Servicefile").write_text("website: {git: .}\n")
    result = await here(repository, client)("-D", "bare", "deploy", "--detach")
    assert "bare/website: its code is not sent with --detach" in result.err
    assert not client.uploads


async def test_with_detach_newer_code_is_told_and_not_sent(repository: Path) -> None:
    client = Uploads()
    door = await deployed(client, repository)
    committed(repository)
    result = await door("-D", "bare", "deploy", "--detach")
    assert "what is committed is not sent with --detach" in result.err
    assert len(client.uploads) == 1


async def test_what_lies_beside_a_file_is_read_before_anything_is_sent(repository: Path) -> None:
    client = Uploads()
    (repository / "Servicefile").write_text("website: {git: '.:sub'}\n")
    door = here(repository, client)
    (repository / "sub" / "app.json").write_text('{\n"formation": {"web": {"quantity": "two"}}}')
    for verb in (["-D", "bare", "deploy"], ["validate"]):
        result = await door(*verb)
        told = " !     sub/app.json:2:23: formation.web.quantity must be a whole number from 0 to 100.\n"
        assert (result.status, result.err) == (1, told)
    (repository / "sub" / "app.json").write_text('{"addons": ["postgres"]}')
    (repository / "sub" / "Procfile").write_text("web python app.py\n")
    assert "sub/Procfile: Procfile line 1: " in (await door("validate")).err
    (repository / "sub" / "Procfile").write_text("web: python app.py\n")
    result = await door("validate")
    assert (result.status, "app.json:1:2: addons are not made" in result.err) == (0, True)
    assert client.services_.get(("bare", "website")) is None


TEMPLATE = "Vars: {TAG: v1, SITE: }\nweb: {image: 'company/web:{TAG}', env: {AT: '{SITE}'}}\n"


async def test_values_of_a_template_come_from_file_server_and_command_line(folder: Path) -> None:
    client = FakeClient()
    door = here(folder, client)
    (folder / "Servicefile").write_text(TEMPLATE)
    missing = await door("-D", "bare", "deploy")
    assert missing.status == 1
    assert missing.err.startswith(" !     Servicefile:1:17: The variable SITE has no value here: ")
    assert (await door("-D", "bare", "vars:set", "SITE=staging", "TAG=v2")).status == 0

    def deployed() -> tuple[str | None, str]:
        definition = client.services_["bare", "web"].definition
        return definition.image, definition.env["AT"]

    await door("-D", "bare", "deploy")
    assert deployed() == ("company/web:v2", "staging")
    (folder / "values.yml").write_text("TAG: 3\n")
    await door("-D", "bare", "deploy", "--values", "values.yml")
    assert deployed() == ("company/web:3", "staging")
    await door("-D", "bare", "deploy", "--values", "values.yml", "--var", "TAG=v4")
    assert deployed() == ("company/web:v4", "staging")
    await door("-D", "bare", "vars:unset", "TAG")
    await door("-D", "bare", "deploy")
    assert deployed() == ("company/web:v1", "staging")


async def test_a_file_of_values_that_is_none_is_told(folder: Path) -> None:
    (folder / "values.yml").write_text("TAG:\nPORT: 1\nA: {x: y}\n")
    result = await here(folder)("validate", "--values", "values.yml")
    assert [line[:20] for line in result.err.splitlines()] == [
        " !     values.yml:1:5"[:20],
        " !     values.yml:2:1"[:20],
        " !     values.yml:3:4"[:20],
    ]
    assert "Over SSH there is no file" in (await ssh()("deploy", "foo", "-", "--values", "a.yml")).err
    assert "is given by the server" in (await local()("-D", "foo", "vars:set", "DEPLOY_ID=x")).err


async def test_infrastructure_is_a_file_of_deployments(folder: Path) -> None:
    client = FakeClient()
    (folder / "infra.yml").write_text("bare: {scale: {redis: 2}, domains: {r.example.org: redis}}\n")
    result = await here(folder, client)("-D", "bare", "deploy", "--infra", "infra.yml", "--plan")
    assert result.out.splitlines() == [
        "+ redis: a new service",
        "    + image: company/redis",
        "    + env.A",
        "    + scale.web: 2",
        "    + domain r.example.org",
    ]
    other = await here(folder, client)("-D", "foo", "deploy", "--infra", "infra.yml", "--plan")
    assert other.err == " !     infra.yml:1:1: It says nothing of foo. It knows bare.\n"
    assert "Over SSH there is no file" in (await ssh()("deploy", "foo", "-", "--infra", "a", typed=FILE)).err


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "a: {image: x, require: b}\nb: {image: x, require: a}\n",
            "deploy refuses it: a requires b requires a",
        ),
        (
            "a: {image: x}\nExec: {T: {service: zz, cmd: x}}\n",
            "deploy refuses it: T: zz is no service of the file",
        ),
        (
            "a: {image: x, require: nosuch}\n",
            "a waits for nosuch (there is no service or resource of that name",
        ),
    ],
)
async def test_what_shows_only_in_all_of_a_file_is_told_by_validate(
    folder: Path, text: str, told: str
) -> None:
    (folder / "Servicefile").write_text(text)
    result = await here(folder)("validate", "Servicefile")
    assert result.status == 0
    assert f"Where there is nothing yet, {told}" in result.err


async def test_an_unknown_key_of_set_service_is_told() -> None:
    result = await Door(FakeClient())("-D", "foo", "set-service", "redis", "{imagee: 1}")
    assert "imagee is no key that is known here. Did you mean image?" in result.err


async def test_upload_makes_no_service_of_a_slip(repository: Path) -> None:
    client = Uploads()
    door = await deployed(client, repository)
    result = await door("-D", "bare", "upload", "webiste", "--git", ".")
    assert result.status == 1
    assert "bare has no service webiste. Did you mean website?" in result.err
    assert len(client.uploads) == 1
