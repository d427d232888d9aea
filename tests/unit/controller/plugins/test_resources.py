"""The section Resources: what it says, whom each is given to, and what waits for it."""

from dataclasses import replace
from typing import Any

import pytest

from controller.errors import InvalidInput
from controller.plugins.facts import DeploymentFacts, ServiceFacts
from controller.plugins.require import awaited
from controller.plugins.resources import (
    UNATTACHED,
    Wanted,
    attachments,
    declared,
    is_unmade,
    missing,
    read_resources,
    setup,
)
from controller.types import Definition, Deployment, Resource, ResourceStatus

DB = Resource(deployment="foo", name="db", kind="postgres", settings={"port": 31000})
READY = replace(DB, status=ResourceStatus.READY)


def facts(section: Any, resource: Resource | None = None, **sections: Any) -> DeploymentFacts:
    requires = Definition(image="x", extra={"require": ["db"]})
    services = {"web": requires, "other": Definition(image="x")}
    return DeploymentFacts(
        deployment=Deployment(name="foo", globals={"Resources": section, **sections}),
        services={name: ServiceFacts(name=name, definition=each) for name, each in services.items()},
        resources={} if resource is None else {resource.name: resource},
    )


def test_its_forms() -> None:
    postgres = Wanted(kind="postgres")
    assert read_resources(None) == {}
    assert (
        read_resources({"db": "postgres"}) == read_resources({"db": {"kind": "postgres"}}) == {"db": postgres}
    )
    for attach in ("web", ["web"], {"web": None}, {"web": ""}):
        assert read_resources({"db": {"kind": "postgres", "attach": attach}}) == {
            "db": Wanted(kind="postgres", attach={"web": ""})
        }
    assert read_resources({"db": {"kind": "postgres", "attach": {"web": "MAIN"}}})["db"].attach == {
        "web": "MAIN"
    }
    assert read_resources({"db": {"kind": "postgres", "attach": []}})["db"].attach == {}


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ([], "must map names to kinds"),
        ({"db": 1}, "db must be a kind, as in {db: postgres}"),
        ({"db": None}, "db must be a kind"),
        ({"db": {}}, "kind is missing"),
        ({"db": {"kind": "postgres", "plan": 1}}, "'plan' is unknown. Known are kind, attach"),
        ({"db": {"kind": "postgres", "attach": 1}}, "attach must name services"),
        ({"db": {"kind": "postgres", "attach": {"web": "a b"}}}, "the prefix must be of capital letters"),
        ({"no good": "postgres"}, "resource name"),
        ({"db": {"kind": "postgres", "attach": ["no good"]}}, "service name"),
    ],
)
def test_what_it_can_not_say(section: Any, told: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_resources(section)
    assert told in str(caught.value)
    assert declared(section) == {}


def test_whom_it_is_given_to() -> None:
    def given(section: Any, **sections: Any) -> Any:
        found = facts(section, **sections)
        return attachments(found, "db", declared(section)["db"])

    assert given({"db": "postgres"}) == {"web": ""}, "who requires it"
    assert given({"db": {"kind": "postgres", "attach": {"other": "MAIN", "gone": ""}}}) == {"other": "MAIN"}
    assert given({"db": {"kind": "postgres", "attach": []}}) == {}
    order = {"Init": {"service": "other", "cmd": "init", "require": "db"}}
    assert given({"db": "postgres"}, Exec=order) == {"web": "", "other": ""}, "whose command requires it"


@pytest.mark.parametrize(
    ("resource", "waits"),
    [
        (None, "waits for db"),
        (DB, "waits for db"),
        (
            replace(DB, status=ResourceStatus.FAILED, failure="no disk"),
            "waits for db (which failed: no disk)",
        ),
        (READY, "waits for db (which is being attached)"),
        (
            replace(READY, settings={UNATTACHED: {"web": "taken"}}),
            "waits for db (which can't be attached: taken)",
        ),
        (replace(READY, attached={"web": ""}), None),
    ],
)
def test_what_waits_for_it(resource: Resource | None, waits: str | None) -> None:
    found = facts({"db": "postgres"}, resource)
    assert missing(found, "web") == waits
    assert missing(found, "other") is None
    # What `require` says already is not said twice.
    said = (awaited(["db"], found), setup(found, found.services["web"]))
    assert [each for each in said if each] == ([waits] if waits else [])


def test_without_require_it_is_said_too() -> None:
    found = facts({"db": {"kind": "postgres", "attach": "other"}}, DB)
    assert setup(found, found.services["other"]) == "waits for db"
    assert setup(found, found.services["web"]) is None


def test_only_what_never_had_a_server_is_unmade() -> None:
    failed = replace(DB, status=ResourceStatus.FAILED)
    assert not is_unmade(failed)
    assert not is_unmade(replace(failed, settings={"external": True}))
    assert not is_unmade(replace(failed, kind="exec", settings={}))
    assert not is_unmade(replace(DB, settings={}))
    assert is_unmade(replace(failed, settings={}))
