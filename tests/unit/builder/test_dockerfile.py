"""Which source is a Dockerfile's, how its build is asked for, and what its log becomes."""

import io
import json
import tarfile
from typing import cast

import pytest

from builder import buildkit, classic_build
from builder.base import BuildFailed
from builder.buildkit_guard import Guard
from builder.chain import Chain, Shelf
from builder.dockerfile import find_dockerfile, secret_values, wants_dockerfile
from builder.image_archive import choose, unnamed_archive
from builder.steps import Steps
from builder.transcript import Transcript
from builder.types import BuildRequest
from builder.workspace import Workspace
from controller.types import BuilderChoice, DockerfileBuild


class Printed:
    def __init__(self):
        self.lines = []

    def step(self, text):
        self.lines.append(f"> {text}")

    def line(self, text):
        self.lines.append(f"  {text}")

    def warn(self, text):
        self.lines.append(f"! {text}")


def request(folder, **fields):
    return BuildRequest(
        id="b", deployment="foo", service="app", source=folder, cache=folder.parent / "cache", **fields
    )


def told(log, text):
    transcript = Transcript(log)
    transcript.feed(text.encode())
    transcript.finish()


class TestChoice:
    def test_dockerfile_is_taken_where_nothing_names_buildpacks(self, tmp_path):
        (tmp_path / "Dockerfile").write_text("FROM x")
        assert wants_dockerfile(request(tmp_path), auto=True)
        assert not wants_dockerfile(request(tmp_path, buildpacks=("python",)), auto=True)
        (tmp_path / ".buildpacks").write_text("https://example.org/pack.git\n")
        assert not wants_dockerfile(request(tmp_path), auto=True)

    def test_dockerfile_is_not_taken_by_itself_where_no_image_runs(self, tmp_path):
        (tmp_path / "Dockerfile").write_text("FROM x")
        assert not wants_dockerfile(request(tmp_path), auto=False)

    def test_what_was_set_counts_first(self, tmp_path):
        assert wants_dockerfile(request(tmp_path, builder=BuilderChoice.DOCKERFILE), auto=False)
        (tmp_path / "Dockerfile").write_text("FROM x")
        assert not wants_dockerfile(request(tmp_path, builder=BuilderChoice.BUILDPACKS), auto=True)

    def test_dockerfile_of_the_folder_that_is_built(self, tmp_path):
        (tmp_path / "api").mkdir()
        (tmp_path / "api" / "Dockerfile").write_text("FROM x")
        assert wants_dockerfile(request(tmp_path, build_dir="api"), auto=True)
        assert not wants_dockerfile(request(tmp_path), auto=True)

    @pytest.mark.parametrize("path", ["../Dockerfile", "/etc/passwd", "link/Dockerfile", "folder", "gone"])
    def test_nothing_else_is_read_in_its_place(self, tmp_path, path):
        source = tmp_path / "source"
        (source / "folder").mkdir(parents=True)
        (tmp_path / "Dockerfile").write_text("FROM x")
        (source / "link").symlink_to(tmp_path)
        with pytest.raises(BuildFailed, match="There is no file"):
            find_dockerfile(source, path)

    def test_secrets_are_config_variables(self, tmp_path):
        wanted = DockerfileBuild(secrets=("TOKEN",))
        assert secret_values(request(tmp_path, env={"TOKEN": "t", "B": "b"}, dockerfile=wanted)) == {
            "TOKEN": "t"
        }
        with pytest.raises(BuildFailed, match="config:set TOKEN"):
            secret_values(request(tmp_path, dockerfile=wanted))

    async def test_where_nothing_builds_dockerfiles_the_way_out_is_told(self, tmp_path):
        wanted = request(tmp_path / "source", builder=BuilderChoice.DOCKERFILE)
        chain = Chain(cast(Steps, None), Shelf(bundled=tmp_path), Workspace(tmp_path), wanted)
        with pytest.raises(BuildFailed, match="builder:set selected buildpacks"):
            await chain.detect(Printed())


class TestBuildKit:
    def test_command(self):
        wish = buildkit.Wish(
            dockerfile="deploy/Dockerfile",
            target="web",
            args={"COLOR": "a b"},
            labels={"mooring.kind": "image"},
            secrets=["TOKEN"],
            network="none",
            cached=False,
        )
        assert buildkit.build_command(buildkit.Program("/usr/bin/docker", buildx=False), wish, "build") == [
            *("/usr/bin/docker", "build", "--progress=plain", "--file", "build/deploy/Dockerfile"),
            *("--iidfile", "image-id", "--network", "none", "--target", "web"),
            *("--label", "mooring.kind=image", "--build-arg", "COLOR=a b"),
            *("--secret", "id=TOKEN,src=secrets/TOKEN", "--no-cache", "build"),
        ]

    def test_progress_becomes_steps(self):
        out = Printed()
        told(
            buildkit.BuildKitLog(out),
            "#1 [internal] load build definition from Dockerfile\n"
            "#1 transferring dockerfile: 318B done\n#1 DONE 0.0s\n\n"
            "#4 [base 1/2] FROM docker.io/library/debian:12\n#4 CACHED\n\n"
            "#5 [base 2/2] RUN make\n#5 sha256:" + "a" * 64 + "\n#5 0.182 compiling\n#5 0.2 \n"
            "#6 [other 1/1] RUN test\n#6 0.3 testing\n#5 0.4 linked\n#5 DONE 0.2s\n"
            "#7 exporting to image\n#7 writing image sha256:abc done\n",
        )
        assert out.lines == [
            "> Step 1/2 of base: FROM docker.io/library/debian:12",
            "> Step 2/2 of base: RUN make",
            "  compiling",
            "  ",
            "> Step 1/1 of other: RUN test",
            "  testing",
            "> Still RUN make",
            "  linked",
        ]

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            (
                "#5 [2/2] RUN false\n#5 ERROR: executor failed running [/bin/sh -c false]: exit code: 1\n------\n"
                " > [2/2] RUN false:\n------\nexecutor failed running [/bin/sh -c false]: exit code: 1\n",
                "'RUN false' ended with status 1; its last lines above say why.",
            ),
            (
                "#5 [2/2] RUN x\n"
                '#5 ERROR: process "/bin/sh -c x" did not complete successfully: exit code: 127\n------\n'
                'ERROR: failed to build: failed to solve: process "/bin/sh -c x" did not complete successfully: '
                "exit code: 127\n",
                "'RUN x' ended with status 127; its last lines above say why.",
            ),
            (
                "failed to solve with frontend dockerfile.v0: failed to create LLB definition: "
                "dockerfile parse error line 1: unknown instruction: FORM\n",
                "The Dockerfile can't be built: dockerfile parse error line 1: unknown instruction: FORM",
            ),
            ("", "The build ended with status 1; its last lines above say why."),
        ],
    )
    def test_failure_is_told_in_words(self, text, words):
        log = buildkit.BuildKitLog(Printed())
        told(log, text)
        assert log.failure(1) == words


class TestClassic:
    def test_limits_and_wish_are_in_the_request(self):
        wish = classic_build.Wish(
            dockerfile="Dockerfile", target="", args={"A": "1"}, labels={}, network="none", cached=True
        )
        assert classic_build.query(wish, classic_build.Limits(memory=1024, cpu=1.5)) == {
            "dockerfile": "Dockerfile",
            "buildargs": '{"A": "1"}',
            "labels": "{}",
            "networkmode": "none",
            "rm": "1",
            "forcerm": "1",
            "memory": 1024,
            "memswap": 1024,
            "cpuperiod": 100_000,
            "cpuquota": 150_000,
        }

    def test_what_the_engine_prints_becomes_steps_and_parts(self):
        out = Printed()
        log = classic_build.ClassicLog(out)
        told(
            log,
            "Step 1/4 : FROM debian AS base\n ---> 93cb867d96a0\nStep 2/4 : RUN make\n"
            " ---> Running in 947eed4d1c18\nmade\nRemoving intermediate container 947eed4d1c18\n"
            " ---> bfdbbeb70fda\nStep 3/4 : FROM debian\n ---> 93cb867d96a0\nStep 4/4 : COPY a /a\n"
            " ---> Using cache\n ---> 2f66ab10c7ca\n",
        )
        assert out.lines == [
            "> Step 1/4: FROM debian AS base",
            "> Step 2/4: RUN make",
            "  made",
            "> Step 3/4: FROM debian",
            "> Step 4/4: COPY a /a",
            "  Taken from the cache",
        ]
        assert log.outcome() == classic_build.Outcome("", ("bfdbbeb70fda",), "2f66ab10c7ca", "")

    def test_context_leaves_out_what_dockerignore_names(self, tmp_path):
        source = tmp_path / "source"
        (source / "node_modules").mkdir(parents=True)
        for name in ("Dockerfile", "a.py", "b.log", "node_modules/x"):
            (source / name).write_text("")
        (source / ".dockerignore").write_text("node_modules\n*.log\nDockerfile\n")
        classic_build.write_context(source, "Dockerfile", tmp_path / "context.tar", lambda: None)
        with tarfile.open(tmp_path / "context.tar") as archive:
            names = set(archive.getnames())
        assert {"Dockerfile", "a.py"} <= names
        assert not {"b.log", "node_modules/x"} & names


class TestArchive:
    def test_one_image_is_chosen_by_its_name_and_loses_it(self):
        listing = [{"Config": "a", "RepoTags": ["foo:1"]}, {"Config": "b", "RepoTags": ["bar:latest"]}]
        assert choose(listing, "bar") == {"Config": "b", "RepoTags": None}
        with pytest.raises(BuildFailed, match="bar:latest, foo:1"):
            choose(listing, "baz:1")

    def test_the_only_image_may_be_called_what_people_like(self):
        assert choose([{"Config": "a", "RepoTags": None}], "anything")["Config"] == "a"

    def test_no_name_of_the_archive_is_left(self, tmp_path):
        listing = [{"Config": "a.json", "RepoTags": ["redis:7"], "Layers": []}]
        content = {
            "manifest.json": json.dumps(listing),
            "repositories": '{"redis": {"7": "x"}}',
            "a.json": "{}",
        }
        with tarfile.open(tmp_path / "saved", "w:gz") as archive:
            for name, text in content.items():
                info = tarfile.TarInfo(name)
                info.size = len(text)
                archive.addfile(info, io.BytesIO(text.encode()))
        unnamed_archive(tmp_path / "saved", tmp_path / "unnamed", "redis:7", limit=10_000, check=lambda: None)
        assert b"redis" not in (tmp_path / "unnamed").read_bytes()
        with pytest.raises(BuildFailed, match="image_limit"):
            unnamed_archive(tmp_path / "saved", tmp_path / "again", "redis:7", limit=10, check=lambda: None)


class TestGuard:
    def step(self, tmp_path, name, hosts):
        """A step's control groups, of a single process with this hosts file."""
        for controller in ("memory", "pids"):
            group = tmp_path / "cgroup" / controller / "docker/buildkit" / name
            group.mkdir(parents=True)
            (group / "cgroup.procs").write_text(f"{name}\n")
        (tmp_path / "cgroup/memory/docker/buildkit" / name / "memory.limit_in_bytes").write_text("max")
        (tmp_path / "cgroup/pids/docker/buildkit" / name / "pids.max").write_text("max")
        place = tmp_path / "proc" / name / "root/etc"
        place.mkdir(parents=True)
        (place / "hosts").write_text(hosts)

    def test_steps_of_ours_are_limited_and_no_others(self, tmp_path):
        guard = Guard(
            classic_build.Limits(memory=1024, pids=7),
            "mooring-abc",
            root=tmp_path / "cgroup",
            processes=tmp_path / "proc",
        )
        self.step(tmp_path, "11", "127.0.0.1 localhost\n127.0.0.1 mooring-abc\n")
        self.step(tmp_path, "12", "127.0.0.1 localhost\n127.0.0.1 mooring-abcd\n")
        guard.look()
        groups = tmp_path / "cgroup"
        limits = [
            (groups / f"memory/docker/buildkit/{name}/memory.limit_in_bytes").read_text()
            for name in ("11", "12")
        ]
        assert limits == ["1024", "max"]
        assert (groups / "pids/docker/buildkit/11/pids.max").read_text() == "7"
