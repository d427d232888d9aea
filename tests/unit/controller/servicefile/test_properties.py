"""Whatever stands in a service file: it is read or refused in words; printed and read again it is the same."""

from datetime import UTC, datetime
from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.errors import InvalidInput
from controller.operations.backupplans import filed_plan, filed_plans
from controller.plugins.facts import DeploymentFacts
from controller.plugins.resources import declared
from controller.servicefile.complaints import NotAServiceFile
from controller.servicefile.document import SECTIONS, Infra, ServiceFile
from controller.servicefile.keys import KNOWN
from controller.servicefile.parse import read_servicefile
from controller.servicefile.plan import Found, make_plan
from controller.servicefile.render import render
from controller.types import Deployment, Resource, Service
from controller.wire import encode

SETTINGS = settings(max_examples=200, deadline=None)
braces = st.sampled_from(
    ["{DEPLOY_ID}", "{{DEPLOY_ID}}", "{PORT}", "{{PORT}}", "${PORT}", "${DEPLOY_ID}", "{x}", "{", "}"]
)
texts = st.text(max_size=8) | st.lists(braces | st.text(max_size=3), max_size=5).map("".join)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | texts | st.dates()
values: st.SearchStrategy[Any] = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
names = st.from_regex(r"[a-z][a-z0-9-]{0,6}[a-z0-9]", fullmatch=True)
env = st.dictionaries(
    st.from_regex(r"[A-Z]{1,5}", fullmatch=True) | braces, texts | st.integers() | st.booleans(), max_size=4
)
backups = (
    st.sampled_from(["0 3 * * *", "*/5  * * * 1-5", "never", "{DEPLOY_ID}"])
    | st.fixed_dictionaries(
        {"schedule": st.just("0 3 * * *")},
        optional={"keep": st.integers(-1, 1001) | st.just("7"), "days": st.integers(-1, 40)},
    )
    | values
)
long_volumes = st.fixed_dictionaries({"path": st.just("/srv/long")}, optional={"backup": backups})
good = st.fixed_dictionaries(
    {},
    optional={
        "image": st.sampled_from(["redis", "company/web:v2", "{DEPLOY_ID}/x"]),
        "cmd": texts | st.lists(texts | st.integers(), max_size=3),
        "env": env,
        "entrypoint": texts | st.lists(texts, max_size=3),
        "volumes": st.dictionaries(names, st.just("/srv") | long_volumes, max_size=2),
        "privileged": st.booleans(),
        "port": st.integers(1, 65535) | st.just("assign"),
        "process": st.sampled_from(["web", "worker", "a b"]),
        "wan_map": st.dictionaries(st.integers(1, 65535) | st.just(":80"), names, max_size=2),
        "require": names | st.lists(names, max_size=2),
        "health": st.just("/up") | st.just({"timeout": 30}),
        "other": values,
    },
)
services = st.dictionaries(
    names, good | st.dictionaries(st.sampled_from(KNOWN) | texts, values, max_size=3), max_size=3
)
sections = st.dictionaries(st.sampled_from(SECTIONS), env | values, max_size=2)
files = st.tuples(sections, services).map(lambda parts: parts[0] | parts[1])


def check(text: str) -> None:
    try:
        file = read_servicefile(text).file
    except NotAServiceFile as error:
        assert error.errors
        assert all(each.text and each.place.line >= 1 for each in error.errors)
        return
    printed = render(file)
    if not file.services and not file.globals:
        return
    again = read_servicefile(printed).file
    assert again == file
    assert render(again) == printed


@SETTINGS
@given(files)
def test_what_was_read_is_printed_and_read_as_the_same(file: Any) -> None:
    check(yaml.safe_dump(file, allow_unicode=True))


@SETTINGS
@given(st.dictionaries(names, good, min_size=1, max_size=3))
def test_good_files_too(file: Any) -> None:
    check(yaml.safe_dump(file, allow_unicode=True))


@SETTINGS
@given(st.text(alphabet=st.sampled_from("aA:{}[]-&*!<#'\"\n\t ,?|>%@0.~\\\x00é"), max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    check(text)


@SETTINGS
@given(st.dictionaries(names, good, min_size=1, max_size=3))
def test_a_plan_of_what_was_read_can_be_made_but_for_circles(file: Any) -> None:
    try:
        read = read_servicefile(yaml.safe_dump(file)).file
    except NotAServiceFile:
        return
    try:
        plan = make_plan(read, Found(deployment=Deployment(name="deployment")))
    except InvalidInput as error:
        assert "Take one of these out of require" in str(error)
        return
    assert {each.address.service for each in plan.steps} == set(read.services)


PASSWORDS = st.dictionaries(
    st.sampled_from(["joe", "kim", "no one", "1"]), texts | st.integers() | st.booleans(), max_size=3
)
DOMAINS = st.dictionaries(
    st.sampled_from(["a.example.org", "*.B.example.org", "web-deployment.localhost"]),
    st.fixed_dictionaries(
        {"http": st.just("web")},
        optional={"auth": PASSWORDS, "auth_mode": st.sampled_from(["basic", "digest", "form"])},
    ),
    max_size=3,
)


@SETTINGS
@given(DOMAINS)
def test_passwords_are_read_or_refused_kept_as_hashes_and_the_same_again_are_no_change(domains: Any) -> None:
    text = yaml.safe_dump({"Domains": domains, "web": {"image": "a"}})
    check(text)
    try:
        file = read_servicefile(text).file
        plan = make_plan(file, Found(deployment=Deployment(name="deployment")))
    except (NotAServiceFile, InvalidInput) as error:
        assert str(error)
        return
    (step,) = plan.steps
    asking = {name.lower() for name, options in domains.items() if "auth" in options}
    assert step.guards.keys() == asking
    web = Service(
        deployment="deployment",
        name="web",
        definition=step.definition,
        filed=step.filed,
        domains=step.domains,
        guards=step.guards,
        holds=step.holds,
    )
    again = make_plan(file, Found(deployment=plan.deployment, services={"web": web}))
    assert (again.globals, again.steps[0].guard_changes, again.steps[0].guards) == ((), {}, step.guards)
    kept = plan.deployment.globals.get("Domains", {})
    assert {word for each in kept.values() for word in each.get("auth", {}).values()} <= {"(hidden)"}


@SETTINGS
@given(st.dictionaries(names, long_volumes, max_size=1), backups)
def test_schedules_are_read_or_refused_make_no_version_and_the_same_again_are_no_change(
    volumes: Any, backup: Any
) -> None:
    section = {"db": {"kind": "postgres", "backup": backup}}
    text = yaml.safe_dump({"Resources": section, "web": {"image": "a", "volumes": volumes}})
    check(text)
    try:
        file = read_servicefile(text).file
    except NotAServiceFile:
        return
    plan = make_plan(file, Found(deployment=Deployment(name="deployment")))
    (step,) = plan.steps
    wanted = {name for name, each in volumes.items() if each.get("backup") is not None}
    assert step.backups is not None and step.backups.keys() == wanted
    assert all(type(each) is str for each in step.definition.volumes.values())
    now = datetime(2026, 1, 1, tzinfo=UTC)
    web = Service(
        deployment="deployment",
        name="web",
        definition=step.definition,
        filed=step.filed,
        holds=step.holds,
        backups=filed_plans(step.backups, {}, now),
    )
    section_ = declared(plan.deployment.globals["Resources"])["db"]
    db = Resource(
        deployment="deployment", name="db", kind="postgres", backup=filed_plan(section_.backup, None, now)
    )
    facts = DeploymentFacts(deployment=plan.deployment, resources={"db": db})
    found = Found(deployment=plan.deployment, services={"web": web}, facts=facts)
    again = make_plan(file, found)
    assert (again.globals, again.backups, again.steps[0].rescheduled) == ((), (), ())
    bare = ServiceFile(services={"web": {"image": "a"}}, globals={"Resources": {"db": "postgres"}})
    less = make_plan(bare, found)
    assert all(each.after is None for each in (*less.backups, *less.steps[0].rescheduled))
    assert {each.name for each in less.steps[0].rescheduled} == wanted


INFRA = st.builds(
    Infra,
    scale=st.dictionaries(
        names,
        st.dictionaries(st.sampled_from(["web", "worker"]), st.integers(-1, 101), max_size=2),
        max_size=2,
    ),
    domains=st.dictionaries(st.sampled_from(["a.example.org", "B.example.org", "x y"]), names, max_size=2),
)


@SETTINGS
@given(st.dictionaries(names, st.just({"image": "redis"}), min_size=1, max_size=3), INFRA)
def test_infrastructure_is_planned_or_refused_and_the_same_again_is_no_change(
    file: Any, infra: Infra
) -> None:
    wanted = ServiceFile(services=file, infra=infra)
    try:
        plan = make_plan(wanted, Found(deployment=Deployment(name="deployment")))
    except InvalidInput as error:
        assert str(error)
        return
    after = {
        each.address.service: Service(
            deployment="deployment",
            name=each.address.service,
            definition=each.definition,
            filed=each.filed,
            domains=each.domains,
            scale=each.scale,
            holds=each.holds,
        )
        for each in plan.steps
    }
    again = make_plan(wanted, Found(deployment=plan.deployment, services=after))
    assert all(
        (each.scaled, each.added_domains, each.dropped_domains) == ((), (), ()) for each in again.steps
    )


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | texts
    | st.text(alphabet=st.characters(), max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
json_services = st.dictionaries(
    names, st.dictionaries(st.sampled_from(KNOWN) | texts, json_values, max_size=3), max_size=3
)
json_globals = st.dictionaries(st.sampled_from(SECTIONS) | texts, json_values, max_size=3)


@SETTINGS
@given(json_services, json_globals)
def test_whatever_comes_by_the_api_is_planned_or_refused_in_words(services: Any, shared: Any) -> None:
    found = Found(deployment=Deployment(name="foo"))
    try:
        plan = make_plan(ServiceFile(services=services, globals=shared), found)
    except InvalidInput as error:
        assert str(error)
        return
    assert encode([plan.deployment, *(each.definition for each in plan.steps)])
