"""A container in which one script makes an image, or fetches something.

Not `docker build`: the engine's classic builder keeps in a layer all that it is given, and how this machine reaches its
registries (proxies, logins, certificates) is nothing for an image. Here it lies in a volume, which no commit takes.
"""

import contextlib
import io
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from docker import APIClient

from contrib.stack.errors import StackError
from contrib.stack.host import INSIDE
from contrib.stack.inputs import FOLDER, INPUTS_LABEL, LABEL, VERSION

KIND = "mooring.kind"
ENV = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
    "STACK": f"mooring-{VERSION}",
}
LABELS = {LABEL: VERSION, KIND: "stack"}
PATIENCE = 1800
"""Seconds that one script may take."""


@contextlib.contextmanager
def ran(
    client: APIClient, image: str, script: str, *, files: Mapping[str, bytes | Path], network: str
) -> Iterator[str]:
    """The id of a container of `image` in which `script` of this folder has ended well; removed after the block.

    `files` and this folder are at `INSIDE` there. Raises StackError with the last lines of what the script said.
    """
    container = client.create_container_from_config(  # type: ignore[no-untyped-call]
        {
            "Image": image,
            # An entrypoint of its own would be taken over by the commit of an image that has none.
            "Entrypoint": [""],
            "Cmd": ["/bin/sh", f"{INSIDE}/{script}"],
            "User": "0",
            "WorkingDir": "/",
            "Labels": {KIND: LABELS[KIND]},
            # Without an init: its program would be left in the image as an empty file.
            "HostConfig": {
                "NetworkMode": network,
                "Mounts": [{"Type": "volume", "Target": INSIDE}],
            },
        }
    )["Id"]
    try:
        client.put_archive(container, INSIDE, _archive(files))
        client.start(container)
        status = client.wait(container, timeout=PATIENCE)["StatusCode"]
        if status != 0:
            said = client.logs(container, tail=40).decode(errors="replace").strip()
            raise StackError(f"{script} ended with status {status} in a container of {image}:\n{said}")
        yield container
    finally:
        client.remove_container(container, v=True, force=True)


def commit(client: APIClient, container: str, image: str, inputs: str, *, start: Sequence[str]) -> None:
    """`image` is what the container's own files are, and starts with `start` as an unprivileged user."""
    repository, _, tag = image.partition(":")
    client.commit(
        container,
        repository=repository,
        tag=tag,
        changes=[
            *(f"ENV {name}={value}" for name, value in ENV.items()),
            *(f"LABEL {name}={value}" for name, value in (*LABELS.items(), (INPUTS_LABEL, inputs))),
            *start,
            "USER 1000:1000",
            "WORKDIR /app",
        ],
    )


def read_files(client: APIClient, container: str, folder: str) -> Mapping[str, bytes]:
    """The files right in a folder of a container, by name."""
    stream, _ = client.get_archive(container, folder)
    with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as archive:
        return {
            Path(each.name).name: file.read()
            for each in archive
            if (file := archive.extractfile(each)) is not None
        }


def _archive(files: Mapping[str, bytes | Path]) -> bytes:
    own = {each.name: each for each in FOLDER.iterdir() if each.is_file()}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, given in {**own, **files}.items():
            content = given if isinstance(given, bytes) else given.read_bytes()
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o600
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()
