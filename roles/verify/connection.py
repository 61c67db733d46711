"""testinfra's connection, made by pyinfra: one reading of the inventory for deploy and proof.

testinfra's own SSH connections either accept any host key (paramiko) or cannot send anything on
stdin (ssh). This one has what pyinfra has: the pinned host key, sudo, and stdin for requests.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pyinfra.api.arguments import CONNECTOR_ARGUMENT_KEYS, pop_global_arguments
from pyinfra.api.command import StringCommand
from pyinfra.api.connect import connect_all
from pyinfra.api.exceptions import PyinfraError
from pyinfra.api.host import Host
from pyinfra.api.state import State
from pyinfra.context import ctx_state
from testinfra.backend.base import BaseBackend, CommandResult


class NoLoginError(Exception):
    """A host of the inventory cannot be logged in to."""


class Backend(BaseBackend):  # type: ignore[misc]
    """Commands through pyinfra's connector, counted. A failure's status is 1, whatever it was."""

    NAME = "pyinfra"

    def __init__(self, state: State, host: Host) -> None:
        super().__init__(host.name)
        self.state = state
        self.pyinfra = host
        self.commands = 0
        # The encoding of a host of ours; asking would cost a command.
        self._encoding = "utf-8"

    def run(self, command: str, *args: str, **kwargs: Any) -> CommandResult:
        """One remote command; `stdin` is a list of lines."""
        self.commands += 1
        given = {"_stdin": kwargs["stdin"]} if kwargs.get("stdin") else {}
        arguments, _ = pop_global_arguments(self.state, self.pyinfra, given)
        connector: Any = {k: v for k, v in arguments.items() if k in CONNECTOR_ARGUMENT_KEYS}
        line = self.quote(command, *args)
        done, output = self.pyinfra.run_shell_command(StringCommand(line), **connector)
        return self.result(int(not done), line.encode(), output.stdout, output.stderr)

    @property
    def address(self) -> str:
        """The IP address at which the host was reached, or its name behind a jump host."""
        connector: Any = self.pyinfra.connector
        try:
            return str(connector.client.get_transport().getpeername()[0])
        except (AttributeError, OSError):
            return str(self.pyinfra.data.get("ssh_hostname") or self.pyinfra.name)


def connect(inventory: Path) -> Sequence[Backend]:
    """Log in to every host of an inventory, as pyinfra does.

    Raises:
        NoLoginError: no login at a host; pyinfra has said why on the terminal.
    """
    # It replaces parts of the standard library when it is imported, so only a deploy's or a
    # verify's own process may do so.
    from pyinfra_cli.inventory import make_inventory  # noqa: PLC0415

    state = State(check_for_changes=False)
    with ctx_state.use(state):
        state.init(make_inventory(str(inventory), cwd=str(Path.cwd())), None)
        with contextlib.suppress(PyinfraError):
            connect_all(state)
    absent = [host.name for host in state.inventory if not host.connected]
    if absent:
        raise NoLoginError(f"no login at {', '.join(absent)}; try: make plan")
    return [Backend(state, host) for host in state.inventory]
