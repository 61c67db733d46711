"""The operation by which every role reaches its desired state, and the plan that all roles share.

A plan holds the desired state of every role of one host. The first question about the host is
answered by one snapshot; the snapshot is dropped once an operation does more than put its own files
in place.
"""

from __future__ import annotations

import difflib
import socket
from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from pyinfra import logger
from pyinfra.api.command import FunctionCommand, StringCommand
from pyinfra.api.exceptions import ConnectError, PyinfraError
from pyinfra.api.host import Host
from pyinfra.api.operation import operation
from pyinfra.api.output import format_text
from pyinfra.api.state import State
from pyinfra.context import host, state

from roles.core import transport
from roles.core.model import Desired, File, Observed
from roles.core.snapshot import Answer, observed, question
from roles.core.state import Changes, diff, printable

if TYPE_CHECKING:
    from pyinfra.api.arguments import ConnectorArguments
    from pyinfra.connectors.util import CommandOutput

GUARD = "/usr/local/lib/nexus/guard"


class Plan:
    """The desired state of every role of one host, and the newest snapshot of that host."""

    def __init__(self, roles: Sequence[Desired]) -> None:
        self.roles: Mapping[str, Desired] = {role.role: role for role in roles}
        self._observed: Observed | None = None
        self._noticed: frozenset[str] = frozenset()
        self._executing = False

    def changes(self, role: str) -> Changes:
        """What one role would do now, nothing where the site has switched it off.

        Costs a remote command only where no snapshot is held.
        """
        if self._observed is None or self._executing != state.is_executing:
            self._executing = state.is_executing
            self._observed = observed(ask(question(list(self.roles.values()))))
            self._noticed = frozenset()
        desired = self.roles.get(role)
        if desired is None:
            return Changes(role)
        # What earlier roles would make due belongs in the plan, although nothing was done yet.
        pending = self._observed.pending | self._noticed
        changes = diff(desired, replace(self._observed, pending=pending))
        self._noticed |= changes.notices
        return changes

    def forget(self) -> None:
        """Drop the snapshot: the host is about to change."""
        self._observed = None


class Streamed(StringCommand):
    """A command whose lines of progress appear while it works; its input never does."""

    def execute(
        self, state: State, host: Host, connector_arguments: ConnectorArguments
    ) -> tuple[bool, CommandOutput]:
        connector_arguments.update(self.connector_arguments)
        return host.run_shell_command(
            self, print_output=True, print_input=state.print_input, **connector_arguments
        )


class SecondConnection:
    """Whether the operator can still get in, tried as the operator would: a new login."""

    def __init__(self) -> None:
        self.succeeded = False

    def attempt(self, state: State, host: Host) -> bool:
        """Log in anew. Always true: what follows from the answer is the operation's business."""
        connector = type(host.connector)(state, host)
        try:
            connector.connect()
        except ConnectError as error:
            host.log(f"a second connection failed: {error}", logger.warning)
            return True
        self.succeeded = True
        client = getattr(connector, "client", None)
        if client is not None:
            client.close()
        return True


@operation()
def converge(plan: Plan, role: str) -> Generator[StringCommand | FunctionCommand, None, None]:
    """Bring one role's resources to their desired state with at most one remote command.

    A guarded role takes three: apply, a second connection, and the word that keeps the change.
    """
    changes = plan.changes(role)
    if not changes:
        return
    show(changes)
    if state.is_executing and not changes.only_files:
        plan.forget()
    if changes.steps:
        request = {"do": "apply", "role": role, "steps": changes.steps}
        yield Streamed(transport.COMMAND, _stdin=transport.stdin(request, changes.members))
    if changes.guarded:
        second = SecondConnection()
        yield FunctionCommand(second.attempt, (), {})
        yield Streamed(GUARD, "keep" if second.succeeded else "revert", role)


def ask(request: Mapping[str, object]) -> dict[str, object]:
    """One remote command: the agent's answer to one request.

    Raises:
        PyinfraError: the host has no python3, the command failed, or sudo asks for a password
            that nobody is there to type.
    """
    try:
        answer: dict[str, object] | None = host.get_fact(Answer, _stdin=transport.stdin(request))
    except EOFError:
        raise PyinfraError(
            f"{host.name}: sudo asks for a password and there is no terminal to type it at; let "
            "the account use sudo without one (NOPASSWD in /etc/sudoers.d)"
        ) from None
    if answer is None:
        raise PyinfraError(f"{host.name} did not answer: it needs python3 and a way to root")
    return answer


def no_delay(host: Host) -> None:
    """Send small requests at once: paramiko leaves Nagle's algorithm (RFC 896) on."""
    client = getattr(host.connector, "client", None)
    transport_ = client.get_transport() if client is not None else None
    if transport_ is not None:
        transport_.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def show(changes: Changes) -> None:
    """Say what will change, once; with --diff also how, except for secrets."""
    if state.is_executing and state.check_for_changes:
        return
    for line in changes.lines:
        host.log(f"{changes.role}: {line}", logger.info)
    files = [file for file in changes.files if not file.secret]
    if files and state.config.DIFF:
        before = ask({"do": "read", "paths": [file.path for file in files]})
        for file in files:
            show_difference(file, str(before[file.path]))


def show_difference(file: File, before: str) -> None:
    """One file as a unified diff, coloured where the terminal has colours."""
    after = file.content.decode(errors="replace")
    lines = difflib.unified_diff(
        before.splitlines(),
        after.splitlines(),
        f"{file.path} (host)",
        f"{file.path} (site)",
        "",
        "",
        2,
    )
    colours = {"+": "green", "-": "red", "@": "cyan"}
    for line in lines:
        text = printable(line.rstrip())
        logger.info(f"    {format_text(text, colours.get(line[:1], 'white'))}")
