"""What a service file says, in the forms that people write, and what is told where it says nothing good."""

import os
import re
from pathlib import Path
from typing import Any

import pytest

from controller.errors import InvalidInput
from controller.servicefile.complaints import NotAServiceFile
from controller.servicefile.document import ServiceFile
from controller.servicefile.parse import Reading, read_servicefile
from controller.servicefile.render import render

HERE = Path(__file__).parent


def read(text: str, **options: Any) -> ServiceFile:
    return read_servicefile(text, **options).file


def service(text: str, **options: Any) -> Any:
    """The keys of the one service `web` that has these lines."""
    lines = "".join(f"    {line}\n" for line in text.splitlines())
    return read(f"web:\n{lines}", **options).services["web"]


def warnings(text: str) -> list[str]:
    return list(map(str, read_servicefile(text).warnings))


def errors(text: str, **options: Any) -> list[str]:
    with pytest.raises(NotAServiceFile) as raised:
        read_servicefile(text, **options)
    return list(map(str, raised.value.errors))


def files(**texts: str) -> Any:
    """Loads these; `__` stands for a dot and `_in_` for a slash."""
    by_path = {name.replace("_in_", "/").replace("__", "."): text for name, text in texts.items()}

    def load(path: str) -> str:
        if path not in by_path:
            raise InvalidInput("file", f"{path} can't be read: No such file or directory.")
        return by_path[path]

    return load


class TestSeed:
    def test_the_file_of_the_readme(self) -> None:
        found = read(
            "Env:\n    BRANDING: Company Ltd.\n\n"
            "redis:\n    image: rock77/redis\n    volumes: {data: /srv/redis}\n\n"
            "website:\n    image: rock77/website\n    cmd: /bin/runserver\n"
        )
        assert found == ServiceFile(
            globals={"Env": {"BRANDING": "Company Ltd."}},
            services={
                "redis": {"image": "rock77/redis", "volumes": {"data": "/srv/redis"}},
                "website": {"image": "rock77/website", "command": "/bin/runserver"},
            },
        )

    def test_its_domains(self) -> None:
        found = read(
            "Domains:\n    example.org:\n        http: example:app\n    staging.example.org:\n"
            "        http: example-staging:app\n        auth: {'internal': 'secret'}\n"
        )
        assert found.globals["Domains"]["staging.example.org"]["auth"] == {"internal": "secret"}

    def test_a_service_is_named_after_its_image(self) -> None:
        assert read("company/redis:\ncompany/web:v2:\n  cmd: x\n").services == {
            "redis": {"image": "company/redis"},
            "web": {"image": "company/web:v2", "command": "x"},
        }


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("image: a\ncmd: run server", {"image": "a", "command": "run server"}),
        ("cmd: [run, 'two words', 3, true]", {"command": "run 'two words' 3 true"}),
        ("cmd: serve {PORT}", {"command": "serve ${PORT}"}),
        ("cmd: ['--port={PORT}', 'a b']", {"command": "--port=\"${PORT}\" 'a b'"}),
        ("cmd: 'serve {{PORT}} ${PORT}'", {"command": "serve {PORT} ${PORT}"}),
        ("entrypoint: run 'a b'", {"entrypoint": ["run", "a b"]}),
        ("entrypoint: [run, a b]", {"entrypoint": ["run", "a b"]}),
        ("port: 80", {"ports": {"": 80}}),
        ("port: assign", {"ports": {"": "assign"}}),
        ("ports: {http: 80, rpc: assign}", {"ports": {"http": 80, "rpc": "assign"}}),
        ("ports: [http, rpc]", {"ports": {"http": "assign", "rpc": "assign"}}),
        ("wan_map: {80: ''}", {"wan_map": {":80": ""}}),
        (
            "ports: [http, https]\nwan_map: {':80': http, '192.0.2.1:443': https}",
            {
                "ports": {"http": "assign", "https": "assign"},
                "wan_map": {":80": "http", "192.0.2.1:443": "https"},
            },
        ),
        ("require: db", {"require": ["db"]}),
        ("require: [db, cache, db]", {"require": ["db", "cache"]}),
        ("expose: {DB: postgres}", {"expose": {"DB": "postgres"}}),
        ("privileged: true", {"privileged": True}),
        ("privileged: false", {}),
        ("process: worker", {"process": "worker"}),
        ("git: .", {"git": "."}),
        ("volumes: {data: /srv/data}", {"volumes": {"data": "/srv/data"}}),
        (
            "volumes: {data: {path: /srv/data}, more: /srv/more}",
            {"volumes": {"data": "/srv/data", "more": "/srv/more"}},
        ),
        ("volumes: {data: {path: /srv/data/, backup: }}", {"volumes": {"data": "/srv/data"}}),
        (
            "volumes: {data: {path: /srv/data, backup: 0 3  * * *}}",
            {"volumes": {"data": {"path": "/srv/data", "backup": "0 3 * * *"}}},
        ),
        (
            "volumes: {data: {path: /d, backup: {schedule: 0 3 * * *, keep: '3'}}}",
            {"volumes": {"data": {"path": "/d", "backup": {"schedule": "0 3 * * *", "keep": 3}}}},
        ),
        ("cmd:", {}),
        ("health: /up", {"health": "/up"}),
    ],
)
def test_short_and_long_forms(text: str, keys: Any) -> None:
    assert service(text) == keys


def test_values_of_variables_are_texts_as_they_were_written() -> None:
    text = "env: {VERSION: 1.10, MODE: 0755, DEBUG: on, DAY: 2026-01-01, E: '', Y: yes, Q: \"no\", N: 1_000}"
    assert service(text)["env"] == {
        "VERSION": "1.10", "MODE": "0755", "DEBUG": "on", "DAY": "2026-01-01", "E": "", "Y": "yes", "Q": "no",
        "N": "1_000",
    }  # fmt: skip


def test_variables_of_all_services_and_of_one() -> None:
    found = read("Env:\n  A: 1\n  web: {B: 2, C: 3}\nweb: {image: a, env: {C: 4}}\nredis: {image: b}\n")
    assert found.globals == {"Env": {"A": "1"}}
    assert found.services["web"]["env"] == {"B": "2", "C": "4"}
    assert "env" not in found.services["redis"]


def test_merge_keys_and_anchors() -> None:
    found = read("a: &base {image: a, env: {X: 1}}\nb: {<<: *base, cmd: run}\n").services
    assert found["b"] == {"image": "a", "env": {"X": "1"}, "command": "run"}


class TestVariables:
    def test_they_are_put_in_and_other_braces_stay(self) -> None:
        found = read(
            "Vars: {TAG: v2, NAME: '{DEPLOY_ID}-x'}\nDomains: {'{DEPLOY_ID}.example.org': 'web'}\n"
            "web:\n  image: company/web:{TAG}\n  cmd: 'echo ${TAG} {other} {} {TAG}'\n"
            "  env: {'A_{TAG}': '{{TAG}} {NAME}', J: '{\"a\": {\"b\": 1}}'}\n",
            deployment="shop",
        )
        assert found.services["web"] == {
            "image": "company/web:v2",
            "command": "echo ${TAG} {other} {} v2",
            "env": {"A_v2": "{TAG} shop-x", "J": '{"a": {"b": 1}}'},
        }
        assert found.globals == {"Domains": {"shop.example.org": {"http": "web"}}}

    def test_given_ones_win(self) -> None:
        assert service("image: a:{TAG}\n", variables={"TAG": "v9"})["image"] == "a:v9"
        assert (
            read("Vars: {T: 1}\nweb: {image: 'a:{T}'}", variables={"T": "2"}).services["web"]["image"]
            == "a:2"
        )

    def test_those_of_the_server_are_not_chosen(self) -> None:
        assert errors("Vars: {PORT: 1}\nweb: {image: a}") == [
            "Servicefile:1:8: The variable PORT is given by the server: choose another name."
        ]

    def test_a_flood_of_them_is_refused(self) -> None:
        text = f"Vars: {{V: {'x' * 1000}}}\nweb: {{image: a, env: {{A: '{'{V}' * 10_000}'}}}}"
        assert "larger than a service file may be" in errors(text)[0]


class TestIncludes:
    def test_they_are_merged_below_the_file(self) -> None:
        load = files(
            common__yml="Env: {A: 1, B: 1}\nredis: {image: redis:6, env: {X: 1}}\nIncludes: more/base.yml\n",
            more_in_base__yml="Env: {B: 0, C: 0}\ndb: {image: db}\nIncludes: [next.yml]\n",
            more_in_next__yml="db: {cmd: run}\n",
        )
        found = read("Includes: [common.yml]\nEnv: {A: 2}\nredis: {image: redis:7}\n", load=load)
        assert found.globals == {"Env": {"A": "2", "B": "1", "C": "0"}}
        assert found.services == {
            "redis": {"image": "redis:7", "env": {"X": "1"}},
            "db": {"image": "db", "command": "run"},
        }

    def test_later_ones_win(self) -> None:
        load = files(a__yml="web: {image: a}", b__yml="web: {image: b}")
        assert read("Includes: [a.yml, b.yml]", load=load).services == {"web": {"image": "b"}}

    def test_the_same_file_twice_is_no_circle(self) -> None:
        load = files(a__yml="Includes: c.yml", b__yml="Includes: c.yml", c__yml="web: {image: c}")
        assert read("Includes: [a.yml, b.yml]", load=load).services == {"web": {"image": "c"}}

    def test_a_circle_is_refused_with_the_way_around(self) -> None:
        load = files(a__yml="Includes: b.yml", b__yml="Includes: [./Servicefile]")
        assert errors("Includes: a.yml\n", load=load) == [
            "b.yml:1:12: The includes go in a circle: Servicefile includes a.yml includes b.yml includes Servicefile. "
            "Take one of them out."
        ]

    @pytest.mark.parametrize("path", ["../common.yml", "/etc/passwd", "a/../../b.yml", ".."])
    def test_nothing_outside_of_the_folder(self, path: str) -> None:
        (told,) = errors(f"Includes: {path}\nweb: {{image: a}}", load=files())
        assert told.startswith("Servicefile:1:11: ")
        assert "lies outside of the folder of the service file" in told

    def test_but_where_the_user_says_so(self) -> None:
        load = {"../shared/base.yml": "web: {image: base}"}.__getitem__
        text = "Includes: ../shared/base.yml"
        assert read(text, name="Servicefile", load=load, allowed=["../shared"]).services == {
            "web": {"image": "base"}
        }

    def test_relative_to_where_it_stands(self) -> None:
        load = {"deploy/more/a.yml": "web: {image: a}"}.__getitem__
        assert read("Includes: more/a.yml", name="deploy/Servicefile", load=load).services == {
            "web": {"image": "a"}
        }

    def test_a_missing_one_is_told_where_it_is_named(self) -> None:
        (told,) = errors("\nIncludes:\n  - none.yml\n", load=files())
        assert told.startswith("Servicefile:3:5: none.yml can't be read")

    def test_errors_name_the_file_that_they_are_in(self) -> None:
        assert errors("Includes: a.yml", load=files(a__yml="\nweb: {port: x}"))[0].startswith("a.yml:2:13: ")


def test_the_guides_passwords_are_read_without_a_complaint() -> None:
    page = (Path(__file__).parents[4] / "contrib" / "servicefile.md").read_text()
    (example,) = re.findall(r"```yaml passwords\n(.*?)```", page, re.DOTALL)
    reading = read_servicefile(f"{example}website: {{image: a}}\n", deployment="shop")
    assert reading.warnings == ()
    auth = [each["auth"] for each in reading.file.globals["Domains"].values()]
    assert auth == [{"joe": "correct horse", "kim": "{KimsPassword}"}, {"reader": "battery staple"}]


def test_passwords_are_texts_as_they_are_written() -> None:
    section = read(
        "Domains: {x.org: {http: web, auth: {joe: 0755, 1: on, kim: 1.10}}}\nweb: {image: a}"
    ).globals
    assert section["Domains"]["x.org"]["auth"] == {"joe": "0755", "1": "on", "kim": "1.10"}


class TestWarnings:
    @pytest.mark.parametrize(
        ("text", "told"),
        [
            (
                "web: {image: a, comand: x}",
                "Servicefile:1:17: comand is no key that is known here. Did you mean command?",
            ),
            (
                "web: {image: a, colour: x}",
                "Servicefile:1:17: colour is no key that is known here. It is kept for plugins",
            ),
            ("web: {image: a, scale: 2}", "how many run is no part of the file: `ps:scale`"),
            (
                "Domain: {a: b}\nweb: {image: a}",
                "Domain is no section that is known here. Did you mean Domains?",
            ),
            (
                "Exec: {Init: {service: weeb, cmd: a}}\nweb: {image: a}",
                "Servicefile:1:8: weeb is required, and is no service of the file. Did you mean web?",
            ),
            (
                "env: {image: b}",
                "env is read as a service, as it begins with a small letter. Did you mean Env?",
            ),
            (
                "Web: {image: a}",
                "Web is no section that is known here. A service has a name of small letters.",
            ),
            ("web: {cmd: x}", "web has neither image nor git: it waits for a push."),
            ("web: {image: a, env: {A: '{PORT}'}}", "{PORT} is not known before an instance starts"),
            (
                "web: {image: a, require: rediss}\nredis: {image: b}",
                "rediss is required, and is no service of the file.",
            ),
        ],
    )
    def test_they_say_what_becomes_of_it(self, text: str, told: str) -> None:
        assert any(told in each for each in warnings(text)), warnings(text)

    def test_unknown_keys_are_kept(self) -> None:
        assert service("image: a\ncolour: {deep: [1, 2.5, true, null]}") == {
            "image": "a",
            "colour": {"deep": [1, 2.5, True, None]},
        }
        assert read("Other: {a: 1}\nweb: {image: a}").globals == {"Other": {"a": 1}}


GOLDEN = HERE / "golden"


@pytest.mark.parametrize("case", sorted(GOLDEN.glob("*.yml")), ids=lambda each: each.stem)
def test_what_is_told_of_a_file_is_what_was_always_told(case: Path) -> None:
    """With MOOR_WRITE_GOLDEN=1 the kept words are written anew, to be read in the diff."""
    try:
        reading: Reading = read_servicefile(case.read_text(), name=case.name, deployment="shop")
        said = [*(f"warning {each}" for each in reading.warnings), "", render(reading.file)]
    except NotAServiceFile as error:
        said = [f"error {each}" for each in error.errors] + [""]
    text = "\n".join(said)
    kept = case.with_suffix(".txt")
    if os.environ.get("MOOR_WRITE_GOLDEN"):
        kept.write_text(text)
    assert text == kept.read_text()


def test_each_mistake_is_told_as_people_read_it() -> None:
    """`mistakes/` has a file for each. With MOOR_WRITE_GOLDEN=1 the kept words are written anew."""
    cases = sorted((HERE / "mistakes").glob("*.yml"))
    text = "\n".join(line for case in cases for line in _told(case)) + "\n"
    kept = HERE / "mistakes" / "told.txt"
    if os.environ.get("MOOR_WRITE_GOLDEN"):
        kept.write_text(text)
    assert text == kept.read_text()


def _told(case: Path) -> list[str]:
    text = case.read_text()
    load = files(**{case.name.replace(".", "__"): text})
    try:
        found = read_servicefile(text, name=case.name, deployment="shop", load=load)
    except NotAServiceFile as error:
        return [f"error {each}" for each in error.errors]
    return [f"warning {each}" for each in found.warnings]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "There is nothing in it"),
        ("- a", "A service file is a mapping of services"),
        ("just words", "A service file is a mapping of services"),
        ("a: {image: a}\n---\nb: {image: b}", "Here a second document begins"),
        ("a: *nothing", "*nothing stands for nothing that was named before it"),
        ("a: &x {b: *x}", "*x stands for nothing that was named before it"),
        ("a: " + "[" * 30 + "]" * 30, "nested more than 16 levels deep"),
        ("a: " + "[" * 50_000, "This is no valid YAML"),
        ("x" * (1024**2 + 1), "larger than 1024 KiB"),
        ("a: {image: !!python/object:os.system x}", "means nothing here"),
        ("a: {k: .nan}", "no number that can be kept"),
        ("a: {k: 99999999999999999999}", "too large"),
        ("a: {k: 0b}", ""),
        ('a: {k: "\\0"}', "zero byte"),
        ("a: {? [x] : y}", "A key must be a text"),
        ("web: redis", "web must be a mapping, as in {image: redis}"),
        ("Env: [A=1]", "Env must map names to values"),
        ("web: {image: a, env: [A=1]}", "env must map names to values"),
        ("web: {image: a, git: .}", "web has an image and git"),
        ("web: {image: {TAG}}", "In YAML {TAG} is a mapping: put it in quotes"),
        ("company/web:\nweb: {image: b}", "The service web is there twice"),
        ("Env: {wbe: {A: 1}}\nweb: {image: a}", "wbe, which is no service here. Did you mean web?"),
    ],
)
def test_what_is_no_service_file(text: str, told: str) -> None:
    try:
        read_servicefile(text)
    except NotAServiceFile as error:
        assert told in str(error)
    else:
        assert not told


def test_aliases_that_stand_for_a_lot_are_refused_at_once() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{each}: &a{each} [{', '.join([f'*a{each - 1}'] * 10)}]" for each in range(1, 9)]
    assert "more than a service file may hold" in errors("\n".join(lines))[0]


def test_many_errors_are_told_by_their_number() -> None:
    text = "\n".join(f"s{each}: {{port: x}}" for each in range(50))
    with pytest.raises(NotAServiceFile) as raised:
        read_servicefile(text)
    assert str(raised.value).splitlines()[-1] == "… and 30 more."


def test_generate_is_checked_where_it_stands() -> None:
    text = "Vars: {Taken: x}\nGenerate: {Key: 32, Taken: 1, Long: 5000, Other: {hex: 8}, Same: null}\nweb: {image: a}\n"
    with pytest.raises(NotAServiceFile) as refused:
        read_servicefile(text)
    assert [str(each) for each in refused.value.errors] == [
        "Servicefile:2:21: Taken is a variable already: choose another name.",
        "Servicefile:2:37: Long must be a number of random bytes from 1 to 1024, as in {hex: 32}.",
    ]
    assert not read_servicefile("Generate: {Key: 32, Other: {hex: 8}}\nweb: {image: a}\n").warnings


def test_exec_is_checked_where_it_stands() -> None:
    text = (
        "Exec:\n  Init: {service: web}\n  Seed: {cmd: a}\n  a b: {service: web, cmd: a}\n"
        "  More: {service: web, cmd: a, when: now}\n"
        "  Good: {service: web, cmd: [a, b c], require: Init}\nweb: {image: a}\n"
    )
    with pytest.raises(NotAServiceFile) as refused:
        read_servicefile(text)
    assert [str(each) for each in refused.value.errors] == [
        "Servicefile:2:9: Init: cmd is missing: the command that is to be run.",
        "Servicefile:3:9: Seed: service must be the service in whose code it runs.",
        "Servicefile:4:8: 'a b' is no name for a command: use at most 40 letters, digits, _ and -.",
        "Servicefile:5:9: More: 'when' is unknown. Known are service, cmd, command, require.",
    ]


def test_what_expose_can_not_mean_is_told() -> None:
    text = (
        "mail: {image: mail, ports: {smtp: 25}}\n"
        "web: {image: web, env: {MAIL_HOST: mine}, expose: {MAIL: 'mail:smpt', DB: mial}}\n"
    )
    assert warnings(text) == [
        "Servicefile:2:43: mail has no port smpt in its ports. Did you mean smtp?",
        "Servicefile:2:43: MAIL_HOST of env has no effect: expose gives that variable another value.",
        "Servicefile:2:43: mial is to be reached (expose), and is no service of the file. Did you mean mail?",
    ]
    assert "DB_HOST is a part of DB already" in errors("web: {image: web, expose: {DB: a, DB_HOST: b}}\n")[0]
