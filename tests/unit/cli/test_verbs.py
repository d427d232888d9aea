"""What each verb prints, at both doors, and that its JSON is one document."""

import inspect
import json
import os
from collections.abc import Callable
from importlib.metadata import version as installed
from pathlib import Path

import pytest

from cli.main import load
from cli.verbs import ALIASES, VERBS
from controller.client import Client
from tests.unit.cli.doors import Door, both, local, ssh
from tests.unit.cli.fake_client import FakeClient

GOLDEN = Path(__file__).parent / "golden"

CASES = {
    "apps": ["apps"],
    "apps:create": ["apps:create", "new"],
    "apps:destroy": ["apps:destroy", "foo", "--force"],
    "apps:info": ["apps:info", "-a", "foo"],
    "list": ["list"],
    "create-deployment": ["create-deployment", "new"],
    "deploy": ["deploy", "-a", "foo", "-"],
    "validate": ["validate", "-"],
    "set-service": ["set-service", "-a", "bare", "company/redis"],
    "git:set": ["git:set", "-a", "foo", "deploy-branch", "production"],
    "git:from-archive": ["git:from-archive", "-a", "foo", "https://example.org/app.zip"],
    "git:sync": ["git:sync", "-a", "foo", "https://example.org/app.git", "main", "--build"],
    "git:public-key": ["git:public-key"],
    "git:allow-host": ["git:allow-host", "git.example.org"],
    "git:from-image": ["git:from-image", "-a", "foo", "registry.example.org/foo:1.2"],
    "builder": ["builder", "-a", "foo"],
    "builder:set": ["builder:set", "-a", "foo", "selected", "dockerfile"],
    "builder:args": ["builder:args", "-a", "foo", "COLOR=blue", "--unset", "SIZE"],
    "builder:secrets": ["builder:secrets", "-a", "foo", "NPM_TOKEN"],
    "buildpacks": ["buildpacks", "-a", "foo"],
    "buildpacks:set": ["buildpacks:set", "-a", "foo", "nodejs", "python"],
    "buildpacks:add": ["buildpacks:add", "-a", "foo", "--index", "1", "nodejs"],
    "buildpacks:remove": ["buildpacks:remove", "-a", "foo", "nodejs"],
    "buildpacks:clear": ["buildpacks:clear", "-a", "foo"],
    "buildpacks:detect": ["buildpacks:detect", "-a", "foo"],
    "config": ["config", "-a", "foo"],
    "generate": ["generate", "-a", "foo"],
    "generate:renew": ["generate:renew", "-a", "foo", "Secret"],
    "config:get": ["config:get", "-a", "foo", "GREETING"],
    "config:export": ["config:export", "-a", "foo"],
    "config:import": ["config:import", "-a", "foo", "--replace"],
    "config:apply": ["config:apply", "-a", "foo"],
    "config:set": ["config:set", "-a", "foo", "GREETING=hi", "EMPTY="],
    "config:unset": ["config:unset", "-a", "foo", "COLOR"],
    "ps": ["ps", "-a", "foo"],
    "ps:scale": ["ps:scale", "-a", "foo", "web=3", "worker-1"],
    "ps:restart": ["ps:restart", "-a", "foo"],
    "ps:stop": ["ps:stop", "-a", "foo"],
    "ps:start": ["ps:start", "-a", "foo"],
    "limits": ["limits", "-a", "foo"],
    "limits:set": ["limits:set", "-a", "foo", "worker", "--memory", "2G", "--cpu", "0.5"],
    "limits:unset": ["limits:unset", "-a", "foo"],
    "vars": ["vars", "-a", "foo"],
    "vars:set": ["vars:set", "-a", "foo", "TAG=v2", "HOST_NAME=a b"],
    "vars:unset": ["vars:unset", "-a", "foo", "TAG"],
    "maintenance": ["maintenance", "-a", "foo"],
    "maintenance:on": ["maintenance:on", "-a", "foo", "--page", "-"],
    "maintenance:off": ["maintenance:off", "-a", "foo"],
    "logs": ["logs", "-a", "foo", "-t"],
    "run:detached": ["run:detached", "-a", "foo", "rake", "--trace", "db:seed"],
    "run:list": ["run:list", "-a", "foo"],
    "run:logs": ["run:logs", "-a", "foo", "run.1"],
    "cron": ["cron", "-a", "foo"],
    "resources": ["resources", "-a", "foo"],
    "resources:create": ["resources:create", "-a", "foo", "postgres", "db", "--detach"],
    "resources:info": ["resources:info", "-a", "foo", "db"],
    "resources:attach": ["resources:attach", "-a", "foo", "db", "--as", "REPORTS"],
    "resources:detach": ["resources:detach", "-a", "foo", "db"],
    "resources:backup": ["resources:backup", "-a", "foo", "db"],
    "resources:backups": ["resources:backups", "-a", "foo", "db"],
    "resources:schedule": [
        "resources:schedule",
        "-a",
        "foo",
        "db",
        "0 3 * * *",
        "--keep",
        "5",
        "--days",
        "30",
    ],
    "resources:restore": ["resources:restore", "-a", "foo", "db"],
    "resources:destroy": ["resources:destroy", "-a", "foo", "db", "--confirm", "db"],
    "volumes": ["volumes", "-a", "foo"],
    "volumes:backup": ["volumes:backup", "-a", "foo", "data"],
    "volumes:backups": ["volumes:backups", "-a", "foo", "data"],
    "volumes:schedule": [
        "volumes:schedule",
        "-a",
        "foo/redis",
        "data",
        "0 3 * * *",
        "--keep",
        "5",
        "--days",
        "30",
    ],
    "volumes:restore": ["volumes:restore", "-a", "foo", "data", "20260101T000000"],
    "volumes:destroy": ["volumes:destroy", "-a", "foo", "old", "--confirm", "old"],
    "exec": ["exec", "-a", "foo"],
    "exec:retry": ["exec:retry", "-a", "foo", "Init"],
    "run:stop": ["run:stop", "-a", "foo", "run.1"],
    "releases:output": ["releases:output", "-a", "foo", "v2"],
    "releases": ["releases", "-a", "foo"],
    "releases:info": ["releases:info", "-a", "foo", "v2"],
    "promote": ["promote", "foo", "bare", "app"],
    "rollback": ["rollback", "-a", "foo", "v1"],
    "deploys": ["deploys"],
    "deploy:cancel": ["deploy:cancel", "-a", "foo"],
    "deploy:pause": ["deploy:pause", "-a", "foo"],
    "deploy:resume": ["deploy:resume", "-a", "foo"],
    "deploy:promote": ["deploy:promote", "-a", "foo"],
    "deploy:abort": ["deploy:abort", "-a", "foo", "--reason", "errors went up"],
    "builds": ["builds", "-a", "foo"],
    "builds:info": ["builds:info", "-a", "foo"],
    "builds:output": ["builds:output", "-a", "foo", "b2"],
    "builds:cancel": ["builds:cancel", "-a", "foo"],
    "disk": ["disk"],
    "disk:collect": ["disk:collect"],
    "repo:purge-cache": ["repo:purge-cache", "-a", "foo"],
    "domains": ["domains", "-a", "foo"],
    "domains:add": ["domains:add", "-a", "foo", "WWW.example.org"],
    "domains:remove": ["domains:remove", "-a", "foo", "www.example.org"],
    "ssh-keys": ["ssh-keys"],
    "ssh-keys:add": ["ssh-keys:add", "desk"],
    "ssh-keys:remove": ["ssh-keys:remove", "laptop"],
    "users": ["users"],
    "users:create": ["users:create", "robin", "--admin"],
    "users:remove": ["users:remove", "bob"],
    "access": ["access", "-a", "foo"],
    "access:add": ["access:add", "-a", "foo", "bob", "--right", "operate"],
    "access:remove": ["access:remove", "-a", "foo", "bob"],
    "tokens": ["tokens"],
    "tokens:create": ["tokens:create"],
    "tokens:remove": ["tokens:remove", "t1"],
    "whoami": ["whoami"],
    "status": ["status"],
    "events": ["events"],
    "plugins": ["plugins"],
    "plugins:verbs": ["plugins:verbs"],
    "plugins:resume": ["plugins:resume", "notify"],
    "plugins:trace": ["plugins:trace", "on"],
    "secrets:rotate": ["secrets:rotate"],
    "help": ["help", "ps:scale"],
}
OTHER = {
    "version",
    "run",
    "enter",
    "git:load-image",
    "resources:export",
    "resources:import",
    "volumes:export",
    "volumes:import",
}
LOCAL = {
    "upload",
    "server",
    "server:stop",
    "store:copy",
    "login",
    "remote:add",
    "completion",
    "completion:words",
}


SERVICEFILE = """\
Env:
    BRANDING: Company Ltd.
app:
    git: shop
    env: {COLOR: red}
redis:
    image: company/redis
    port: 6379
"""


def typed(verb: str) -> str:
    if verb in ("deploy", "validate"):
        return SERVICEFILE
    return "GREETING=hi\nKEY='two\nlines'\n" if verb == "config:import" else "ssh-ed25519 AAAA"


def client_for(verb: str) -> FakeClient:
    client = FakeClient()
    if verb == "builds:cancel":
        client.add_build()
    return client


def test_every_verb_has_a_case() -> None:
    assert set(CASES) | LOCAL | OTHER == set(VERBS)


@pytest.mark.parametrize("verb", CASES)
async def test_verb_prints_what_it_always_printed(verb: str) -> None:
    """With MOOR_WRITE_GOLDEN=1 the kept outputs are written anew, to be read in the diff."""
    local_words, ssh_words = both(CASES[verb])
    here = await local(client_for(verb), terminal=True)(*local_words, typed=typed(verb))
    there = await ssh(client_for(verb))(*ssh_words, typed=typed(verb))
    told = f"$ moor {' '.join(local_words)}\n{here.out}{here.err}\n"
    told += f"$ ssh deploy@HOST {' '.join(ssh_words)}\n{there.out}{there.err}"
    file = GOLDEN / f"{verb.replace(':', '_')}.txt"
    if os.environ.get("MOOR_WRITE_GOLDEN"):
        file.parent.mkdir(exist_ok=True)
        file.write_text(told)
    assert (here.status, there.status) == (0, 0)
    assert told == file.read_text()


@pytest.mark.parametrize("verb", CASES)
async def test_json_is_one_document(verb: str) -> None:
    name, *words = both(CASES[verb])[1]
    result = await ssh(client_for(verb))(name, "--json", *words, typed=typed(verb))
    assert (result.status, result.err) == (0, "")
    json.loads(result.out)


async def test_version_tells_both_where_they_differ() -> None:
    client = FakeClient()
    client.server_version = "9.9.9"
    result = await local(client)("version")
    assert result.out.splitlines() == [f"mooring {installed('mooring')}", "server  9.9.9"]


@pytest.mark.parametrize("verb", sorted(LOCAL))
async def test_local_verbs_say_so_over_ssh(verb: str) -> None:
    words = {
        "login": ["http://x"],
        "remote:add": ["foo"],
        "completion": ["bash"],
        "upload": ["foo", "website"],
        "store:copy": ["--from", "sqlite", "--to", "etcd"],
    }.get(verb, [])
    result = await ssh()(verb, *words)
    assert result.status == 2
    assert "works on your own machine only" in result.err


@pytest.mark.parametrize("verb", VERBS)
async def test_every_verb_has_help_with_an_example_that_is_its_own(verb: str) -> None:
    result = await local()("help", verb)
    assert VERBS[verb].summary in result.out
    assert f"moor {verb}" in result.out or f"-D foo {verb}" in result.out
    command = load(verb)
    assert command is not None
    assert command.example


@pytest.mark.parametrize("alias", ALIASES)
def test_aliases_lead_to_a_verb_and_hide_none(alias: str) -> None:
    assert alias not in VERBS
    assert load(alias) is not None


def test_the_fake_client_takes_what_the_real_one_takes() -> None:
    for name, method in inspect.getmembers(FakeClient, inspect.isfunction):
        if not name.startswith("_") and name != "add_build":
            real = inspect.signature(getattr(Client, name))
            assert list(inspect.signature(method).parameters.values()) == list(real.parameters.values()), name


@pytest.mark.parametrize("door", [local, ssh])
async def test_staged_config_is_shown_until_it_is_released(door: Callable[..., Door]) -> None:
    client = FakeClient()
    staged = await door(client)("config:set", "foo", "KEY=abc", "--no-restart")
    assert "Setting KEY for foo, without a restart" in staged.out
    assert "Staged: KEY. config:apply or the next push releases it, a rollback drops it." in staged.out
    client.staged_ = ("KEY",)
    assert "Not in effect yet: KEY." in (await door(client)("config", "foo")).err
    assert "KEY (config:apply or" in (await door(client)("apps:info", "foo")).out
    assert "Staged config was dropped: KEY." in (await door(client)("rollback", "foo", "v1")).err


@pytest.mark.parametrize("door", [local, ssh])
async def test_variables_of_the_whole_deployment(door: Callable[..., Door]) -> None:
    client = FakeClient()
    done = await door(client)("config:set", "foo", "SHARED=1", "COLOR=red", "--global")
    assert "Setting SHARED, COLOR for all services of foo" in done.out
    assert "foo: v3" in done.out
    shown = await door(client)("config", "foo")
    assert shown.out.splitlines() == [
        "COLOR:                blue",
        "GREETING:             hello",
        "SHARED (deployment):  1",
    ]
    assert json.loads((await door(client)("config", "foo", "--global", "--json")).out) == {
        "COLOR": "red",
        "SHARED": "1",
    }
    json.loads((await door(client)("config:unset", "foo", "SHARED", "--global", "--json")).out)
    assert (await door(client)("config:set", "foo", "A=1", "--global", "--no-restart")).status == 2
    assert (await door(client)("config:set", "foo/api", "A=1", "--global")).status == 2
    client.broken_rollout = "it crashed"
    failed = await door(client)("config:set", "foo", "A=1", "--global")
    assert (failed.status, "foo v5 was given up: it crashed" in failed.err) == (1, True)
