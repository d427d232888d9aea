"""The hooks: what a plugin may implement, and when each is called. This is a promise to those who write plugins.

A plugin is a module, or an object, whose functions carry `@hookimpl` and have the names below. It takes those of
the arguments that it names. `priority` (100 where it has none) orders plugins: lower ones are asked first.

Whatever a plugin does, it can't stop the server: each call runs in a thread of its own, has a time limit
(the setting `plugin_timeout`), and what it raises is logged, counted and shown by `moor plugins`. One that exceeds
its limit is left behind and suspended until somebody resumes it. Then it is as if it had no opinion.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pluggy

from controller.plugins.extensions import Command, Panel, Route, ServerFacts
from controller.plugins.facts import DeploymentFacts, ServiceFacts, StartFacts
from controller.types import Resource

PROJECT = "mooring"
DEFAULT_PRIORITY = 100
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def system_init(server: ServerFacts, first: bool) -> None:
    """The server starts; nothing was deployed by it yet. `first`: it never started with this plugin before."""


@hookspec
def register_api_routes() -> Sequence[Route]:
    """Routes below `/v1/plugins/NAME/routes`. Asked once, when the server starts."""
    return ()


@hookspec
def register_commands() -> Sequence[Command]:
    """Verbs of `moor`, and of the SSH endpoint. They run on the server. Asked once, when it starts."""
    return ()


@hookspec
def web_panels() -> Sequence[Panel]:
    """Parts of a web page, each of which is one of the plugin's routes. Asked once, when the server starts."""
    return ()


# What is decided with them: asked before a change is written, answers go into it


@hookspec
def setup(deployment: DeploymentFacts, service: ServiceFacts) -> str | None:
    """Why the service may not have its first version yet, in words ("waits for db"); None: it may.

    Asked for services that have none, again whenever something in their deployment changes.
    """


@hookspec
def needs_app_code(deployment: DeploymentFacts, service: ServiceFacts) -> str | None:
    """How a service gets the code that it has none of yet, in words; None: by a push. The first answer counts."""


@hookspec
def rewrite_service(deployment: DeploymentFacts, service: ServiceFacts) -> Mapping[str, Any] | None:
    """Keys of the definition, as in a service file, that the version is to run with in place of its own.

    The definition that people see stays. Each plugin is told of what those before it made.
    """


@hookspec
def provide_vars(deployment: DeploymentFacts, service: ServiceFacts) -> Mapping[str, str] | None:
    """What `{NAME}` stands for in `cmd`, `env`, `predeploy` and `postdeploy`. Values are sealed where they are kept."""


@hookspec
def provide_environment(deployment: DeploymentFacts, service: ServiceFacts) -> Mapping[str, str] | None:
    """Variables of the service below its own, and above those of the deployment."""


@hookspec
def setup_resource(deployment: DeploymentFacts, name: str) -> str | None:
    """Why a command of `Exec` may not run yet, in words; None: it may."""


@hookspec
def provide_domains(deployment: DeploymentFacts) -> Mapping[str, Any] | None:
    """Domains of the deployment, and where they lead, as the section Domains of a service file has them.

    Asked when a service file is deployed, about the deployment as it is to be; what was given then, and is given no
    more, goes. What the file itself says of a domain comes first. Only to services of the deployment.
    """


# Last changes, right before something starts; may be asked again for the same start


@hookspec
def before_start(start: StartFacts) -> Mapping[str, str] | None:
    """Variables for one instance, over all others."""


@hookspec
def before_once(start: StartFacts) -> Mapping[str, str] | None:
    """Variables for a one-off that is not attached to a terminal, over all others."""


# Told after the fact, in order, from the journal: at least once each, also what happened while the server was away


@hookspec
def deployment_created(deployment: DeploymentFacts) -> None:
    """A deployment was made."""


@hookspec
def globals_changed(deployment: DeploymentFacts) -> None:
    """Sections of a deployment, or its variables, were changed."""


@hookspec
def post_setup(deployment: DeploymentFacts, service: ServiceFacts, version: int | None) -> None:
    """A service got a version, which is being rolled out; or is held (`version` None)."""


@hookspec
def data_provided(deployment: DeploymentFacts, service: ServiceFacts, build: str) -> None:
    """Code of the service was brought, and built, by the build of that id."""


@hookspec
def resource_changed(deployment: DeploymentFacts, name: str, resource: Resource | None) -> None:
    """A resource came, is ready, failed, or went (None)."""


@hookspec
def post_start(deployment: DeploymentFacts, service: ServiceFacts, instance: str) -> None:
    """An instance has started and is healthy."""


@hookspec
def post_stop(deployment: DeploymentFacts, service: ServiceFacts, instance: str) -> None:
    """An instance was stopped, and is gone."""


OPINIONS = ("setup", "needs_app_code", "rewrite_service", "provide_vars", "provide_environment")
"""Asked together, before a service is changed."""
NOTICES = (
    "deployment_created",
    "globals_changed",
    "post_setup",
    "data_provided",
    "resource_changed",
    "post_start",
    "post_stop",
)
"""Told after the fact."""
