"""The JSON Schema of a service file, for editors and for those who write one by program."""

from typing import Any

from controller.operations.backupplans import KEEP, LONGEST_DAYS, MOST_KEPT
from controller.servicefile.document import SECTIONS
from controller.types import GuardMode, Strategy

_TEXT = {"type": ["string", "number", "boolean"]}
_PORT = {"anyOf": [{"type": "integer", "minimum": 1, "maximum": 65535}, {"type": "string"}]}
_WORDS = {"anyOf": [{"type": "string"}, {"type": "array", "items": _TEXT, "minItems": 1}]}
_VARIABLES = {"type": "object", "additionalProperties": _TEXT}
_CHECK = {
    "anyOf": [
        {"type": "string", "description": "An HTTP path that must answer."},
        {
            "type": "object",
            "properties": {
                "path": {"type": "string"},
                "command": {"type": "string"},
                "uptime": {"type": "number"},
                "timeout": {"type": "number"},
                "settle": {"type": "number"},
            },
            "additionalProperties": False,
        },
    ]
}
_PATH = {"type": "string", "pattern": "^/"}
_AMOUNT = {"type": ["integer", "number", "string"]}
_LIMITS = {
    "type": "object",
    "properties": dict.fromkeys(("cpu", "memory", "pids", "nofile"), _AMOUNT),
    "additionalProperties": {"type": "object", "additionalProperties": _AMOUNT},
}
_ROLLOUT = {
    "anyOf": [
        {"enum": [each.value for each in Strategy]},
        {
            "type": "object",
            "properties": {
                "strategy": {"enum": [each.value for each in Strategy]},
                "size": {"type": "integer"},
                "share": {"type": "integer"},
                "timeout": {"type": "number"},
            },
            "required": ["strategy"],
        },
    ]
}
_COUNT = {"type": ["integer", "string"], "pattern": "^[0-9]+$"}
_NAMES = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
_SIZE = {"type": ["integer", "null"], "minimum": 1, "maximum": 1024}
_BACKUP = {
    "anyOf": [
        {"type": ["string", "null"], "examples": ["0 3 * * *"]},
        {
            "type": "object",
            "properties": {
                "schedule": {
                    "type": "string",
                    "description": "Minute, hour, day, month, day of the week; UTC.",
                },
                "keep": {
                    **_COUNT,
                    "minimum": 1,
                    "maximum": MOST_KEPT,
                    "description": f"How many of these backups are kept; {KEEP} where nothing is said.",
                },
                "days": {
                    **_COUNT,
                    "minimum": 0,
                    "maximum": LONGEST_DAYS,
                    "description": "How many days they are kept; the newest stays in any case.",
                },
            },
            "required": ["schedule"],
            "additionalProperties": False,
        },
    ],
    "description": "When it is backed up by itself, as crontab writes it, in UTC.",
}
_KEPT = "Kept for plugins; nothing acts on it yet."

_KEYS: dict[str, Any] = {
    "image": {"type": "string", "description": "What it runs; without it, code that is pushed."},
    "cmd": {
        **_WORDS,
        "description": "In place of the image's command: a shell line, or words. {PORT} is its port.",
    },
    "command": {"type": "string", "description": "The same as cmd."},
    "git": {"type": "string", "description": "The folder of its repository: `.`, or `.:subfolder`."},
    "env": {**_VARIABLES, "description": "Variables of this service; values are texts as they are written."},
    "port": {
        **_PORT,
        "description": "The port that the image listens on; short for ports with one of no name.",
    },
    "ports": {
        "anyOf": [
            {"type": "object", "additionalProperties": _PORT},
            {"type": "array", "items": {"type": "string"}},
        ],
        "description": "Of an image: name to number, or assign. The container finds it as PORT_NAME.",
    },
    "health": {**_CHECK, "description": "How an instance shows that it can do its work."},
    "checks": {
        "type": "object",
        "additionalProperties": _CHECK,
        "description": "Process type to its own check.",
    },
    "rollout": {**_ROLLOUT, "description": "In which steps a new version takes over."},
    "limits": {**_LIMITS, "description": "What an instance may take."},
    "predeploy": {"type": "string", "description": "Runs before a version is switched to."},
    "postdeploy": {"type": "string", "description": "Runs once a version is live."},
    "entrypoint": {**_WORDS, "description": "Of an image: gets the words of cmd."},
    "volumes": {
        "type": "object",
        "additionalProperties": {
            "anyOf": [
                _PATH,
                {
                    "type": "object",
                    "properties": {"path": _PATH, "backup": _BACKUP},
                    "required": ["path"],
                    "additionalProperties": False,
                },
            ]
        },
        "description": "Name of a folder that outlives versions to the path that a container has it at, or "
        "{path: …, backup: …}; $VOLUME_NAME tells where it is.",
    },
    "privileged": {"type": "boolean", "description": _KEPT},
    "wan_map": {
        "type": "object",
        "additionalProperties": {"type": ["string", "null"]},
        "description": "Of an image: 80, ':80' or '192.0.2.1:80' of the machine to the name of a port of ports.",
    },
    "process": {"type": "string", "description": "The one process type of its code that the service runs."},
    "require": {
        **_NAMES,
        "description": "Services, and names of Exec and Resources, that must be there before its first version.",
    },
    "expose": {
        "type": "object",
        "additionalProperties": {"type": "string"},
        "description": "Variables that tell where other services of the deployment are, as HOST:PORT: {CACHE: redis}.",
    },
}

_SECTIONS: dict[str, Any] = {
    "Env": {
        "type": "object",
        "description": "Variables of all services, and of single ones: {NAME: value, service: {NAME: value}}.",
        "additionalProperties": {"anyOf": [_TEXT, _VARIABLES]},
    },
    "Domains": {
        "type": "object",
        "description": "Domain to the service that it leads to.",
        "additionalProperties": {
            "anyOf": [
                {"type": "string"},
                {
                    "type": "object",
                    "properties": {
                        "http": {
                            "type": "string",
                            "description": "The service, as SERVICE or DEPLOYMENT:SERVICE.",
                        },
                        "auth": {
                            "type": "object",
                            "additionalProperties": _TEXT,
                            "minProperties": 1,
                            "description": "Name to password: the domain then asks for one of them.",
                        },
                        "auth_mode": {
                            "enum": [each.value for each in GuardMode],
                            "description": "How it asks; digest where nothing is said.",
                        },
                        "cert": {"description": _KEPT},
                        "key": {"description": _KEPT},
                    },
                },
            ]
        },
    },
    "Includes": {
        "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
        "description": "Files that are merged below this one, from its folder.",
    },
    "Vars": {
        "type": "object",
        "additionalProperties": {"type": [*_TEXT["type"], "null"]},
        "description": "What {NAME} stands for in this file; null where each deployment has to say.",
    },
    "Generate": {
        "type": "object",
        "description": "Name to the number of random bytes of a secret that {NAME} then stands for.",
        "additionalProperties": {
            "anyOf": [
                _SIZE,
                {"type": "object", "properties": {"hex": _SIZE}, "additionalProperties": False},
            ]
        },
    },
    "Resources": {
        "type": "object",
        "description": "Name to the kind of a database that the deployment has; the name can then be required.",
        "additionalProperties": {
            "anyOf": [
                {"type": "string"},
                {
                    "type": "object",
                    "properties": {
                        "kind": {"type": "string", "examples": ["postgres", "redis"]},
                        "attach": {
                            "anyOf": [
                                _NAMES,
                                {"type": "object", "additionalProperties": {"type": ["string", "null"]}},
                            ],
                            "description": "Services that get it, with the prefix of their variables; "
                            "without it those that require it.",
                        },
                        "backup": _BACKUP,
                    },
                    "required": ["kind"],
                    "additionalProperties": False,
                },
            ]
        },
    },
    "Exec": {
        "type": "object",
        "description": "Name to a command that runs once; the name can then be required.",
        "additionalProperties": {
            "type": "object",
            "properties": {
                "service": {"type": "string", "description": "The service in whose code it runs."},
                "cmd": _WORDS,
                "command": {"type": "string"},
                "require": _NAMES,
            },
            "required": ["service"],
            "additionalProperties": False,
        },
    },
}
assert set(_SECTIONS) == set(SECTIONS)


def schema() -> dict[str, Any]:
    """JSON Schema, draft 2020-12."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Mooring service file",
        "type": "object",
        "properties": _SECTIONS,
        "patternProperties": {"^[A-Z]": True, "^[^A-Z]": {"$ref": "#/$defs/service"}},
        "$defs": {
            "service": {
                "anyOf": [
                    {"type": "null"},
                    {"type": "object", "properties": _KEYS, "additionalProperties": True},
                ]
            }
        },
    }
