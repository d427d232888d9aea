"""Exit statuses, and what is said when something goes wrong."""

import json
import logging
from collections.abc import Mapping
from typing import Any

import pytest

from controller.errors import (
    Forbidden,
    InternalFault,
    InvalidInput,
    MooringError,
    Unauthenticated,
    Unavailable,
)
from controller.names import Address
from tests.unit.cli.doors import local, ssh
from tests.unit.cli.fake_client import FakeClient


def failing(error: Exception) -> FakeClient:
    client = FakeClient()

    async def fail(*_: object, **__: object) -> Any:
        raise error

    client.service = client.me = client.services = fail  # type: ignore[method-assign]
    return client


async def test_no_words_and_help_print_all_verbs_and_succeed() -> None:
    for words in ((), ("--help",), ("-h",), ("help",)):
        result = await local()(*words)
        assert (result.status, result.err) == (0, "")
        assert "ps:scale" in result.out
        assert "completion:words" not in result.out


async def test_help_over_ssh_leaves_local_verbs_out() -> None:
    result = await ssh()("help")
    assert "remote:add" not in result.out
    assert "Usage: ssh -p 2222 deploy@HOST [OPTIONS] VERB" in result.out


async def test_help_of_a_verb_needs_no_app() -> None:
    result = await ssh()("ps:scale", "--help")
    assert (result.status, result.err) == (0, "")
    assert result.out.startswith("Usage: ps:scale APP")


@pytest.mark.parametrize(
    ("word", "meant"), [("ps:scal", "ps:scale"), ("restrt", "restart"), ("config:sett", "config:set")]
)
async def test_an_unknown_verb_is_told_with_the_one_that_was_meant(word: str, meant: str) -> None:
    result = await local()(word)
    assert (result.status, result.out) == (2, "")
    assert result.err.splitlines()[0] == f" !     There is no verb {word}. Did you mean {meant}?"


async def test_an_unknown_option_is_told_with_the_usage_and_the_way_to_help() -> None:
    result = await local()("ps:restart", "foo", "--detatch")
    lines = result.err.splitlines()
    assert result.status == 2
    assert "--detach" in lines[0]
    assert lines[1] == " !     Usage: moor ps:restart [-a APP] [OPTIONS] [TYPE|INSTANCE]"
    assert lines[2] == " !     `moor help ps:restart` tells more."


@pytest.mark.parametrize(
    "error",
    [
        Forbidden("bob has the right to view foo, but this needs operate."),
        Unavailable("The server does not answer."),
        InvalidInput("env", "That is no name."),
        InternalFault("Our mistake; the log has it under 4f2a."),
    ],
)
async def test_an_error_of_the_server_is_told_as_it_is_and_fails(error: MooringError) -> None:
    result = await ssh(failing(error))("ps:restart", "foo", "--json")
    assert result.status == 1
    assert result.err == f" !     {error}\n"
    told = json.loads(result.out)["error"]
    assert (told["code"], told["message"]) == (error.code, str(error))
    assert told.get("field") == getattr(error, "field", None)


async def test_usage_errors_have_a_json_form_too() -> None:
    for words in (
        ["ps:restart", "--json"],
        ["nosuch", "--json"],
        ["ps:restart", "foo", "--nosuch", "--json"],
    ):
        result = await local()(*words)
        assert json.loads(result.out)["error"]["code"] == "usage"


async def test_somebody_unknown_is_told_how_to_log_in() -> None:
    result = await local(failing(Unauthenticated("That token is not known.")))("whoami")
    assert "moor login" in result.err


async def test_our_own_fault_is_said_to_be_ours_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        result = await ssh(failing(RuntimeError("boom")))("whoami")
    assert result.status == 1
    assert "our own mistake" in result.err
    assert "boom" in result.err
    assert caplog.records[0].exc_info is not None


async def test_a_reader_that_has_gone_ends_the_command_quietly() -> None:
    result = await local(broken=True)("apps")
    assert (result.status, result.err) == (141, "")


async def test_a_stream_left_in_the_middle_is_closed() -> None:
    class Streaming(FakeClient):
        ended = False

        async def logs(self, *_: object, **__: object):  # type: ignore[no-untyped-def]
            try:
                while True:
                    yield self.logs_[0]
            finally:
                self.ended = True

    client = Streaming()
    result = await local(client, broken=True)("logs", "foo", "-t")
    assert result.status == 141
    assert client.ended


async def test_the_client_is_closed_after_success_and_failure() -> None:
    for words in (("apps",), ("config", "nope")):
        call = local()
        await call(*words)
        assert call.client.closed


async def test_destroy_asks_for_the_name_again() -> None:
    call = local()
    assert (await call("apps:destroy", "foo", typed="fo\n", asked=True)).status == 1
    assert "foo" in call.client.deployments_
    result = await call("apps:destroy", "foo", typed="foo\n", asked=True)
    assert result.status == 0
    assert "Type foo to go on" in result.err
    assert "foo" not in call.client.deployments_


@pytest.mark.parametrize(
    ("words", "status"), [([], 1), (["--confirm", "bar"], 1), (["--confirm", "foo"], 0), (["--force"], 0)]
)
async def test_destroy_without_a_terminal_needs_a_flag(words: list[str], status: int) -> None:
    call = ssh()
    result = await call("destroy", "foo", *words)
    assert result.status == status
    assert ("foo" in call.client.deployments_) == bool(status)
    if not words:
        assert "--force" in result.err


async def test_destroying_a_service_leaves_its_deployment() -> None:
    call = ssh()
    await call("create", "foo/website")
    assert (await call("destroy", "foo/website", "--force")).status == 0
    assert set(call.client.services_) == {("foo", "app")}


async def test_a_failed_rollout_fails_with_reason_and_last_lines() -> None:
    client = FakeClient()
    client.broken_rollout = "web.1 did not listen on its port within 60 s"
    result = await ssh(client)("config:set", "foo", "A=1")
    assert result.status == 1
    assert result.err == (
        " !     Its last lines:\n"
        "       Traceback\n"
        "       Oops\n"
        " !     v3 was given up: web.1 did not listen on its port within 60 s\n"
        " !     What served before serves on.\n"
    )
    assert "live" not in result.out


async def test_a_failed_restart_fails() -> None:
    client = FakeClient()
    client.broken_rollout = "web.1 exited with status 1"
    result = await ssh(client)("ps:restart", "foo")
    assert result.status == 1
    assert "given up: web.1 exited with status 1" in result.err


async def test_a_failed_rollout_prints_one_json_document_and_fails() -> None:
    client = FakeClient()
    client.broken_rollout = "no"
    result = await ssh(client)("rollback", "foo", "--json")
    assert result.status == 1
    assert json.loads(result.out)["version"]["status"] == "failed"


async def test_the_same_again_is_no_change() -> None:
    result = await ssh()("config:set", "foo", "COLOR=blue")
    assert (result.status, result.out.splitlines()[-1]) == (0, "No changes.")


async def test_config_before_the_first_push_is_kept() -> None:
    call = ssh()
    await call("create", "new")
    result = await call("config:set", "new", "A=1")
    assert result.status == 0
    assert "held: no code yet" in result.out
    assert (await call("config:get", "new", "A")).out == "1\n"


async def test_detach_does_not_wait() -> None:
    result = await ssh()("config:set", "foo", "A=1", "--detach")
    assert result.status == 0
    assert "new instances" not in result.out
    assert "v3 is being rolled out" in result.out


async def test_quiet_prints_answers_only() -> None:
    assert (await ssh()("config:set", "foo", "A=1", "-q")).out == ""
    assert (await local(terminal=True)("config:get", "foo", "COLOR", "-q")).out == "blue\n"
    assert (await local(terminal=True)("releases", "foo", "-q")).out.startswith("v2 ")


async def test_an_empty_variable_is_shown() -> None:
    call = ssh()
    await call("config:set", "foo", "EMPTY=")
    assert "EMPTY:\n" in (await call("config", "foo")).out


async def test_a_variable_that_is_not_there_is_a_failure() -> None:
    result = await ssh()("config:get", "foo", "NOPE")
    assert (result.status, result.out) == (1, "")


async def test_config_words_must_be_pairs() -> None:
    result = await ssh()("config:set", "foo", "A")
    assert result.status == 1
    assert "NAME=VALUE" in result.err


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        ([], {}),
        (["-n", "5", "-p", "web.1"], {"lines": 5, "process": "web.1"}),
        (["--source", "app,router", "-s", "build"], {"sources": ("app", "router", "build")}),
        (["--instance", "foo-app-1-web-1"], {"instance": "foo-app-1-web-1"}),
        (["--since", "10m", "--until", "2026-11-22T08:00"], {"since": "10m", "until": "2026-11-22T08:00"}),
        (["--grep", "time*out", "-t"], {"text": "time*out", "follow": True}),
    ],
)
async def test_logs_are_asked_for_as_the_options_say(words: list[str], asked: dict[str, Any]) -> None:
    call = ssh()
    await call("logs", "foo", *words)
    assert call.client.calls == [("logs", Address("foo"), asked)]


@pytest.mark.parametrize("words", [["-s", "apps"], ["-n", "-1"], ["-n", "10001"]])
async def test_options_of_logs_that_are_off_are_refused(words: list[str]) -> None:
    assert (await ssh()("logs", "foo", *words)).status == 2


@pytest.mark.parametrize("process", ["web.x", "web.", "w b", "../x"])
async def test_what_is_no_process_is_refused(process: str) -> None:
    assert (await ssh()("logs", "foo", "-p", process)).status == 1


async def test_logs_with_json_are_one_document_a_line() -> None:
    result = await ssh()("logs", "foo", "--json")
    assert [json.loads(line)["text"] for line in result.out.splitlines()] == ["GET / 200"]


async def test_a_build_of_another_app_is_not_found() -> None:
    call = ssh()
    await call("create", "new")
    result = await call("builds:output", "new", "b2")
    assert result.status == 1
    assert "new has no build b2" in result.err


async def test_cancelling_what_does_not_run_fails() -> None:
    assert (await ssh()("builds:cancel", "foo", "b2")).status == 1
    assert (await ssh()("builds:cancel", "foo")).status == 1


async def test_a_held_service_is_said_to_be_held() -> None:
    result = await ssh()("-D", "bare", "set-service", "website", '{"git": "."}')
    assert (result.status, result.out) == (0, "----> Held: no code yet\n")


async def test_scale_without_words_prints_what_can_be_pasted_back() -> None:
    call = ssh()
    printed = (await call("ps:scale", "foo")).out
    assert printed == "web=2 worker=1\n"
    assert (await call("ps:scale", "foo", *printed.split())).status == 0
    assert call.client.calls == [("scale", Address("foo"), {"web": "2", "worker": "1"})]


async def test_a_key_comes_from_a_file_on_this_machine_and_from_standard_input_over_ssh() -> None:
    here = local(files={"key.pub": "ssh-ed25519 AAAAfile\n"})
    await here("ssh-keys:add", "a", "key.pub")
    assert here.client.keys_[-1].public_key == "ssh-ed25519 AAAAfile"
    there = ssh()
    await there("ssh-keys:add", "b", "--user", "bob", typed="ssh-ed25519 AAAAstdin\n")
    assert (there.client.keys_[-1].public_key, there.client.keys_[-1].user) == (
        "ssh-ed25519 AAAAstdin",
        "bob",
    )
    refused = await there("ssh-keys:add", "c", "/etc/passwd")
    assert refused.status == 1
    assert "standard input" in refused.err


async def test_access_is_about_whole_deployments() -> None:
    result = await ssh()("access", "foo/website")
    assert result.status == 2
    assert "write foo instead" in result.err


async def test_a_server_on_every_address_is_named_as_it_was_reached() -> None:
    client = FakeClient()
    client.ssh_address = "0.0.0.0:2222"
    result = await ssh(client)("apps:create", "new")
    assert "ssh://deploy@localhost:2222/new.git" in result.out


async def test_remote_add_makes_the_remote_and_leaves_others_alone() -> None:
    call = local()
    result = await call("remote:add", "foo")
    assert result.status == 0
    assert call.folder is not None
    assert call.folder.remote_url("deploy") == "ssh://deploy@127.0.0.1:2222/foo.git"
    await call("create", "new")
    again = await call("remote:add", "new")
    assert again.status == 1
    assert "leads to foo already" in again.err
    assert (await call("remote:add", "new", "--force")).status == 0


async def test_events_can_be_of_one_deployment_but_never_of_the_folder() -> None:
    call = local(remote="ssh://deploy@h:1/foo.git")
    await call("events")
    await call("events", "bare", "-n", "3")
    await call("events", "bare/api", "--after", "7", "--kind", "build", "--kind", "version.live")
    assert call.client.calls == [
        ("events", None, None, (), None, 100),
        ("events", "bare", None, (), None, 3),
        ("events", "bare", "api", ("build", "version.live"), 7, 100),
    ]


async def test_followed_events_are_printed_one_by_one():
    for words, past, after in (([], 10, None), (["-n", "3"], 3, None), (["--after", "5"], 0, 5)):
        call = ssh()
        done = await call("events", "foo", "--follow", *words)
        assert (
            done.out == "2026-01-01T12:00:00Z  version.live        foo               ann       v2 is live\n"
        )
        assert call.client.calls[0] == ("follow_events", "foo", None, (), after, past)
    records = (await ssh()("events", "-f", "--json")).out.splitlines()
    assert [json.loads(each)["revision"] for each in records] == [7]


def environment(**values: str) -> Mapping[str, str]:
    return values


async def test_server_settings_are_checked_without_a_server() -> None:
    good = await local(environ=environment(MOOR_DATA="/tmp/x"))(
        "server", "--check-config", "--http", ":80", "--json"
    )
    assert good.status == 0
    assert (json.loads(good.out)["http"], json.loads(good.out)["data"]) == ("0.0.0.0:80", "/tmp/x")
    bad = await local()("server", "--http", "nowhere")
    assert bad.status == 1
    assert "--http: 'nowhere' is not an address" in bad.err


async def test_server_help_documents_every_setting_with_its_variable() -> None:
    result = await local()("server", "--help")
    text = " ".join(result.out.split())
    assert "--drain-timeout" in text
    assert "[MOOR_DRAIN_TIMEOUT; default 30]" in text
    assert "[MOOR_PUSH_LIMIT; default 1G]" in text


async def test_stopping_a_server_that_is_nowhere_says_so(tmp_path: Any) -> None:
    result = await local()("server:stop", "--data", str(tmp_path / "none"))
    assert result.status == 1
    assert "no data folder" in result.err


async def test_access_of_an_app_that_is_not_there_is_an_error() -> None:
    result = await ssh()("access", "nosuch")
    assert (result.status, result.err) == (1, " !     There is no app nosuch.\n")
