"""Which app is meant, at both doors; options before and after the verb."""

import pytest

from cli.commands.ps import read_change
from cli.commands.services import read_service
from cli.grammar import ssh_example
from controller.errors import InvalidInput
from controller.names import Address
from tests.unit.cli.doors import Door, local, ssh

FOO = "ssh://deploy@localhost:2222/foo.git"
BARE = "ssh://deploy@localhost:2222/bare.git"
SCALED = ("scale", Address("foo"), {"web": "2"})


@pytest.mark.parametrize(
    "words",
    [
        ["ps:scale", "-a", "foo", "web=2"],
        ["ps:scale", "web=2", "--app", "foo"],
        ["ps:scale", "-D", "foo", "web=2"],
        ["--deployment", "foo", "ps:scale", "web=2"],
        ["ps:scale", "foo", "web=2"],
        ["--", "ps:scale", "foo", "web=2"],
        ["--quiet", "ps:scale", "foo", "web=2"],
        ["--", "--quiet", "--json", "ps:scale", "foo", "web=2"],
    ],
)
@pytest.mark.parametrize("door", [local, ssh])
async def test_the_app_is_named_in_every_usual_way(door: type[Door], words: list[str]) -> None:
    call = door()
    result = await call(*words)
    assert (result.status, result.err) == (0, "")
    assert call.client.calls == [SCALED]


async def test_the_git_remote_of_the_folder_names_the_app() -> None:
    call = local(remote=FOO)
    assert (await call("ps:scale", "web=2")).status == 0
    assert call.client.calls == [SCALED]


async def test_a_named_app_comes_before_that_of_the_folder() -> None:
    call = local(remote=BARE)
    assert (await call("ps:scale", "-a", "foo", "web=2")).status == 0
    assert call.client.calls == [SCALED]


async def test_in_a_folder_with_a_remote_all_words_are_arguments() -> None:
    result = await local(remote=FOO)("ps:scale", "foo", "web=2")
    assert result.status == 1
    assert "'foo' says no scale" in result.err


async def test_a_verb_without_other_words_takes_one_as_the_app_even_in_a_folder() -> None:
    result = await local(remote=BARE)("apps:info", "foo")
    assert result.status == 0
    assert "app:         foo" in result.out


async def test_another_remote_can_be_asked_for() -> None:
    call = local()
    call.folder.set_remote("staging", FOO)  # type: ignore[union-attr]
    assert (await call("ps:scale", "--remote", "staging", "web=2")).status == 0
    assert call.client.calls == [SCALED]


async def test_a_service_is_addressed_below_its_deployment() -> None:
    call = ssh()
    result = await call("config", "foo/website")
    assert (result.status, result.err) == (1, " !     foo has no service website.\n")


async def test_without_any_app_both_doors_tell_the_way_out() -> None:
    here, there = await local()("config:set"), await ssh()("ps:restart")
    assert (here.status, there.status) == (2, 2)
    assert "NAME=VALUE" in here.err
    assert "ps:restart APP" in there.err
    told = await local()("ps:restart")
    assert "-a APP" in told.err
    assert "remote:add" in told.err


async def test_a_word_that_was_taken_as_the_app_is_named_where_others_are_missing() -> None:
    result = await local()("domains:add", "www.example.org")
    assert result.status == 2
    assert "www.example.org was taken as the app" in result.err


@pytest.mark.parametrize(
    "words", [["ps:scale", "web=2"], ["config:set", "A=1"], ["config:set", "A=1", "B=2"]]
)
async def test_a_first_word_that_can_be_no_app_means_that_none_was_named(words: list[str]) -> None:
    for call in (local(), ssh()):
        result = await call(*words)
        assert result.status == 2
        assert "Which app?" in result.err


async def test_there_is_no_folder_and_no_other_server_over_ssh() -> None:
    for option in ("--remote", "--server"):
        result = await ssh()("ps:restart", "foo", option, "x")
        assert result.status == 2
        assert f"No such option '{option}'" in result.err


@pytest.mark.parametrize("app", ["../x", "-oProxyCommand=x", "Foo", "föö", "x" * 300, "foo/", "a/b/c", ""])
async def test_names_that_are_none_are_refused_before_anything_is_asked(app: str) -> None:
    call = ssh()
    result = await call(f"--app={app}", "ps:restart")
    assert result.status == 1
    assert "is no valid" in result.err
    assert call.client.calls == []


@pytest.mark.parametrize(
    ("text", "change"),
    [
        ("web=2", ("web", "2")),
        ("web=+1", ("web", "+1")),
        ("worker+1", ("worker", "+1")),
        ("worker-1", ("worker", "-1")),
        ("my-worker-2=3", ("my-worker-2", "3")),
        ("my-worker-2-1", ("my-worker-2", "-1")),
    ],
)
def test_scale_words(text: str, change: tuple[str, str]) -> None:
    assert read_change(text) == change


@pytest.mark.parametrize("text", ["web", "web=", "web=x", "=2", "2", "web=1.5", "web = 2", "web=99999999"])
def test_other_words_are_no_scale(text: str) -> None:
    with pytest.raises(InvalidInput):
        read_change(text)


@pytest.mark.parametrize(
    ("name", "definition", "expected"),
    [
        ("redis", None, ("redis", {})),
        ("company/redis", None, ("redis", {"image": "company/redis"})),
        ("registry:5000/a/db:12", None, ("db", {"image": "registry:5000/a/db:12"})),
        ("redis", "{env: {SDF: sdf}}", ("redis", {"env": {"SDF": "sdf"}})),
        ("redis", '{"image": null}', ("redis", {"image": None})),
        ("company/redis", "image: other", ("redis", {"image": "other"})),
    ],
)
def test_set_service_takes_a_name_or_an_image(
    name: str, definition: str | None, expected: tuple[str, dict[str, object]]
) -> None:
    assert read_service(name, definition) == expected


@pytest.mark.parametrize("definition", ["text", "[1]", "{", "a: b: c", "a: 2026-99-99"])
def test_a_definition_must_be_a_mapping(definition: str) -> None:
    with pytest.raises(InvalidInput, match="definition"):
        read_service("redis", definition)


@pytest.mark.parametrize(
    "definition",
    ["{a: &a [x], b: [*a, *a]}", "{a: " + "[" * 1000 + "]" * 1000 + "}", "{a: " + "x" * 100_000 + "}"],
    ids=["alias", "deep", "large"],
)
def test_a_definition_is_no_way_to_keep_the_server_busy(definition: str) -> None:
    with pytest.raises(InvalidInput, match="definition"):
        read_service("redis", definition)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("moor ps:scale -a foo web=2", "ssh -p 2222 deploy@HOST ps:scale foo web=2"),
        ("moor -D foo set-service redis", "ssh -p 2222 deploy@HOST set-service foo redis"),
        ("cat key | moor ssh-keys:add x", "cat key | ssh -p 2222 deploy@HOST ssh-keys:add x"),
        ("moor apps", "ssh -p 2222 deploy@HOST apps"),
    ],
)
def test_examples_are_told_in_the_grammar_of_their_door(line: str, expected: str) -> None:
    assert ssh_example(line) == expected
