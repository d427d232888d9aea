"""The deciding parts of the python buildpack's compile step; the contract suite runs it for real."""

import importlib.util
import json

import pytest

from builder.buildpack import BUNDLED


@pytest.fixture(scope="module")
def program():
    spec = importlib.util.spec_from_file_location("python_compile", BUNDLED / "python/compile.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write(folder, **files):
    for name, content in files.items():
        (folder / name.replace("_txt", ".txt").replace("_toml", ".toml").replace("_py", ".py")).write_text(
            content
        )
    return folder


@pytest.mark.parametrize(
    ("file", "content", "version"),
    [
        (".python-version", "3.11\n", "3.11"),
        (".python-version", "# ours\n\n3.12.4\n", "3.12"),
        (".python-version", "python-3.11", "3.11"),
        ("runtime.txt", "python-3.10.2\n", "3.10"),
    ],
)
def test_a_wanted_version_is_read(program, tmp_path, file, content, version):
    (tmp_path / file).write_text(content)
    assert program.wanted_version(tmp_path) == (version, file)


@pytest.mark.parametrize(
    ("file", "content"), [(".python-version", "pypy3.9"), ("runtime.txt", "3.11"), ("runtime.txt", "")]
)
def test_a_version_that_means_nothing_is_refused(program, tmp_path, file, content):
    (tmp_path / file).write_text(content)
    with pytest.raises(program.Refused, match=file):
        program.wanted_version(tmp_path)


def test_a_version_that_is_not_here_is_refused_with_those_that_are(program, monkeypatch):
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    with pytest.raises(program.Refused, match=r"runtime.txt asks for Python 2\.7.*It has"):
        program.find_python(("2.7", "runtime.txt"))


@pytest.mark.parametrize(
    ("files", "arguments"),
    [
        ({}, None),
        ({"requirements_txt": "# none\n\n"}, None),
        ({"requirements_txt": "flask\n", "pyproject_toml": "[project]\n"}, ["-r", "requirements.txt"]),
        ({"pyproject_toml": "[tool.ruff]\n"}, None),
        ({"pyproject_toml": "[project]\nname='x'\n"}, ["-r", "pyproject.toml"]),
        ({"pyproject_toml": "[build-system]\n[project]\n"}, ["."]),
        ({"setup_py": "x"}, ["."]),
    ],
)
def test_what_is_installed_follows_from_the_files(program, tmp_path, files, arguments):
    assert program.requirements(write(tmp_path, **files), {}) == arguments


def test_a_pipfile_alone_is_refused_with_the_way_out(program, tmp_path):
    with pytest.raises(program.Refused, match="pipenv lock"):
        program.requirements(write(tmp_path, Pipfile=""), {})


def pipfile_lock(program, folder, packages, sources=()):
    content = {"_meta": {"sources": [{"url": url} for url in sources]}, "default": packages}
    (folder / "Pipfile.lock").write_text(json.dumps(content))
    told = program.requirements(folder, {"TMPDIR": str(folder)})
    return told and (folder / "locked.txt").read_text().splitlines()


@pytest.mark.parametrize(
    ("entry", "line"),
    [
        ({"version": "==1.16.0"}, "six==1.16.0"),
        ({"version": "*"}, "six"),
        ({"version": "==1", "extras": ["a", "b"]}, "six[a,b]==1"),
        ({"version": "==1", "markers": "os_name == 'nt'"}, "six==1 ; os_name == 'nt'"),
        (
            {"version": "==1", "hashes": ["sha256:ab", "sha256:cd"]},
            "six==1 --hash=sha256:ab --hash=sha256:cd",
        ),
        ({"git": "https://example.org/x", "ref": "ab12"}, "six @ git+https://example.org/x@ab12"),
        ({"file": "https://example.org/six.whl"}, "six @ https://example.org/six.whl"),
        ({"path": "./six", "editable": True}, "./six"),
    ],
)
def test_a_lockfile_of_pipenv_is_read(program, tmp_path, entry, line):
    assert pipfile_lock(program, tmp_path, {"six": entry}) == [line]


@pytest.mark.parametrize(
    ("sources", "lines"),
    [
        (["https://pypi.org/simple"], []),
        (["https://a.example/s", "https://b.example/s"], ["--index-url https://a.example/s"]),
        (["https://pypi.org/simple/", "https://b.example/s"], []),
    ],
)
def test_indexes_of_pipenv_count(program, tmp_path, sources, lines):
    found = pipfile_lock(program, tmp_path, {"six": {"version": "==1"}}, sources)
    others = [f"--extra-index-url {url}" for url in sources if "b.example" in url]
    assert found == [*lines, *others, "six==1"]


@pytest.mark.parametrize(
    "packages", [{"-r /etc/passwd": {}}, {"six": "==1"}, {"six": {"version": "==1\n--index-url x"}}, []]
)
def test_a_lockfile_that_pipenv_would_not_write_is_refused(program, tmp_path, packages):
    with pytest.raises(program.Refused, match=r"Pipfile\.lock"):
        pipfile_lock(program, tmp_path, packages)


def test_a_lockfile_without_packages_installs_nothing(program, tmp_path):
    assert pipfile_lock(program, tmp_path, {}) is None


@pytest.mark.parametrize(
    ("text", "files", "answer"),
    [
        ('[build-system]\n[project]\nname = "my-app"\n', ["src/my_app/x"], True),
        ('[build-system]\n[project]\nname = "my-app"\n', ["app.py"], False),
        ('[build-system]\n[tool.poetry]\nname = "app"\npackage-mode = false\n', ["app/x"], False),
        (
            '[build-system]\n[tool.poetry]\nname = "app"\npackages = [{include = "other"}]\n',
            ["other/x"],
            True,
        ),
        ('[tool.poetry]\nname = "app"\n', ["app/x"], False),
    ],
)
def test_an_app_of_poetry_is_installed_where_it_is_a_package(program, tmp_path, text, files, answer):
    write(tmp_path, pyproject_toml=text)
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert program.locks.is_package_of_poetry(tmp_path) is answer


@pytest.mark.parametrize(
    ("line", "needed"),
    [('requires-python = ">=3.10,<4"', ">=3.10,<4"), ("requires-python='~= 3.11'", "~= 3.11"), ("x = 1", "")],
)
def test_the_range_of_the_project_counts(program, tmp_path, line, needed):
    assert program.needed_range(write(tmp_path, pyproject_toml=f"[project]\n{line}\n")) == needed


def test_another_comment_needs_no_other_virtualenv(program, tmp_path):
    keys = {
        program.cache_key(write(tmp_path, requirements_txt=text), ["-r", "requirements.txt"], "p", "3", {})
        for text in ("flask\n", "# made at noon\nflask\n")
    }
    assert len(keys) == 1


@pytest.mark.parametrize(
    "line",
    [
        "flask",
        "flask==3.1",
        "uvicorn[standard]>=0.3,<1",
        "a~=1 ; python_version<'4'",
        "b==1 \\",
        "--hash=sha256:ab",
        "c # why",
        "--extra-index-url https://example.org/simple",
    ],
)
def test_a_virtualenv_is_used_again_for_plain_requirements(program, tmp_path, line):
    write(tmp_path, requirements_txt=f"{line}\n")
    assert program.cache_key(tmp_path, ["-r", "requirements.txt"], "p", "3.11.2", {})


@pytest.mark.parametrize(
    "line",
    [
        "-r other.txt",
        "-e .",
        ".",
        "./lib",
        "git+https://example.org/x",
        "x @ https://example.org/x.whl",
        "-c limits.txt",
    ],
)
def test_a_virtualenv_is_made_anew_for_what_can_change_by_itself(program, tmp_path, line):
    write(tmp_path, requirements_txt=f"flask\n{line}\n")
    assert not program.cache_key(tmp_path, ["-r", "requirements.txt"], "p", "3.11.2", {})


def test_another_interpreter_requirement_or_index_needs_another_virtualenv(program, tmp_path):
    def key(text="flask", version="3.11.2", **env):
        write(tmp_path, requirements_txt=text)
        return program.cache_key(tmp_path, ["-r", "requirements.txt"], "p", version, env)

    keys = {key(), key("flask==3"), key(version="3.11.3"), key(UV_DEFAULT_INDEX="x"), key(OTHER="x")}
    assert len(keys) == 4


def test_the_apps_variables_reach_pip_but_not_the_interpreter(program, tmp_path, monkeypatch):
    for name in ("TOKEN", "PYTHONPATH", "LD_PRELOAD", "PATH", "PIP_INDEX_URL"):
        (tmp_path / name).write_text("given")
    monkeypatch.setattr("os.environ", {"PATH": "/bin"})
    environment = program.build_environment(tmp_path, tmp_path)
    assert environment["TOKEN"] == environment["UV_DEFAULT_INDEX"] == "given"
    assert environment["PATH"] == "/bin"
    assert "PYTHONPATH" not in environment and "LD_PRELOAD" not in environment


def test_the_apps_index_wins_over_the_servers(program, tmp_path, monkeypatch):
    (tmp_path / "PIP_INDEX_URL").write_text("app")
    (tmp_path / "STACK").write_text("app")
    monkeypatch.setattr("os.environ", {"UV_DEFAULT_INDEX": "server", "STACK": "host"})
    environment = program.build_environment(tmp_path, tmp_path)
    assert (environment["UV_DEFAULT_INDEX"], environment["STACK"]) == ("app", "host")
