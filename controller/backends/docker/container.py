"""From what is to be run to what the engine is told, as plain data, and back from its labels."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from controller.backends.base import BackendError, InstanceSpec, Terminal
from controller.backends.docker.image import Image
from controller.backends.keeper.processes import boot_id, read_process
from controller.backends.labels import to_labels
from controller.engine import REALM
from controller.servicefile.keys import volume_variable
from controller.types import ArtifactKind, Limits

PREFIX = "mooring."
KIND = "mooring.kind"
INSTANCE, ATTACHED = "instance", "attached"
ID = "mooring.instance"
DIGEST = "mooring.digest"
"""Label that tells whether it was made of the same specification; no value can be read from it."""
ADDRESS = "mooring.address"
PORT = "mooring.port"
ARTIFACT = "mooring.artifact"
OWNER = "mooring.owner"
"""Which process an attached container ends with."""

SLUG_PORT = 5000
OPEN_FILES = "nofile"
LOG_FILES, LOG_SIZE = 3, "10m"
"""What the engine keeps of an instance's output for us, so that no disk is filled while we are away. In the
form `local`: whoever follows the other one is sent what was moved aside again."""
LEAST_MEMORY = 6 * 1024**2
LEAST_QUOTA = 1000
"""The least that an engine takes: bytes, and microseconds of each PERIOD."""
PERIOD = 100_000
KEPT_RIGHTS = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "NET_BIND_SERVICE", "SETGID", "SETUID")
"""Capabilities of an image's root: enough to give its files away, to bind port 80 and to become somebody else."""
LONGEST_VALUE = 128 * 1024 - 1
"""Bytes of `NAME=value` that Linux takes in one piece."""


NO_VOLUMES: Mapping[str, Path] = {}


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a container is on our network."""

    network: str
    address: str


def container_name(realm: str, instance: str) -> str:
    return f"mooring-{realm}-{instance}"


def digest_of(spec: InstanceSpec) -> str:
    """Of all that was said. What is as it is by default does not count, so that a later field changes nothing."""
    said = {
        each.name: value for each in fields(spec) if (value := getattr(spec, each.name)) and value != Limits()
    }
    runner = [spec.artifact.runner] if spec.artifact.runner else []
    said["artifact"] = [spec.artifact.kind, spec.artifact.reference, *runner]
    said["limits"] = {name: value for name, value in asdict(spec.limits).items() if value is not None}
    said["env"] = sorted(spec.env.items())
    return hashlib.sha256(json.dumps(said, sort_keys=True, default=str).encode()).hexdigest()


def port_of(spec: InstanceSpec, image: Image) -> int | None:
    """Its own PORT counts first, then what its image says; None for one that wants none."""
    if not spec.wants_port:
        return None
    if spec.artifact.kind is ArtifactKind.SLUG:
        return SLUG_PORT
    named = [each.get("PORT", "") for each in (spec.env, image.env)]
    chosen = next((int(each) for each in named if each.isdecimal() and 0 < int(each) < 65536), None)
    return chosen or min(image.ports, default=SLUG_PORT)


def instance_config(
    spec: InstanceSpec,
    image: Image,
    place: Place,
    *,
    realm: str,
    folder: Path | None,
    volumes: Mapping[str, Path] = NO_VOLUMES,
) -> dict[str, Any]:
    """The body of the request that creates it. `folder`: the unpacked slug; None for an image. `volumes`: name to
    where each is on the host."""
    port = port_of(spec, image)
    command = _command(spec)
    if command.arguments == [spec.command]:
        command = _Command(command.entrypoint, [patient(spec.command)])
    config = _config(spec, image, place, folder=folder, command=command, port=port, volumes=volumes)
    config["Labels"] = {
        REALM: realm,
        KIND: INSTANCE,
        ID: spec.id,
        DIGEST: digest_of(spec),
        ADDRESS: place.address,
        ARTIFACT: spec.artifact.kind.value,
        **({PORT: str(port)} if port is not None else {}),
        **{PREFIX + key: value for key, value in to_labels(spec).items()},
    }
    config["HostConfig"] |= {
        # The engine itself starts it again, also where we are down, and after a reboot.
        "RestartPolicy": {"Name": "no" if spec.once else "always"},
        "LogConfig": {
            "Type": "local",
            "Config": {"max-size": LOG_SIZE, "max-file": str(LOG_FILES), "compress": "false"},
        },
    }
    _label_volumes(config, realm)
    _publish(config, spec, port)
    return config


def attached_config(
    spec: InstanceSpec,
    image: Image,
    place: Place,
    *,
    realm: str,
    folder: Path | None,
    terminal: Terminal | None,
    owned_by: str,
    volumes: Mapping[str, Path] = NO_VOLUMES,
) -> dict[str, Any]:
    """The same for a command that somebody is attached to. The engine removes it when it ends."""
    command = _command(spec)
    if terminal is not None and command.arguments:
        command = _Command(
            command.entrypoint, [*command.arguments[:-1], sized(command.arguments[-1], terminal)]
        )
    config = _config(spec, image, place, folder=folder, command=command, port=None, volumes=volumes)
    config["Labels"] = {
        REALM: realm,
        KIND: ATTACHED,
        ID: spec.id,
        ADDRESS: place.address,
        ARTIFACT: spec.artifact.kind.value,
        OWNER: owned_by,
        PREFIX + "deployment": spec.deployment,
        PREFIX + "service": spec.service,
    }
    config |= {
        "Tty": terminal is not None,
        "OpenStdin": True,
        "StdinOnce": True,
        **{f"Attach{each}": True for each in ("Stdin", "Stdout", "Stderr")},
    }
    if terminal is not None:
        config["Env"].append(f"TERM={terminal.kind}")
    config["HostConfig"] |= {
        "AutoRemove": True,
        "RestartPolicy": {"Name": "no"},
        "LogConfig": {"Type": "none"},
    }
    _label_volumes(config, realm)
    return config


def patient(command: str) -> str:
    """A shell line whose shell, where it stays, waits for what it runs when all of it is told to end.

    A shell replaces itself with a simple command. One that does not would die of SIGTERM at once, and its
    container with it, before the app has finished.
    """
    return f"trap 'exit 143' TERM; {command}" if set(command) & set("|&;<>(){}\n") else command


def sized(command: str, terminal: Terminal) -> str:
    """A shell line in a terminal that has its size from the start: an engine sets it only once the line runs."""
    size = f"stty rows {terminal.rows:d} cols {terminal.columns:d}"
    return f"{size} 2>/dev/null || :; {command}"


def owner() -> str:
    """This process, so that no other one is ever taken for it."""
    me = read_process(os.getpid())
    assert me is not None
    return f"{boot_id()} {me.pid} {me.started}"


def owner_lives(told: str) -> bool:
    """Whether the process that such a label begins with is still there."""
    words = told.split()
    if len(words) < 3 or words[0] != boot_id() or not words[1].isdecimal():
        return False
    _, pid, started = words[:3]
    process = read_process(int(pid))
    return process is not None and str(process.started) == started


def check_runnable(spec: InstanceSpec) -> None:
    """Raise BackendError, not retryable, for what no system would take."""
    for name, value in {**spec.env, "its command": spec.command}.items():
        try:
            size = len(os.fsencode(f"{name}={value}"))
        except UnicodeEncodeError:
            size = -1
        if "\0" in value or "\0" in name or not 0 <= size <= LONGEST_VALUE:
            raise BackendError(
                f"{spec.id} can't be started: {name} is longer than {LONGEST_VALUE} bytes, "
                "holds a NUL character or is no valid text.",
                retryable=False,
            )


@dataclass(frozen=True)
class _Command:
    """None: as the image has it."""

    entrypoint: list[str] | None
    arguments: list[str] | None


def _command(spec: InstanceSpec) -> _Command:
    if spec.artifact.kind is ArtifactKind.IMAGE:
        return _Command(["/bin/sh", "-c"], [spec.command]) if spec.command else _Command(None, None)
    if spec.artifact.runner:
        return _Command(["/bin/sh", "-c"], [spec.command])
    # Not `start TYPE`: a runner that is not ours does not know what the buildpack says, which is no file of the slug.
    return _Command(None, [spec.command])


def _config(
    spec: InstanceSpec,
    image: Image,
    place: Place,
    *,
    folder: Path | None,
    command: _Command,
    port: int | None,
    volumes: Mapping[str, Path],
) -> dict[str, Any]:
    """What both kinds of containers have in common."""
    slug = spec.artifact.kind is ArtifactKind.SLUG
    env = {"TMPDIR": "/tmp"} if slug else {}  # noqa: S108 - the container's own
    if slug or command.entrypoint is not None:
        env["TINI_KILL_PROCESS_GROUP"] = "1"  # a shell that waits for a command does not pass SIGTERM on
    env |= spec.env
    env |= {volume_variable(name): path for name, path in spec.volumes.items()}
    if port is not None:
        env["PORT"] = str(port)
    config: dict[str, Any] = {
        "Image": image.reference,
        "Env": [f"{name}={value}" for name, value in env.items()],
        "User": _user(spec) if slug else "",
        # Whether it is healthy is found out from outside, as for any other instance.
        "Healthcheck": {"Test": ["NONE"]},
        "HostConfig": {
            "Init": True,
            "NetworkMode": place.network,
            "IpcMode": "private",
            "Ulimits": _ulimits(spec.limits),
            **_resources(spec.limits),
            **(_slug_host(folder) if slug else {"CapDrop": ["ALL"], "CapAdd": list(KEPT_RIGHTS)}),
        },
        "NetworkingConfig": {
            "EndpointsConfig": {place.network: {"IPAMConfig": {"IPv4Address": place.address}}}
        },
    }
    if volumes:
        host = config["HostConfig"]
        host["Mounts"] = [*host.get("Mounts", ()), *_binds(spec, volumes)]
    if command.arguments is not None:
        config["Cmd"] = command.arguments
    if command.entrypoint is not None:
        config["Entrypoint"] = command.entrypoint
    return config


def _user(spec: InstanceSpec) -> str:
    """Of a slug. Empty: as its runner's image says, rather than root."""
    if spec.uid is not None:
        return f"{spec.uid}:{spec.uid}"
    return f"{os.geteuid()}:{os.getegid()}" if os.geteuid() != 0 else ""


def _slug_host(folder: Path | None) -> dict[str, Any]:
    assert folder is not None
    return {
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges"],
        "ReadonlyRootfs": True,
        "Mounts": [
            {"Type": "bind", "Source": str(folder.absolute()), "Target": "/app", "ReadOnly": True},
            # On the disk: a tmpfs would count as the instance's own memory. It goes with the container.
            {"Type": "volume", "Target": "/tmp"},  # noqa: S108
        ],
    }


def _binds(spec: InstanceSpec, volumes: Mapping[str, Path]) -> list[dict[str, Any]]:
    return [
        {"Type": "bind", "Source": str(volumes[name]), "Target": path} for name, path in spec.volumes.items()
    ]


def _label_volumes(config: dict[str, Any], realm: str) -> None:
    for each in config["HostConfig"].get("Mounts", ()):
        if each["Type"] == "volume":
            each["VolumeOptions"] = {"Labels": {REALM: realm, KIND: config["Labels"][KIND]}}


def _publish(config: dict[str, Any], spec: InstanceSpec, own: int | None) -> None:
    if not spec.publish:
        return
    bindings = dict[str, list[dict[str, str]]]()
    for place, number in spec.publish.items():
        if not (port := number or own):
            raise BackendError(
                f"{spec.id} can't be reached at {place}: it takes no requests, and no port is named.",
                retryable=False,
            )
        host, _, outer = place.rpartition(":")
        binding = {"HostIp": host.strip("[]"), "HostPort": outer}
        bindings.setdefault(f"{port}/tcp", []).append(binding)
    config["ExposedPorts"] = {each: {} for each in bindings}
    config["HostConfig"]["PortBindings"] = bindings


def _resources(limits: Limits) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if limits.memory is not None:
        memory = max(limits.memory, LEAST_MEMORY)
        found |= {"Memory": memory, "MemorySwap": memory}  # of both together: none of it is swap
    if limits.cpu is not None:
        found |= {"CpuPeriod": PERIOD, "CpuQuota": max(LEAST_QUOTA, round(limits.cpu * PERIOD))}
    if limits.pids is not None:
        found["PidsLimit"] = limits.pids
    return found


def _ulimits(limits: Limits) -> list[dict[str, Any]]:
    found = [{"Name": "core", "Soft": 0, "Hard": 0}]
    if limits.nofile is not None:
        found.append({"Name": OPEN_FILES, "Soft": limits.nofile, "Hard": limits.nofile})
    return found


def open_files(config: Mapping[str, Any]) -> int:
    """The limit that it is given; 0 for none."""
    found = (each["Hard"] for each in config["HostConfig"]["Ulimits"] if each["Name"] == OPEN_FILES)
    return next(found, 0)


def without_open_files(config: Mapping[str, Any]) -> dict[str, Any]:
    """For an engine that may have fewer itself than an instance's limit: its own limit holds then."""
    host = config["HostConfig"]
    kept = [each for each in host["Ulimits"] if each["Name"] != OPEN_FILES]
    return {**config, "HostConfig": {**host, "Ulimits": kept}}


def instance_labels(labels: Mapping[str, str]) -> Mapping[str, str]:
    """As `controller.backends.labels` knows them."""
    return {key.removeprefix(PREFIX): value for key, value in labels.items() if key.startswith(PREFIX)}
