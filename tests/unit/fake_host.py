"""pyinfra's @fake connector with the agent's answers: whole deploys without a host."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from pyinfra.api import output
from pyinfra.api.config import Config
from pyinfra.api.connect import connect_all
from pyinfra.api.exceptions import ConnectError
from pyinfra.api.inventory import Inventory
from pyinfra.api.operations import run_ops
from pyinfra.api.state import State, StateStage
from pyinfra.connectors.fake import FakeConnector
from pyinfra.connectors.util import CommandOutput, OutputLine
from pyinfra.context import ctx_host, ctx_state

from roles.core import agent, transport
from roles.core.model import Desired
from tests.unit import observation

FACTS: dict[str, Any] = {
    **{"distribution": "debian", "codename": "trixie", "architecture": "x86_64"},
    **{"docker_gid": 990, "processors": 4, "memory": 32 * 2**30, "render": None},
    **{"containers": [], "journal_gid": 991, "folders": {}},
}


class FakeHost:
    """A host of which one knows which roles are as desired, and every command it was sent."""

    def __init__(self, roles: Sequence[Desired] = (), *, converged: bool = False) -> None:
        self.roles = {role.role: role for role in roles}
        self.right = set(self.roles) if converged else set()
        self.pending: set[str] = set()
        self.unconfirmed: set[str] = set()
        self.altered: Callable[[dict[str, Any]], None] = lambda answer: None
        self.texts: dict[str, str] = {}
        self.failing: set[str] = set()
        self.lets_in = True
        self.last_words = ""
        self.commands: list[str] = []
        self.requests: list[dict[str, Any]] = []
        self.stdin: list[str] = []

    @property
    def spent(self) -> list[str]:
        """Every remote command since the last call, an agent's by what it was asked to do."""
        spent, self.commands = self.commands, []
        return spent

    def run(self, command: str, stdin: list[str] | None) -> tuple[bool, str]:
        if command != transport.COMMAND:
            self.commands.append(command)
            return command not in self.failing, f"answer to {command}"
        assert stdin is not None
        self.stdin += stdin
        request = json.loads(agent.unpack(stdin[1])["request.json"])
        self.commands.append(request["do"])
        self.requests.append(request)
        if request["do"] in self.failing:
            return False, "FAILED: for the test"
        answer = json.dumps(getattr(self, f"do_{request['do']}")(request))
        return True, f"Last login: today\n{answer}{self.last_words}"

    def do_facts(self, request: dict[str, Any]) -> dict[str, Any]:
        return FACTS

    def do_read(self, request: dict[str, Any]) -> dict[str, str]:
        return {path: self.texts.get(path, "") for path in request["paths"]}

    def do_observe(self, request: dict[str, Any]) -> dict[str, Any]:
        right = [self.roles[name] for name in sorted(self.right)]
        answer = observation.answer(right, request["nonce"])
        answer["pending"] = sorted(self.pending)
        answer["unconfirmed"] = sorted(self.unconfirmed)
        self.altered(answer)
        return answer

    def do_apply(self, request: dict[str, Any]) -> str:
        self.altered = lambda answer: None
        self.right.add(request["role"])
        for step in request["steps"]:
            if step["do"] == "mark":
                self.pending |= set(step["names"])
            if step["do"] == "clear":
                self.pending.discard(step["name"])
        return f"{request['role']}: done"


def connect_to(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the connector reach this host from now on."""

    def run_shell_command(
        connector: FakeConnector,
        command: Any,
        print_output: bool = False,
        print_input: bool = False,
        **arguments: Any,
    ) -> tuple[bool, CommandOutput]:
        text = command.get_masked_value()
        if print_input:
            output.echo(f"{connector.host.print_prefix}>>> {text}", err=True)
        succeeded, answer = host.run(text, arguments.get("_stdin"))
        if print_output:
            output.echo(f"{connector.host.print_prefix}{answer}", err=True)
        buffer = "stdout" if succeeded else "stderr"
        return succeeded, CommandOutput([OutputLine(buffer, line) for line in answer.splitlines()])

    def connect(connector: FakeConnector) -> None:
        if not host.lets_in:
            raise ConnectError("connection refused")

    monkeypatch.setattr(FakeConnector, "run_shell_command", run_shell_command)
    monkeypatch.setattr(FakeConnector, "connect", connect)


@contextmanager
def session(
    *, yes: bool = True, diff: bool = False, verbose: bool = False, **data: Any
) -> Iterator[State]:
    """A pyinfra run up to its prepare stage, as the command line sets it up: -y, --diff, -vvv."""
    inventory = Inventory(([("@fake/host", data)], {}))
    state = State(inventory, Config(DIFF=diff), check_for_changes=not yes)
    for name in ("fact_info", "noop_info", "input", "fact_input", "output", "fact_output"):
        setattr(state, f"print_{name}", verbose)
    logging.getLogger("pyinfra").setLevel(logging.DEBUG if verbose else logging.INFO)
    output.set_echo(lambda message=None, **_: print(message))
    try:
        with ctx_state.use(state):
            state.set_stage(StateStage.Connect)
            connect_all(state)
            state.set_stage(StateStage.Prepare)
            with ctx_host.use(next(iter(inventory))):
                yield state
    finally:
        # pyinfra's own context managers do not do this after an exception.
        ctx_host.reset()
        ctx_state.reset()
        output.set_echo(output._default_echo)


def execute(state: State) -> list[str]:
    """Run what was prepared; the names of the operations that changed something."""
    state.set_stage(StateStage.Execute)
    run_ops(state)
    host = next(iter(state.inventory))
    return [
        next(iter(state.op_meta[key].names))
        for key in state.get_op_order()
        if state.ops[host][key].operation_meta.did_change()
    ]
