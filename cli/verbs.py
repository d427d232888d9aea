"""The table of verbs: name, where its command is defined, what it does.

Kept apart from the commands so that `moor --help` and completion load none of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Verb:
    name: str
    target: str
    """`module:attribute` below cli.commands."""
    summary: str
    aliases: tuple[str, ...] = ()
    hidden: bool = False


SECTIONS: Mapping[str, tuple[Verb, ...]] = {
    "Apps": (
        Verb("apps", "apps:apps", "List your apps.", ("apps:list",)),
        Verb("apps:create", "apps:create", "Create an app, ready for a push.", ("create",)),
        Verb(
            "apps:destroy", "apps:destroy", "Stop and forget an app and all that belongs to it.", ("destroy",)
        ),
        Verb("apps:info", "apps:info", "Show what is known of an app.", ("info",)),
        Verb("list", "apps:tree", "Show deployments, their services and what runs of them."),
        Verb("create-deployment", "services:create_deployment", "Create a deployment without any service."),
        Verb("deploy", "servicefiles:deploy", "Make a deployment what a service file says."),
        Verb("validate", "servicefiles:validate", "Check a service file."),
        Verb("upload", "servicefiles:upload", "Deploy what is committed in a repository of yours."),
        Verb("set-service", "services:set_service", "Define a service of a deployment, or change it."),
        Verb(
            "git:set", "services:git_set", "Set which branches deploy when pushed, and which folder is built."
        ),
    ),
    "Source": (
        Verb("git:from-archive", "git:from_archive", "Deploy an archive of the source."),
        Verb(
            "git:sync", "git:sync", "Fetch the source from a repository elsewhere, and deploy it if wished."
        ),
        Verb("git:from-image", "images:from_image", "Deploy an image that is elsewhere, or on the engine."),
        Verb("git:load-image", "images:load_image", "Deploy an image that `docker save` wrote."),
        Verb("git:public-key", "git:public_key", "Show the key by which the server fetches private source."),
        Verb(
            "git:allow-host", "git:allow_host", "Let source be fetched from an SSH server, known by its keys."
        ),
    ),
    "Buildpacks": (
        Verb(
            "buildpacks",
            "buildpacks:buildpacks",
            "Show which buildpacks are set for an app.",
            ("buildpacks:list",),
        ),
        Verb("buildpacks:set", "buildpacks:set_", "Set which buildpacks build an app, in their order."),
        Verb("buildpacks:add", "buildpacks:add", "Let further buildpacks build an app."),
        Verb("buildpacks:remove", "buildpacks:remove", "Take buildpacks away from an app."),
        Verb("buildpacks:clear", "buildpacks:clear", "Leave the choice of buildpacks to the source again."),
        Verb(
            "buildpacks:detect",
            "buildpacks:detect",
            "Ask each buildpack whether it knows the app, and why not.",
        ),
    ),
    "Builder": (
        Verb("builder", "builder:builder", "Show what builds an app, and how.", ("builder:report",)),
        Verb(
            "builder:set",
            "builder:set_",
            "Set whether buildpacks or a Dockerfile build an app, and which file and stage.",
        ),
        Verb("builder:args", "builder:args", "Set build arguments of a Dockerfile."),
        Verb(
            "builder:secrets",
            "builder:secrets",
            "Set which config variables a Dockerfile may read as secrets.",
        ),
    ),
    "Config": (
        Verb("config", "config:config", "Show an app's config variables.", ("config:list", "config:show")),
        Verb("config:get", "config:get", "Print the values of variables."),
        Verb("config:export", "config:export", "Print all variables in a form that can be read back."),
        Verb("config:import", "config:import_", "Set all variables of a file; they make one version."),
        Verb("config:set", "config:set_", "Set variables; all of them make one version."),
        Verb("config:unset", "config:unset", "Remove variables."),
        Verb("config:apply", "config:apply", "Release what was set with --no-restart."),
        Verb("generate", "generated:generate", "Show the secrets that were made for a deployment."),
        Verb("generate:renew", "generated:renew", "Make a secret anew."),
        Verb("vars", "vars:show", "Show what a service file's variables stand for in a deployment."),
        Verb("vars:set", "vars:set_", "Keep values for a service file's variables."),
        Verb("vars:unset", "vars:unset", "Forget values for a service file's variables."),
    ),
    "Processes": (
        Verb("ps", "ps:ps", "Show what runs.", ("ps:list", "ps:report")),
        Verb("ps:scale", "ps:scale", "Show or set how many instances of each process type run.", ("scale",)),
        Verb(
            "ps:restart",
            "ps:restart",
            "Replace all instances, those of one type, or one, by fresh ones.",
            ("restart",),
        ),
        Verb("ps:stop", "ps:stop", "Stop all instances, those of one type, or one.", ("stop",)),
        Verb("ps:start", "ps:start", "Start again what was stopped.", ("start",)),
        Verb(
            "limits", "limits:show", "Show what each instance may take.", ("limits:list", "resource:report")
        ),
        Verb(
            "limits:set",
            "limits:set_",
            "Limit memory, processors, processes or open files.",
            ("resource:limit",),
        ),
        Verb("limits:unset", "limits:unset", "Take limits back to the defaults.", ("resource:limit-clear",)),
        Verb("volumes", "volumes:volumes", "List folders that outlive versions.", ("storage:list",)),
        Verb("volumes:backup", "volumes:backup", "Save what is in a volume."),
        Verb("volumes:backups", "volumes:backups", "List what of a volume was saved."),
        Verb(
            "volumes:schedule",
            "volumes:schedule",
            "Save what is in a volume at certain times, or show when.",
        ),
        Verb("volumes:restore", "volumes:restore", "Make a backup all that is in a volume."),
        Verb("volumes:export", "volumes:export", "Print what is in a volume, as a tar."),
        Verb("volumes:import", "volumes:import_", "Read what is to be in a volume, as a tar."),
        Verb("volumes:destroy", "volumes:destroy", "Destroy one that no version has any more."),
        Verb("maintenance", "maintenance:show", "Show whether an app is in maintenance."),
        Verb(
            "maintenance:on",
            "maintenance:on",
            "Answer an app's requests with a page, while it goes on running.",
        ),
        Verb("maintenance:off", "maintenance:off", "Let an app answer its requests again."),
        Verb("logs", "logs:logs", "Print what the app, its builds, the router and the server say."),
    ),
    "One-off commands": (
        Verb("run", "runs:run", "Run a command in an app's code and environment."),
        Verb("enter", "runs:enter", "Get a shell, or run a command, inside a running process.", ("ps:exec",)),
        Verb("run:detached", "runs:detached", "Run a command once, on its own."),
        Verb("run:list", "runs:list_", "List an app's one-offs, newest first."),
        Verb("run:logs", "runs:logs", "Print what a detached run prints."),
        Verb("cron", "cron:cron", "Show the commands that are run again and again.", ("cron:list",)),
        Verb("exec", "execs:execs", "Show the commands that a service file has run once."),
        Verb("exec:retry", "execs:retry", "Run one of them again that failed."),
        Verb("run:stop", "runs:stop", "End a one-off."),
    ),
    "Releases and builds": (
        Verb("releases", "releases:releases", "List an app's versions, newest first.", ("releases:list",)),
        Verb("releases:info", "releases:info", "Show one version."),
        Verb("releases:output", "releases:output", "Print what a version's release command printed."),
        Verb(
            "promote",
            "promotion:promote",
            "Take over what serves in one deployment into another.",
            ("pipelines:promote",),
        ),
        Verb("rollback", "releases:rollback", "Release an older version's code and config again."),
        Verb(
            "deploys", "deploys:deploys", "List what is on its way: builds and rollouts.", ("deploys:list",)
        ),
        Verb("deploy:cancel", "deploys:cancel", "End the deploy that is under way."),
        Verb("deploy:pause", "rollouts:pause", "Hold the rollout that is under way."),
        Verb("deploy:resume", "rollouts:resume", "Let a paused rollout go on."),
        Verb("deploy:promote", "rollouts:promote", "Let the canary take over."),
        Verb("deploy:abort", "rollouts:abort", "End the canary."),
        Verb("builds", "builds:builds", "List an app's builds, newest first.", ("builds:list",)),
        Verb("builds:info", "builds:info", "Show one build."),
        Verb("builds:output", "builds:output", "Print the log of a build."),
        Verb("builds:cancel", "builds:cancel", "End a running build."),
        Verb("repo:purge-cache", "disk:purge_cache", "Remove an app's build cache."),
    ),
    "Domains": (
        Verb("domains", "domains:domains", "List the domains that lead to an app.", ("domains:list",)),
        Verb("domains:add", "domains:add", "Let further domains lead to an app."),
        Verb("domains:remove", "domains:remove", "Take domains away from an app."),
    ),
    "Resources": (
        Verb(
            "resources",
            "resources:resources",
            "List an app's databases and the like.",
            ("resources:list", "addons"),
        ),
        Verb("resources:create", "resources:create", "Make a database."),
        Verb("resources:info", "resources:info", "Show one, with what it gives to services."),
        Verb("resources:attach", "resources:attach", "Give one to a service.", ("resources:link",)),
        Verb("resources:detach", "resources:detach", "Take one away from a service.", ("resources:unlink",)),
        Verb("resources:backup", "resources:backup", "Save all that one has."),
        Verb("resources:backups", "resources:backups", "List its backups, newest first."),
        Verb(
            "resources:schedule",
            "resources:schedule",
            "Save all that one has at certain times, or show when.",
        ),
        Verb("resources:restore", "resources:restore", "Bring back what a backup has."),
        Verb("resources:export", "resources:export", "Print its data."),
        Verb("resources:import", "resources:import_", "Take data from standard input."),
        Verb("resources:destroy", "resources:destroy", "Destroy one with all of its data."),
    ),
    "People": (
        Verb("ssh-keys", "people:keys", "List SSH keys.", ("ssh-keys:list", "keys")),
        Verb(
            "ssh-keys:add",
            "people:keys_add",
            "Add an SSH key that may push and give commands.",
            ("keys:add",),
        ),
        Verb("ssh-keys:remove", "people:keys_remove", "Remove an SSH key.", ("keys:remove",)),
        Verb("users", "people:users", "List users.", ("users:list",)),
        Verb("users:create", "people:users_create", "Create a user.", ("users:add",)),
        Verb(
            "users:remove",
            "people:users_remove",
            "Remove a user with all keys and tokens.",
            ("users:destroy",),
        ),
        Verb("access", "access:access", "List who may do what with an app.", ("access:list",)),
        Verb("access:add", "access:add", "Give a user a right on an app."),
        Verb("access:remove", "access:remove", "Take all rights on an app away from a user."),
        Verb("tokens", "people:tokens", "List API tokens.", ("tokens:list",)),
        Verb("tokens:create", "people:tokens_create", "Make an API token; it is shown this once."),
        Verb("tokens:remove", "people:tokens_remove", "Remove an API token."),
        Verb("whoami", "people:whoami", "Show who you are to the server."),
    ),
    "Server": (
        Verb("status", "about:status", "Show the server's addresses and what is wrong with it, if anything."),
        Verb("events", "about:events", "List what happened, newest last."),
        Verb("disk", "disk:disk", "Show what uses the server's disk."),
        Verb("disk:collect", "disk:collect", "Remove what nothing needs any more."),
        Verb("plugins", "plugins:plugins", "Show the server's plugins, and how they do.", ("plugins:list",)),
        Verb("plugins:verbs", "plugins:verbs", "List the verbs that plugins bring."),
        Verb("plugins:resume", "plugins:resume", "Let a plugin go on that was suspended."),
        Verb(
            "plugins:trace",
            "plugins:trace",
            "Write each call of a plugin into the server's log, or no longer.",
        ),
        Verb("secrets:rotate", "secrets:rotate", "Seal all config values with a new key."),
        Verb("server", "server:server", "Run the server."),
        Verb("server:stop", "server:stop", "Stop the server of a data folder."),
        Verb("store:copy", "stores:copy", "Copy a stopped server's state from one store to another."),
    ),
    "This machine": (
        Verb("login", "machine:login", "Remember a server and your token for it."),
        Verb("remote:add", "machine:remote_add", "Make `git push deploy` work in this folder."),
        Verb("completion", "machine:completion", "Print the completion script of a shell."),
        Verb("completion:words", "machine:completion_words", "Print what may come next.", hidden=True),
        Verb("version", "about:version", "Show the versions of this command and of the server."),
        Verb("help", "about:help_", "Show all verbs, or the help of one."),
    ),
}

VERBS: Mapping[str, Verb] = {verb.name: verb for verbs in SECTIONS.values() for verb in verbs}
ALIASES: Mapping[str, str] = {alias: verb.name for verb in VERBS.values() for alias in verb.aliases}
