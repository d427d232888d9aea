"""The infrastructure file: scale and domains of each deployment."""

from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.servicefile.complaints import NotAServiceFile
from controller.servicefile.document import Infra
from controller.servicefile.infra import read_infra

FILE = """\
production:
    scale: {website: {web: 3, worker: 2}, redis: 1}
    domains: {Example.org: website, www.example.org: production:website}
staging:
    domains: {staging.example.org: website}
empty:
"""


def read(text: str, deployment: str = "production") -> Infra:
    return read_infra(text, name="Infrafile", deployment=deployment)


def errors(text: str, deployment: str = "production") -> list[str]:
    with pytest.raises(NotAServiceFile) as raised:
        read(text, deployment)
    return list(map(str, raised.value.errors))


def test_each_deployment_has_its_own() -> None:
    assert read(FILE) == Infra(
        scale={"website": {"web": 3, "worker": 2}, "redis": {"web": 1}},
        domains={"example.org": "website", "www.example.org": "website"},
    )
    assert read(FILE, "staging") == Infra(domains={"staging.example.org": "website"})
    assert read(FILE, "empty") == Infra()


def test_one_that_is_not_there_is_told() -> None:
    assert errors(FILE, "stagin") == [
        "Infrafile:1:1: It says nothing of stagin. It knows production, staging, empty. Did you mean staging?"
    ]
    assert errors("") == ["Infrafile:1:1: It says nothing of production. There is nothing in it."]


def test_all_that_is_wrong_is_told_with_its_place() -> None:
    wrong = """\
production:
    scale:
        website: {web: -1}
        redis: many
        Other: 1
    domains:
        example.org: staging:website
        a b: website
    hosts: [web-1]
    scales: 1
staging: 3
"""
    told = errors(wrong)
    assert [each.split(" ")[0] for each in told] == [
        f"Infrafile:{line}:{column}:"
        for line, column in [(3, 9), (4, 9), (5, 9), (7, 9), (8, 9), (9, 5), (10, 5), (11, 10)]
    ]
    assert "Did you mean scale?" in told[6]


names = st.sampled_from(["production", "scale", "domains", "website", "web", "example.org", "A b", ""])
values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 200) | st.sampled_from(["website", "x:y", "3"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(names, inner, max_size=3),
    max_leaves=10,
)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(names, values, max_size=2))
def test_anything_is_read_or_refused_in_words(content: Any) -> None:
    try:
        read(yaml.safe_dump(content))
    except NotAServiceFile as error:
        assert all(each.text and each.place.line >= 1 for each in error.errors)
