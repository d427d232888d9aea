"""The keeper: supervisord, taught what an instance is. A daemon of its own that outlives the controller.

It runs in a process that the `supervisor` backend starts and talks to over a unix socket; nothing
here is imported by the server but the constants below. It owns its folder:

    supervisord.conf .log .pid   supervisord's own
    supervisor.sock              the door (XML-RPC), open to the server's user only
    lock                         held while a keeper runs, so that there is never a second one
    realm                        a random name that marks the processes of this folder
    instances/<id>.json          what to run; `.stopping` instead of `.json` once it was told to stop
    instances/<id>.pid           the process that runs it now: boot id, process id, start time
    instances/<id>.once          of what is started once: "begun", then its wait status
    tmp/<id>/                    the instance's TMPDIR
"""

PROTOCOL = 1
"""Raised when a call changes its meaning: a keeper may be older than the server that talks to it."""

SOCKET = "supervisor.sock"
LOCK = "lock"
OUTPUT = "output.log"
"""What the keeper itself prints, which is nothing unless it fails."""

FAULT_CONFLICT = 1001
"""The id runs with another specification."""
FAULT_STOPPING = 1002
"""The id is on its way out; try again later."""
FAULT_NO_PORT = 1003
"""Every port of the range is taken."""
FAULT_SHUTDOWN = 1004
"""The keeper is ending."""
FAULT_SYSTEM = 1005
"""The system said no: disk full, no more processes."""
