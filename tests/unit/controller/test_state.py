import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.mirror import key_of
from controller.names import Address
from controller.state import JOURNAL_TRIM, EventDraft, State, delete, put
from controller.store.base import Store, StoreConflict, StoreUnavailable, StoreUnusable
from controller.store.memory import MemoryStore
from controller.store.sqlite import SqliteStore
from controller.types import Build, BuildStatus, Deployment, HealthCheck, Service, SshKey, Token, User
from controller.wire import WireError, from_json, to_json
from tests import factories
from tests.factories import NOW


@pytest.fixture
async def store() -> AsyncIterator[MemoryStore]:
    made = MemoryStore()
    yield made
    await made.close()


@pytest.fixture
async def state(store) -> AsyncIterator[State]:
    made = await State.open(store, clock=lambda: NOW)
    yield made
    await made.close()


@pytest.fixture
async def other(store) -> AsyncIterator[State]:
    """The state of a second process on the same store."""
    made = await State.open(store, clock=lambda: NOW)
    yield made
    await made.close()


async def settle() -> None:
    """Let watches deliver what the memory store has."""
    for _ in range(10):
        await asyncio.sleep(0)


def build(number: int, service: str = "app") -> Build:
    at = NOW + timedelta(seconds=number)
    return Build(
        id=f"b{number}", deployment="foo", service=service, status=BuildStatus.RUNNING, started_at=at
    )


# Reading


async def test_what_is_not_there_reads_as_none_or_empty(state):
    assert state.deployment("foo") is state.service("foo", "app") is state.version("foo", "app", 1) is None
    assert state.build("b") is state.user("ann") is state.key("SHA256:x") is state.token("0") is None
    assert state.domain_owner("foo.org") is None
    assert [
        *state.deployments(),
        *state.services(),
        *state.services("foo"),
        *state.versions("foo", "app"),
    ] == []
    assert [*state.builds(), *state.users(), *state.keys(), *state.tokens(), *state.events()] == []


async def test_committed_records_are_read_back_at_once(state):
    foo, app, one = factories.deployment(), factories.service(), factories.version()
    await state.commit(put(foo), put(app), put(one))
    assert state.deployment("foo") == foo
    assert state.service("foo", "app") == app
    assert state.version("foo", "app", 1) == one


async def test_lists_are_sorted_and_limited_to_what_was_asked(state):
    services = [
        factories.service(d, s) for d, s in [("foo", "b"), ("foo", "a"), ("bar", "z"), ("foo.b", "a")]
    ]
    await state.commit(*(put(each) for each in services))
    await state.commit(*(put(factories.deployment(name)) for name in ["foo", "bar"]))
    assert [each.name for each in state.deployments()] == ["bar", "foo"]
    assert [(s.deployment, s.name) for s in state.services()] == [
        ("bar", "z"),
        ("foo", "a"),
        ("foo", "b"),
        ("foo.b", "a"),
    ]
    assert [each.name for each in state.services("foo")] == ["a", "b"]


async def test_versions_and_builds_come_newest_first(state):
    versions = [factories.version(number) for number in (2, 11, 1)]
    builds = [build(2), build(1), build(3, "worker")]
    await state.commit(*map(put, versions), *map(put, builds))
    assert [each.number for each in state.versions("foo", "app")] == [11, 2, 1]
    assert [each.id for each in state.builds("foo", "app")] == ["b2", "b1"]
    assert (
        [each.id for each in state.builds("foo")]
        == [each.id for each in state.builds()]
        == ["b3", "b2", "b1"]
    )


async def test_keys_are_found_by_fingerprint_and_by_user(state):
    keys = [
        SshKey(name="laptop", user="bob", fingerprint="SHA256:a//b+c=", public_key="ssh-ed25519 AAAA"),
        SshKey(name="ci", user="ann", fingerprint="SHA256:a_b", public_key="ssh-ed25519 AAAB"),
    ]
    await state.commit(*map(put, keys))
    assert state.key("SHA256:a//b+c=") == keys[0]
    assert [each.name for each in state.keys(user=None)] == ["ci", "laptop"]
    assert [each.name for each in state.keys("bob")] == ["laptop"]


async def test_tokens_and_users_are_found(state):
    token, ann = Token(id="t1", user="ann", sha256="ab" * 32), User(name="ann@example.org", admin=True)
    await state.commit(put(token), put(ann))
    assert state.token("ab" * 32) == token
    assert state.user("ann@example.org") == ann
    assert [*state.tokens("ann"), *state.tokens("bob")] == [token]


async def test_what_was_read_does_not_change_with_the_writers_own_objects(state):
    env = {"A": "1"}
    foo = factories.deployment(globals={"Env": env})
    await state.commit(put(foo))
    env["A"] = "2"
    assert state.deployment("foo").globals == {"Env": {"A": "1"}}


async def test_deleted_records_leave_every_list(state):
    app, running = factories.service(), build(1)
    await state.commit(put(app), put(running))
    await state.commit(delete(app), delete(running))
    assert [
        *state.services(),
        *state.services("foo"),
        *state.builds("foo"),
        *state.builds("foo", "app"),
    ] == []


# Writing


async def test_lost_race_in_this_process_is_a_conflict_and_writes_nothing(state):
    app = factories.service()
    await state.commit(put(app))
    first = asyncio.create_task(state.commit(put(replace(app, uid=1))))
    second = asyncio.create_task(state.commit(put(replace(app, uid=2)), put(factories.deployment())))
    results = await asyncio.gather(first, second, return_exceptions=True)
    assert isinstance(results[1], StoreConflict)
    assert state.service("foo", "app").uid == 1
    assert state.deployment("foo") is None


async def test_record_that_exists_can_not_be_created_by_a_process_that_does_not_know(store, state):
    await store.put("users/ann", to_json(User(name="ann")))
    with pytest.raises(StoreConflict):
        await state.commit(put(User(name="ann", admin=True)))
    await settle()
    assert state.user("ann") == User(name="ann")


async def test_deleting_what_is_gone_is_harmless(state):
    await state.commit(put(factories.service()))
    await state.commit(delete(factories.service()))
    await state.commit(delete(factories.service()))
    assert state.services() == []


async def test_record_that_could_not_be_read_back_is_refused_before_it_is_written(state, store):
    endless = replace(factories.service().definition, health=HealthCheck(settle=float("inf")))
    with pytest.raises(WireError, match="settle"):
        await state.commit(put(factories.deployment()), put(factories.service(definition=endless)))
    assert state.deployments() == []
    assert [entry.key for entry in (await store.list(""))[0]] == ["meta/schema"]


async def test_commit_of_nothing_does_not_ask_the_store(state, store):
    before = (await store.list(""))[1]
    assert await state.commit() == ()
    assert await state.transact(list) == ()
    assert (await store.list(""))[1] == before


async def test_transact_decides_again_when_another_process_was_faster(state, other):
    await state.commit(put(factories.service(uid=0)))
    await settle()

    async def count(where: State) -> None:
        def decide():
            app = where.service("foo", "app")
            return [put(replace(app, uid=app.uid + 1)), EventDraft(kind="counted")]

        for _ in range(10):
            await where.transact(decide)

    await asyncio.gather(count(state), count(other), count(state))
    await settle()
    assert state.service("foo", "app").uid == other.service("foo", "app").uid == 30
    assert [each.revision for each in state.events()] == list(range(1, 31))
    assert state.events() == other.events()


async def test_transact_passes_on_what_the_decision_raises_and_writes_nothing(state):
    def decide():
        yield put(factories.deployment())
        raise LookupError("no")

    with pytest.raises(LookupError):
        await state.transact(decide)
    assert state.deployments() == []
    await state.commit(put(factories.deployment()))


async def test_transact_may_check_across_records(state):
    def create(name: str):
        taken = {each.uid for each in state.services()}
        yield put(factories.service("foo", name, uid=min(set(range(100)) - taken)))

    await asyncio.gather(*(state.transact(lambda name=name: create(name)) for name in "abcdef"))
    assert [each.uid for each in state.services()] == [0, 1, 2, 3, 4, 5]


async def test_transact_gives_up_when_the_mirror_does_not_catch_up(store, state, monkeypatch):
    monkeypatch.setattr("controller.state.CATCH_UP", 0.01)
    state._follower.cancel()
    await store.put("users/ann", to_json(User(name="ann")))
    with pytest.raises(StoreConflict):
        await state.transact(lambda: [put(User(name="ann"))])


# Domains


async def test_domain_belongs_to_the_service_that_has_it(state):
    app = factories.service(domains=("a.org", "*.b.org"))
    await state.commit(put(app))
    assert state.domain_owner("*.b.org") == Address("foo", "app")
    await state.commit(put(replace(app, domains=("a.org",))))
    assert state.domain_owner("*.b.org") is None
    assert state.domain_owner("a.org") == Address("foo", "app")
    await state.commit(delete(app))
    assert state.domain_owner("a.org") is None


async def test_two_services_never_get_the_same_domain(state, other):
    results = await asyncio.gather(
        state.commit(put(factories.service("foo", domains=("a.org",)))),
        state.commit(put(factories.service("bar", domains=("b.org", "a.org")))),
        other.commit(put(factories.service("baz", domains=("a.org",)))),
        return_exceptions=True,
    )
    assert sum(isinstance(result, StoreConflict) for result in results) == 2
    await settle()
    assert len(state.services()) == 1
    assert state.domain_owner("b.org") in (None, state.domain_owner("a.org"))


async def test_domain_moves_between_services_in_one_commit(state):
    foo, bar = factories.service("foo", domains=("a.org",)), factories.service("bar", domains=("b.org",))
    await state.commit(put(foo), put(bar))
    await state.commit(put(replace(foo, domains=("b.org",))), put(replace(bar, domains=("a.org",))))
    assert state.domain_owner("a.org") == Address("bar", "app")
    assert state.domain_owner("b.org") == Address("foo", "app")


# Events


async def test_events_get_time_and_revision_in_the_transaction_that_they_tell_of(state, store):
    (event,) = await state.commit(
        put(factories.deployment()),
        events=[
            EventDraft(kind="deployment.created", deployment="foo", actor="ann", text="x", data={"a": [1]})
        ],
    )
    assert (event.revision, event.time, event.kind, event.data) == (1, NOW, "deployment.created", {"a": [1]})
    assert state.events() == [event]
    revisions = {entry.revision for entry in (await store.list(""))[0] if entry.key != "meta/schema"}
    assert len(revisions) == 1


async def test_failed_commit_leaves_no_event(state):
    racing = [state.commit(put(factories.service()), events=[EventDraft(kind=kind)]) for kind in "ab"]
    results = await asyncio.gather(*racing, return_exceptions=True)
    assert isinstance(results[1], StoreConflict)
    assert [each.kind for each in state.events()] == ["a"]


async def test_events_are_selected_by_service_and_resume_point_newest_kept(state):
    for number in range(1, 7):
        draft = EventDraft(kind=f"k{number}", deployment="foo" if number % 2 else "bar", service="app")
        await state.commit(events=[draft])
    assert [each.kind for each in state.events("foo")] == ["k1", "k3", "k5"]
    assert [each.kind for each in state.events("foo", "app", after=1)] == ["k3", "k5"]
    assert [each.kind for each in state.events(limit=2)] == ["k5", "k6"]
    assert [each.kind for each in state.events("foo", "app", limit=1)] == ["k5"]
    assert state.events("foo", "other") == []
    assert state.last_event == 6


async def test_journal_is_bounded_and_its_numbers_go_on(store):
    state = await State.open(store, journal_limit=10)
    for _ in range(10 + JOURNAL_TRIM + 5):
        await state.commit(events=[EventDraft(kind="x")])
    kept = [each.revision for each in state.events()]
    assert len(kept) <= 10 + JOURNAL_TRIM
    assert kept == list(range(kept[0], 10 + JOURNAL_TRIM + 6))
    await settle()
    assert [each.revision for each in state.events()] == kept
    await state.close()
    again = await State.open(store)
    assert [each.revision for each in again.events()] == kept
    assert (await again.commit(events=[EventDraft(kind="x")]))[0].revision == kept[-1] + 1
    await again.close()


async def test_events_of_two_processes_have_numbers_of_their_own(state, other):
    await asyncio.gather(
        *(
            where.commit(events=[EventDraft(kind="a"), EventDraft(kind="b")])
            for where in (state, other, state)
        )
    )
    await settle()
    assert [each.revision for each in state.events()] == [1, 2, 3, 4, 5, 6]
    assert [each.kind for each in other.events()] == ["a", "b"] * 3


async def test_followed_events_come_in_order_from_the_resume_point(state, other):
    drafts = [EventDraft(kind=f"k{number}", deployment="foo", service="app") for number in range(4)]
    await state.commit(events=[*drafts[:2], EventDraft(kind="elsewhere", deployment="bar")])
    stream = state.follow_events("foo", "app", after=1)
    assert (await anext(stream)).kind == "k1"
    waiting = asyncio.create_task(anext(stream))
    await settle()
    await other.commit(events=[EventDraft(kind="elsewhere", deployment="bar"), *drafts[2:]])
    assert (await waiting).kind == "k2"
    assert (await anext(stream)).kind == "k3"


async def test_following_from_now_on_starts_at_the_call(state):
    await state.commit(events=[EventDraft(kind="before")])
    stream = state.follow_events()
    await state.commit(events=[EventDraft(kind="after")])
    assert (await anext(stream)).kind == "after"


async def test_wait_for_an_event_can_be_cut_short_and_taken_up_again(state):
    stream = state.follow_events()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(anext(stream), 0.001)
    await state.commit(events=[EventDraft(kind="x")])
    assert (await anext(stream)).kind == "x"


# Changes


async def test_changes_tell_services_and_deployments_collected_while_nobody_waits(state, other):
    changes = state.changes()
    await state.commit(put(factories.deployment()), put(factories.service()))
    await state.commit(put(factories.version(1, "foo", "worker")))
    await other.commit(put(build(1, "web")))
    await settle()
    assert await anext(changes) == {("foo", ""), ("foo", "app"), ("foo", "worker"), ("foo", "web")}
    waiting = asyncio.create_task(anext(changes))
    await settle()
    await other.commit(delete(factories.service()))
    assert await waiting == {("foo", "app")}


async def test_changes_are_not_woken_by_users_keys_or_the_journal(state):
    changes = state.changes()
    await state.commit(put(User(name="ann")), events=[EventDraft(kind="x", deployment="foo", service="app")])
    await settle()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(anext(changes), 0.01)
    await state.commit(put(factories.service()))
    assert await anext(changes) == {("foo", "app")}


async def test_own_commit_wakes_once_though_the_watch_tells_it_again(state):
    changes = state.changes()
    await state.commit(put(factories.service()))
    assert await anext(changes) == {("foo", "app")}
    await settle()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(anext(changes), 0.01)


async def test_dropped_subscription_is_forgotten(state):
    subscription = state.changes()
    assert len(state._subscriptions) == 1
    del subscription
    assert len(state._subscriptions) == 0


async def test_close_ends_iterators(state):
    async def drain(stream):
        return [each async for each in stream]

    draining = [asyncio.create_task(drain(stream)) for stream in (state.changes(), state.follow_events())]
    await settle()
    await state.close()
    assert await asyncio.gather(*draining) == [[], []]
    assert await drain(state.changes()) == []


# The store behind it


async def test_foreign_changes_arrive_by_the_watch(state, other):
    await other.commit(put(factories.service(domains=("a.org",))))
    await settle()
    assert state.service("foo", "app").domains == ("a.org",)
    assert state.domain_owner("a.org") == Address("foo", "app")


class Late(MemoryStore):
    """A store whose watch is held back."""

    async def watch(self, prefix, *, after):
        self.gate = asyncio.Event()
        async for change in super().watch(prefix, after=after):
            await self.gate.wait()
            yield change


async def test_late_watch_does_not_undo_what_was_committed_since():
    store = Late()
    state = await State.open(store)
    await settle()
    app = factories.service()
    await state.commit(put(app), put(User(name="ann")))
    await state.commit(put(replace(app, uid=7)), put(User(name="ann", admin=True)))
    await state.commit(delete(app))
    await settle()
    changes = state.changes()
    store.gate.set()
    await settle()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(anext(changes), 0.01)
    assert state.services() == []
    assert state.users() == [User(name="ann", admin=True)]
    assert state._deleted == {}
    await state.close()


async def test_compacted_history_is_made_up_for_by_reading_everything_again(store):
    small = MemoryStore(keep=3)
    state = await State.open(small)
    await state.commit(put(factories.service("foo")), put(factories.service("bar")))
    await settle()
    for number in range(10):
        await small.put("services/foo/app", to_json(factories.service("foo", uid=number)))
    await small.delete("services/bar/app")
    await small.put("users/ann", to_json(User(name="ann")))
    for _ in range(5):
        await settle()
    assert [(each.deployment, each.uid) for each in state.services()] == [("foo", 9)]
    assert state.user("ann") == User(name="ann")
    assert state.problem is None
    await state.close()


class Flaky(MemoryStore):
    """A store that can be switched off."""

    down = False

    def _check_open(self) -> None:
        if self.down:
            raise StoreUnavailable("The disk is full.")
        super()._check_open()

    async def watch(self, prefix, *, after):
        async for change in super().watch(prefix, after=after):
            self._check_open()
            yield change


async def test_store_that_fails_is_named_as_a_problem_and_followed_again(monkeypatch):
    monkeypatch.setattr("controller.state.RETRY", 0)
    store = Flaky()
    state = await State.open(store)
    assert state.problem is None
    await store.put("users/ann", to_json(User(name="ann")))
    store.down = True
    for _ in range(3):
        await settle()
        assert "The disk is full." in state.problem
    with pytest.raises(StoreUnavailable):
        await state.commit(put(User(name="bob")))
    store.down = False
    await settle()
    assert state.problem is None
    assert state.user("ann") == User(name="ann")
    await state.commit(put(User(name="bob")))
    await state.close()


async def test_state_on_a_file_is_the_same_after_a_restart(tmp_path):
    store = SqliteStore(tmp_path / "state.sqlite")
    state = await State.open(store)
    changes = state.changes()
    await state.commit(put(factories.service(domains=("a.org",))), events=[EventDraft(kind="x")])
    assert await anext(changes) == {("foo", "app")}
    before = content(state)
    await state.close()
    await store.close()
    store = SqliteStore(tmp_path / "state.sqlite")
    state = await State.open(store)
    assert content(state) == before
    assert state.domain_owner("a.org") == Address("foo", "app")
    await state.commit(put(factories.service()), events=[EventDraft(kind="y")])
    assert [each.revision for each in state.events()] == [1, 2]
    await state.close()
    await store.close()


async def test_store_that_was_closed_is_a_problem(state, store):
    await settle()
    await store.close()
    await settle()
    assert state.problem == "The store was closed."


async def test_state_of_a_newer_release_is_refused(store):
    await store.put("meta/schema", {"version": 99})
    with pytest.raises(StoreUnusable, match="newer release"):
        await State.open(store)


async def test_record_that_can_not_be_read_stops_the_start_and_is_named(store):
    await store.put("services/foo/app", {"deployment": "foo"})
    with pytest.raises(StoreUnusable, match=r"services/foo/app can't be read: .*name"):
        await State.open(store)


async def test_unreadable_foreign_change_keeps_the_old_record_and_is_a_problem(state, store):
    await state.commit(put(User(name="ann")))
    await store.put("users/ann", {"admin": True})
    await settle()
    assert state.user("ann") == User(name="ann")
    assert "users/ann" in state.problem


async def test_unknown_kinds_of_keys_are_left_alone(store):
    await store.put("add-ons/db", {"plan": "small"})
    state = await State.open(store)
    await store.put("add-ons/db", {"plan": "large"})
    await settle()
    assert state.problem is None
    assert (await store.get("add-ons/db")).value == {"plan": "large"}
    await state.close()


# The mirror is the store's content, whatever happens


NAMES = st.sampled_from(["foo", "bar"])
RECORDS = st.one_of(
    st.builds(Deployment, name=NAMES, created_by=st.sampled_from(["ann", "bob"])),
    st.builds(
        Service,
        deployment=NAMES,
        name=st.sampled_from(["app", "db"]),
        domains=st.lists(st.sampled_from(["a.org", "b.org", "c.org"]), max_size=2).map(tuple),
    ),
    st.builds(factories.version, number=st.integers(1, 3), deployment=NAMES),
    st.builds(build, st.integers(1, 3)),
    st.builds(User, name=NAMES, admin=st.booleans()),
    st.builds(SshKey, name=NAMES, user=NAMES, fingerprint=st.sampled_from(["S:/", "S:+"]), public_key=NAMES),
    st.builds(Token, id=NAMES, user=NAMES, sha256=NAMES),
)
COMMITS = st.tuples(
    st.integers(0, 1),
    st.lists(
        st.builds(lambda make, record: make(record), st.sampled_from([put, put, delete]), RECORDS), max_size=3
    ),
    st.lists(st.builds(EventDraft, kind=NAMES, deployment=NAMES), max_size=2),
    st.booleans(),
)


def content(state: State) -> dict[str, object]:
    everything = [
        *state.deployments(),
        *state.services(),
        *(each for d in ("foo", "bar") for each in state.versions(d, "app")),
        *state.builds(),
        *state.users(),
        *state.keys(),
        *state.tokens(),
    ]
    return {key_of(each): each for each in everything} | {
        f"events/{e.revision:012d}": e for e in state.events()
    }


async def stored(store: Store, like: dict[str, object]) -> dict[str, object]:
    entries, _ = await store.list("")
    kept = {each.key: each.value for each in entries if each.key.partition("/")[0] not in ("meta", "domains")}
    return {key: from_json(type(like[key]), value) if key in like else value for key, value in kept.items()}


@settings(max_examples=60, deadline=None)
@given(st.lists(COMMITS, max_size=12))
async def test_mirror_equals_the_store_after_any_commits_of_two_processes(commits):
    store = MemoryStore()
    states = [await State.open(store, journal_limit=3) for _ in range(2)]
    for which, steps, drafts, wait in commits:
        with suppress(StoreConflict, ValueError):  # a lost race; one record twice in a commit
            await states[which].commit(*steps, events=drafts)
        if wait:
            await settle()
    await settle()
    for state in states:
        assert content(state) == await stored(store, content(state))
        owners = {domain: Address(s.deployment, s.name) for s in state.services() for domain in s.domains}
        assert {domain: state.domain_owner(domain) for domain in owners} == owners
        domains, _ = await store.list("domains/")
        assert {each.key.partition("/")[2] for each in domains} == set(owners)
        assert state.problem is None
        assert state._deleted == {}
        await state.close()
    await store.close()


async def test_holders_of_a_slug_are_counted_over_all_services() -> None:
    state = await State.open(MemoryStore())
    first, second = factories.version(1), factories.version(1, service="other")
    await state.commit(
        put(factories.service()), put(factories.service(name="other")), put(first), put(second)
    )
    assert state.count_holders("a" * 64) == 2
    await state.commit(put(replace(first, artifact=factories.slug("b" * 64))))
    assert (state.count_holders("a" * 64), state.count_holders("b" * 64)) == (1, 1)
    await state.commit(delete(second))
    assert state.count_holders("a" * 64) == 0
    assert state.count_versions("foo", "app") == 1
    await state.close()
