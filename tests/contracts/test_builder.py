"""What every builder promises, run against each; then what only the host builder does, for real."""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from builder.base import BuilderUnavailable, BuildFailed
from builder.memory import MemoryBuilder
from builder.slugs import SlugStore
from tests.contracts.building import MARK, UID, Place, docker_builder, host_builder, run
from tests.unit.builder.printed import Printed


@pytest.fixture(
    params=["memory", *(pytest.param(name, marks=pytest.mark.real) for name in ("host", "docker"))]
)
async def place(request, folder):
    place = Place(folder)
    if request.param != "memory":
        place.builder = {"host": host_builder, "docker": docker_builder}[request.param](place)
    yield place
    await place.builder.close()


# What every builder promises


async def test_a_procfile_app_is_detected_and_built(place):
    source = place.source(Procfile="web: ./run\nworker: ./work\n")
    verdicts = await place.inspect(place.source(Procfile="web: x"))
    assert [(each.buildpack, each.words) for each in verdicts if each.builds] == [("procfile", "Procfile")]
    artifact, out = await place.build(source)
    assert artifact.process_types == {"web": "./run", "worker": "./work"}
    assert artifact.buildpack == "Procfile"
    assert artifact.size > 0
    assert ("step", "Procfile app detected") in out.lines
    assert ("line", "Procfile declares types -> web, worker") in out.lines


async def test_what_nobody_knows_is_looked_at_by_all_and_gone_afterwards(place):
    verdicts = await place.inspect(place.source(README="x"))
    assert verdicts and not any(each.matched or each.builds for each in verdicts)
    assert all(each.words for each in verdicts)
    assert place.leftovers() == []


async def test_the_same_source_gives_the_same_reference(place):
    first, _ = await place.build(place.source(Procfile="web: x"))
    second, _ = await place.build(place.source(Procfile="web: x"))
    third, _ = await place.build(place.source(Procfile="web: y"))
    assert first.reference == second.reference != third.reference


async def test_the_source_is_gone_after_success_and_failure(place):
    source = place.source(Procfile="web: x")
    await place.build(source)
    assert not source.exists()
    source = place.source(Procfile="not a procfile")
    with pytest.raises(BuildFailed, match="Procfile line 1"):
        await place.build(source)
    assert not source.exists()
    assert place.leftovers() == []


async def test_source_that_nobody_knows_fails_with_the_way_out(place):
    with pytest.raises(BuildFailed, match="Procfile"):
        await place.build(place.source(README="x"))
    with pytest.raises(BuildFailed):
        await place.build(place.source())


async def test_a_procfile_of_a_megabyte_is_refused(place):
    with pytest.raises(BuildFailed, match="larger than 64 KB"):
        await place.build(place.source(Procfile="web: x\n" * 150_000))


async def test_closing_with_nothing_to_end_is_fine(place):
    await place.builder.close()


async def test_the_memory_builder_can_misbehave(folder):
    place = Place(folder)
    builder = place.builder = MemoryBuilder()
    builder.failure = "no"
    with pytest.raises(BuildFailed, match="no"):
        await place.build(place.source(Procfile="web: x"))
    builder.failure, builder.outage = None, "down"
    with pytest.raises(BuilderUnavailable, match="down"):
        await place.build(place.source(Procfile="web: x"))
    builder.outage, builder.hang = None, True
    with pytest.raises(BuildFailed, match="longer than"):
        await place.build(place.source(Procfile="web: x"), timeout=0.01)
    task = asyncio.create_task(place.build(place.source(Procfile="web: x")))
    await asyncio.sleep(0)
    await builder.close()
    assert task.cancelled()
    assert place.leftovers() == []


# The host builder: what its processes see


@pytest.mark.real
async def test_a_buildpack_gets_the_classic_arguments_and_a_clean_environment(scripted, monkeypatch):
    monkeypatch.setenv("SERVER_SECRET", "hidden")
    script = 'echo "args $1 $2 $3"; cat "$3/APP_VAR"; echo; env | sort; id -u; umask; pwd; ls -l /proc/self/fd | wc -l'
    _, out = await scripted.build(
        scripted.source(build_sh=script, Procfile="web: x"), env={"APP_VAR": "a\nb"}
    )
    build = scripted.folder / "builds/build1.tmp"
    printed = out.text.splitlines()
    assert f"args {build}/build {scripted.folder}/caches/foo/app {build}/env" in printed
    assert f"SOURCE_VERSION={'a' * 40}" in printed and "REQUEST_ID=build1" in printed
    assert "STACK=host" in printed and "FROM_SETTINGS=yes" in printed and f"HOME={build}/home" in printed
    assert str(UID if UID is not None else os.getuid()) in printed
    assert "0022" in printed and f"{build}/build" in printed
    assert "SERVER_SECRET" not in out.text and "APP_VAR=" not in out.text
    assert "5" in printed  # "total", 0, 1, 2 and the folder itself: nothing of ours is open


@pytest.mark.real
async def test_trusted_certificates_are_named_to_every_tool(scripted):
    bundle = scripted.folder / "ca.crt"
    bundle.touch()
    scripted.builder = host_builder(scripted, buildpacks=scripted.folder / "packs", ca_bundle=bundle)
    _, out = await scripted.build(scripted.source(build_sh="env", Procfile="web: x"))
    for name in ("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"):
        assert f"{name}={bundle}" in out.text


@pytest.mark.real
async def test_the_cache_is_kept_between_builds(scripted):
    script = 'echo "before: $(cat "$2/mark" 2>/dev/null)"; echo kept > "$2/mark"'
    for expected in ("before: ", "before: kept"):
        _, out = await scripted.build(scripted.source(build_sh=script, Procfile="web: x"))
        assert expected.strip() in [text.strip() for _, text in out.lines]


@pytest.mark.real
@pytest.mark.skipif(UID is None, reason="only root can build as somebody else")
async def test_a_build_can_read_nothing_of_ours(scripted):
    await scripted.build(scripted.source(build_sh="true", Procfile="web: x"))
    script = f"""
    for path in {scripted.folder}/slugs {scripted.folder}/builds {scripted.folder}/caches /proc/1/environ /root; do
        ls "$path" >/dev/null 2>&1 && [ "$path" != /proc/1/environ ] && echo "open $path"
        cat "$path" >/dev/null 2>&1 && echo "read $path"
    done; echo done"""
    _, out = await scripted.build(scripted.source(build_sh=script, Procfile="web: x"))
    assert "done" in out.text and "open" not in out.text and "read" not in out.text


@pytest.mark.real
@pytest.mark.skipif(UID is None, reason="only root builds as somebody else")
async def test_a_closed_data_folder_is_named_with_the_way_out(host):
    host.folder.chmod(0o700)
    with pytest.raises(BuilderUnavailable, match=rf"chmod o\+x {host.folder}`"):
        await host.build(host.source(Procfile="web: x"))
    assert host.leftovers() == []


# The host builder: how builds end


@pytest.mark.real
async def test_a_failing_build_says_its_status_after_its_last_lines(scripted):
    out = Printed()
    source = scripted.source(build_sh="echo first; echo last >&2; exit 7", Procfile="web: x")
    with pytest.raises(BuildFailed, match="ended with status 7"):
        await scripted.builder.build(scripted.request(source), out)
    assert out.lines[-1] == ("line", "last")
    assert scripted.leftovers() == []


@pytest.mark.real
@pytest.mark.parametrize(
    ("number", "words"), [("KILL", "out of memory"), ("TERM", "SIGTERM"), ("SEGV", "SIGSEGV")]
)
async def test_an_end_by_a_signal_is_named(scripted, number, words):
    with pytest.raises(BuildFailed, match=words):
        await scripted.build(scripted.source(build_sh=f"kill -{number} $$", Procfile="web: x"))


@pytest.mark.real
async def test_a_flood_of_output_does_not_hold_up_the_server(scripted):
    script = "head -c 300000000 /dev/zero | tr '\\0' '\\n'; head -c 100000000 /dev/zero; echo; echo the end"
    longest, last = 0.0, time.monotonic()
    task = asyncio.create_task(scripted.build(scripted.source(build_sh=script, Procfile="web: x")))
    while not task.done():
        await asyncio.sleep(0.005)
        longest, last = max(longest, time.monotonic() - last), time.monotonic()
    _, out = await task
    assert ("line", "the end") in out.lines
    assert len(out.lines) < 50_000
    assert longest < 0.5


def running(mark: str) -> list[int]:
    """Processes whose command line holds `mark`."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if mark.encode() in path.read_bytes():
                found.append(int(path.parent.name))
    return found


async def wait_until(condition, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        await asyncio.sleep(0.02)


# Three that try to stay: a child, one in a session of its own whose parent has gone, one that ignores signals.
CLINGING = """
sleep {n}.1 &
(setsid sh -c 'setsid sleep {n}.2 & exit' &)
(trap '' TERM HUP INT; setsid sleep {n}.3 &)
sleep 0.1; echo ready
"""


@pytest.mark.real
async def test_a_build_that_ends_leaves_no_process(scripted):
    await scripted.build(scripted.source(build_sh=CLINGING.format(n=MARK + 1), Procfile="web: x"))
    assert running(str(MARK + 1)) == []


@pytest.mark.real
async def test_a_process_whose_first_thread_has_ended_is_found_too(scripted):
    """It looks like a zombie in /proc, and runs."""
    program = (
        "import ctypes, threading, time; threading.Thread(target=time.sleep, args=(1000,)).start(); "
        "ctypes.CDLL(None).pthread_exit(0)"
    )
    script = f'setsid /usr/bin/python3 -c "{program}" & sleep 0.3; grep State /proc/$!/status'
    _, out = await scripted.build(scripted.source(build_sh=script, Procfile="web: x"))
    assert "Z (zombie)" in out.text
    assert not any(
        b"Threads:\t0" not in status and f"Uid:\t{UID}".encode() in status
        for status in map(status_of, Path("/proc").glob("[0-9]*"))
    )


def status_of(process: Path) -> bytes:
    try:
        return (process / "status").read_bytes()
    except OSError:
        return b""


@pytest.mark.real
async def test_a_cancelled_build_leaves_no_process_and_no_folder(scripted):
    out = Printed()
    source = scripted.source(build_sh=CLINGING.format(n=MARK + 2) + f"sleep {MARK + 2}.4", Procfile="web: x")
    task = asyncio.create_task(scripted.builder.build(scripted.request(source), out))
    await wait_until(lambda: len(running(f"sleep\0{MARK + 2}")) >= 4)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert running(str(MARK + 2)) == []
    assert scripted.leftovers() == []


@pytest.mark.real
async def test_a_build_that_takes_too_long_is_ended(scripted):
    source = scripted.source(build_sh=CLINGING.format(n=MARK + 3) + f"sleep {MARK + 3}.4", Procfile="web: x")
    with pytest.raises(BuildFailed, match="longer than 1 seconds"):
        await scripted.build(source, timeout=1.0)
    assert running(str(MARK + 3)) == []
    assert scripted.leftovers() == []


@pytest.mark.real
async def test_closing_ends_what_runs(scripted):
    out = Printed()
    source = scripted.source(build_sh=f"echo ready; sleep {MARK + 4}", Procfile="web: x")
    task = asyncio.create_task(scripted.builder.build(scripted.request(source), out))
    await wait_until(lambda: ("line", "ready") in out.lines)
    await scripted.builder.close()
    assert task.cancelled()
    assert running(str(MARK + 4)) == []
    assert scripted.leftovers() == []


@pytest.mark.real
async def test_a_killed_server_leaves_no_process_and_its_folders_are_swept(scripted):
    source = scripted.source(build_sh=CLINGING.format(n=MARK + 5) + f"sleep {MARK + 5}.4", Procfile="web: x")
    server = textwrap.dedent(f"""
        import asyncio
        from pathlib import Path
        from builder.host import HostBuilder
        from builder.slugs import SlugStore
        from builder.types import BuildRequest
        from tests.unit.builder.printed import Printed
        folder = Path({str(scripted.folder)!r})
        builder = HostBuilder(builds=folder / "builds", tools=folder / "tools", buildpacks=folder / "packs",
                              slugs=SlugStore(folder / "slugs", folder / "apps", limit=10**8))
        asyncio.run(builder.build(BuildRequest(id="killed", deployment="foo", service="app",
            source=Path({str(source)!r}), cache=folder / "cache/foo/app", uid={UID}), Printed()))
    """)
    process = subprocess.Popen([sys.executable, "-c", server], cwd=Path(__file__).parents[2])
    try:
        await wait_until(lambda: len(running(f"sleep\0{MARK + 5}")) >= 4)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    await wait_until(lambda: running(str(MARK + 5)) == [])
    assert scripted.leftovers() != []
    await scripted.builder.sweep()
    assert scripted.leftovers() == []


@pytest.mark.real
async def test_a_build_that_fills_the_disk_is_ended(scripted):
    free = shutil.disk_usage(scripted.folder).free
    scripted.builder = host_builder(scripted, buildpacks=scripted.folder / "packs", disk_reserve=free * 2)
    with pytest.raises(BuilderUnavailable, match="free on the server's disk"):
        await scripted.build(scripted.source(build_sh=f"sleep {MARK + 6}", Procfile="web: x"))
    assert running(str(MARK + 6)) == []
    assert scripted.leftovers() == []


# The host builder: what it refuses to be fooled by


@pytest.mark.real
@pytest.mark.skipif(UID is None, reason="only root could be fooled")
async def test_links_made_by_a_build_change_nothing_outside(scripted):
    victim = scripted.folder / "victim"
    victim.mkdir()
    (victim / "file").write_text("kept")
    (victim / "file").chmod(0o600)
    script = (
        f"ln -s {victim} folder; ln -s {victim}/file file; ln -s / root; mkfifo pipe; chmod 6755 build.sh"
    )
    artifact, _ = await scripted.build(scripted.source(build_sh=script, Procfile="web: x"))
    assert (victim / "file").stat().st_uid == 0 and (victim / "file").stat().st_mode & 0o777 == 0o600
    tree = await scripted.tree(artifact)
    assert (tree / "root").is_symlink() and not (tree / "pipe").exists()
    assert (tree / "build.sh").stat().st_mode & 0o7000 == 0
    assert (tree.stat().st_uid, tree.stat().st_gid, tree.stat().st_mode & 0o777) == (0, UID, 0o750)


@pytest.mark.real
async def test_a_procfile_that_became_a_link_is_not_read(scripted):
    script = "rm Procfile; ln -s /etc/passwd Procfile"
    with pytest.raises(BuildFailed, match="Nothing says how to start"):
        await scripted.build(scripted.source(build_sh=script, Procfile="web: x"))


@pytest.mark.real
async def test_names_of_any_bytes_go_through_a_whole_build(host):
    source = host.source(Procfile="web: python app.py", app_py="x", requirements_txt="")
    names = ["new\nline.py", os.fsdecode(b"bad\xff.py"), "-rf", "$(touch x).py", "l" * 240 + ".py"]
    for name in names:
        (source / name).write_text("x = 1")
    artifact, _ = await host.build(source)
    shutil.rmtree(host.folder / "apps")
    found = {path.name for path in (await host.tree(artifact)).iterdir()}
    assert found >= {*names, "app.py"} and "x" not in found


@pytest.mark.real
async def test_an_endless_tree_is_refused_and_removed(scripted):
    script = "i=0; while [ $i -lt 1500 ]; do mkdir d && cd -P d || exit 3; i=$((i+1)); done"
    with pytest.raises(BuildFailed, match="nested more than 100 deep"):
        await scripted.build(scripted.source(build_sh=script, Procfile="web: x"))
    assert scripted.leftovers() == []


@pytest.mark.real
async def test_a_slug_over_the_limit_is_refused(scripted):
    scripted.slugs = SlugStore(scripted.folder / "slugs", scripted.folder / "apps", limit=1024**2)
    scripted.builder = host_builder(scripted, buildpacks=scripted.folder / "packs")
    with pytest.raises(BuildFailed, match=r"larger than 1\.0M"):
        await scripted.build(scripted.source(build_sh="head -c 2000000 /dev/urandom > x", Procfile="web: x"))
    assert scripted.leftovers() == []


# The bundled buildpacks


@pytest.mark.real
async def test_a_python_app_without_dependencies_finds_python_at_run_time(host):
    begin = time.monotonic()
    artifact, out = await host.build(host.source("python-web"))
    seconds = time.monotonic() - begin
    assert artifact.process_types == {"web": "python app.py"}
    assert ("step", "Python app detected") in out.lines
    assert any(kind == "step" and text.startswith("Compiled slug size is ") for kind, text in out.lines)
    assert "3." in await run(await host.tree(artifact), "python --version")
    assert seconds < 3.0, "a hundred times less is normal"


@pytest.mark.real
async def test_a_python_app_runs_under_another_path_with_what_it_requires(host):
    """Without any index: the requirement is a package inside the app."""
    project = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    source = host.source(Procfile="web: python -c x", pyproject="", app_py="import tiny; print(tiny.WORD)")
    (source / "pyproject").unlink()
    (source / "pyproject.toml").write_text(project + '[project]\nname = "tiny"\nversion = "1"\n')
    (source / "backend.py").write_text(TINY_BACKEND)
    artifact, _ = await host.build(source)
    tree = await host.tree(artifact)
    assert await run(tree, "python app.py; command -v python; tiny-say") == (
        f"tiny works\n{tree}/.mooring/venv/bin/python\ntiny works\n"
    )


TINY_BACKEND = """
import zipfile

def build_wheel(folder, config_settings=None, metadata_directory=None):
    name = "tiny-1-py3-none-any.whl"
    info = "tiny-1.dist-info"
    files = {
        "tiny.py": "WORD = 'tiny works'\\ndef say():\\n    print(WORD)\\n",
        f"{info}/METADATA": "Metadata-Version: 2.1\\nName: tiny\\nVersion: 1\\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\\nGenerator: x\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
        f"{info}/entry_points.txt": "[console_scripts]\\ntiny-say = tiny:say\\n",
    }
    with zipfile.ZipFile(f"{folder}/{name}", "w") as wheel:
        for path, content in files.items():
            wheel.writestr(path, content)
        wheel.writestr(f"{info}/RECORD", "".join(f"{path},,\\n" for path in [*files, f"{info}/RECORD"]))
    return name
"""


@pytest.mark.real
async def test_a_python_app_that_asks_for_a_missing_version_is_refused(host):
    out = Printed()
    source = host.source("python-web", runtime_txt="python-2.7.18\n")
    with pytest.raises(
        BuildFailed, match=r"runtime\.txt asks for Python 2\.7, which this server does not have"
    ):
        await host.builder.build(host.request(source), out)
    assert "runtime.txt asks for Python 2.7" in out.text


@pytest.mark.real
async def test_a_web_process_is_guessed_only_where_a_file_reads_port(host):
    reading = "import os\nport = os.environ['PORT']\n"
    artifact, _ = await host.build(host.source(requirements_txt="", main_py=reading))
    assert artifact.process_types == {"web": "python main.py"}
    with pytest.raises(BuildFailed, match="Nothing says how to start this app"):
        await host.build(host.source(requirements_txt="", main_py="print(1)"))
    with pytest.raises(BuildFailed, match="Nothing says how to start this app"):
        await host.build(host.source(requirements_txt="", main_py=reading, app_py=reading))


@pytest.mark.real
async def test_modules_are_compiled_because_the_app_may_not_write(host):
    source = host.source(Procfile="web: python app.py", app_py="import other", other_py="print(__cached__)")
    (source / "broken.py").write_text("print 'old'")
    artifact, _ = await host.build(source)
    tree = await host.tree(artifact)
    printed = await run(tree, "python -v app.py")
    assert f"code object from '{tree}/__pycache__/other" in printed or "matches" in printed
    assert (tree / "__pycache__").is_dir()


@pytest.mark.real
async def test_static_files_are_served(host):
    artifact, out = await host.build(host.source("static"))
    assert list(artifact.process_types) == ["web"]
    assert ("line", "Default types for Static -> web") in out.lines
    assert artifact.buildpack == "Static"


@pytest.mark.real
async def test_a_wrong_static_json_fails_the_build(host):
    source = host.source("static")
    (source / "static.json").write_text('{"root": "../.."}')
    out = Printed()
    with pytest.raises(BuildFailed, match="is no folder of this site"):
        await host.builder.build(host.request(source), out)


@pytest.mark.real
async def test_a_procfile_with_a_web_process_wins_over_static_files(host):
    source = host.source("static")
    (source / "Procfile").write_text("web: ./run\n")
    artifact, _ = await host.build(source)
    assert artifact.buildpack == "Procfile"


@pytest.mark.real
async def test_the_worker_sample_is_built_as_it_is(host):
    artifact, _ = await host.build(host.source("procfile"))
    assert artifact.process_types == {"worker": "./worker.sh"}
    assert os.access((await host.tree(artifact)) / "worker.sh", os.X_OK)


@pytest.mark.real
async def test_what_a_build_printed_before_its_time_was_up_is_shown(scripted):
    out = Printed()
    source = scripted.source(build_sh=f"printf 'no newline yet'; sleep {MARK + 7}", Procfile="web: x")
    with pytest.raises(BuildFailed, match="longer than"):
        await scripted.builder.build(scripted.request(source, timeout=0.5), out)
    assert out.lines[-1] == ("line", "no newline yet")


@pytest.mark.real
async def test_a_cache_of_another_user_is_begun_anew_and_no_folder_of_others_is_touched(scripted):
    cache = scripted.folder / "elsewhere/cache"
    cache.mkdir(parents=True)
    (cache / "mark").write_text("old")
    cache.parent.chmod(0o755)
    script = 'echo "mark: $(cat "$2/mark" 2>/dev/null)"; touch "$2/new"'
    _, out = await scripted.build(scripted.source(build_sh=script, Procfile="web: x"), cache=cache)
    assert ("line", "mark: " if UID is not None else "mark: old") in out.lines
    assert (cache / "new").exists() and cache.parent.stat().st_mode & 0o777 == 0o755
