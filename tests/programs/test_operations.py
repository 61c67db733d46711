"""Deploys through pyinfra itself, to a host that answers as the agent would."""

from __future__ import annotations

import runpy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from pyinfra.api.exceptions import PyinfraError

from roles.context import Context, Facts
from roles.core.model import Desired, File, Guard, Handler, Notice, Unit
from roles.core.operations import Plan, converge
from roles.core.secret import Secret
from roles.core.vault import Vault
from roles.plan import roles_of, secrets_of, site_of
from roles.stack.stack import fitted, stack_of
from tests.unit.conftest import RAW
from tests.unit.fake_host import FACTS, FakeHost, connect_to, execute, session

Printed = Callable[[], str]
ROOT = Path(__file__).parents[2]
PUBLIC = {"tls_server_certificate", "tls_ca_certificate"}
OPEN = File("/etc/open.conf", b"new = 1\n")
HIDDEN = File("/etc/hidden.conf", b"password = hush-hush\n", "0400", secret=True)
FIRST = Desired("first", (OPEN, HIDDEN))
SECOND = Desired("second", (Unit("app.service"),))
GUARDED = Desired("guarded", (OPEN,), guard=Guard(45))
KEEP = "/usr/local/lib/nexus/guard keep guarded"
REVERT = "/usr/local/lib/nexus/guard revert guarded"


def deploy(plan: Plan, *roles: str) -> None:
    for role in roles:
        converge(name=f"role {role}", plan=plan, role=role)


def run(host: FakeHost, *roles: str, **options: Any) -> list[str]:
    """One whole run with these roles; the operations that changed something."""
    with session(**options) as state:
        deploy(Plan(list(host.roles.values())), *roles)
        return execute(state)


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> FakeHost:
    host = FakeHost([FIRST, SECOND, GUARDED])
    connect_to(host, monkeypatch)
    return host


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> Printed:
    """Everything that pyinfra has said so far."""

    def everything() -> str:
        captured = capsys.readouterr()
        return captured.out + captured.err + caplog.text

    return everything


# --- one role -------------------------------------------------------------------------------------


def test_a_role_converges_with_one_command(bare: FakeHost) -> None:
    assert run(bare, "first") == ["role first"]
    assert bare.spent == ["observe", "apply"]
    assert run(bare, "first") == []
    assert bare.spent == ["observe"]


def test_the_snapshot_is_dropped_after_a_change_only(bare: FakeHost) -> None:
    run(bare, "second", "first")
    assert bare.spent == ["observe", "apply", "observe", "apply"]
    run(bare, "first", "second", "first")
    assert bare.spent == ["observe"]


def test_a_role_that_only_puts_files_in_place_leaves_the_snapshot_true(bare: FakeHost) -> None:
    run(bare, "first", "second")
    assert bare.spent == ["observe", "apply", "apply"]


def test_a_role_that_the_site_has_switched_off_does_nothing(bare: FakeHost) -> None:
    assert run(bare, "unknown") == []


def test_preparing_shows_what_would_change_and_changes_nothing(
    bare: FakeHost, caplog: pytest.LogCaptureFixture
) -> None:
    bare.texts[OPEN.path] = "old = 1\n"
    with session(yes=False, diff=True):
        deploy(Plan([FIRST]), "first")
    assert bare.spent == ["observe", "read"]
    for text in ("first: file /etc/open.conf absent", "    -old = 1", "    +new = 1"):
        assert text in caplog.text
    assert "first: file /etc/hidden.conf absent" in caplog.text
    assert bare.requests[-1]["paths"] == [OPEN.path]
    assert "hush-hush" not in caplog.text


def test_a_plan_shows_what_an_earlier_role_makes_due(
    bare: FakeHost, caplog: pytest.LogCaptureFixture
) -> None:
    notices = (Notice("second", "rebuild", (OPEN.path,)),)
    rebuild = Handler("rebuild", ("rebuild",))
    roles = [Desired("first", (OPEN,), notices=notices), Desired("second", (), (), (rebuild,))]
    with session(yes=False) as state:
        deploy(Plan(roles), "first", "second")
        assert "second: run rebuild" in caplog.text
        assert execute(state) == ["role first", "role second"]
    assert bare.requests[-1]["steps"][-2]["argv"] == ["rebuild"]
    bare.right, bare.pending = {"first", "second"}, set()
    assert run(bare, "first", "second") == []


def test_what_was_shown_before_the_question_is_not_shown_twice(
    bare: FakeHost, caplog: pytest.LogCaptureFixture
) -> None:
    run(bare, "first", yes=False)
    assert caplog.text.count("file /etc/open.conf absent") == 1


def test_a_host_changed_between_question_and_answer_is_seen(bare: FakeHost) -> None:
    with session(yes=False) as state:
        deploy(Plan([FIRST]), "first")
        bare.right.add("first")
        assert execute(state) == []


def test_a_file_cannot_control_the_terminal_through_its_diff(
    bare: FakeHost, caplog: pytest.LogCaptureFixture
) -> None:
    bare.texts[OPEN.path] = "\x1b]0;owned\x07\n"
    with session(yes=False, diff=True):
        deploy(Plan([FIRST]), "first")
    assert "\x1b" not in caplog.text
    assert r"-\x1b]0;owned\x07" in caplog.text


# --- failures -------------------------------------------------------------------------------------


def test_a_role_that_fails_stops_the_run(bare: FakeHost) -> None:
    bare.failing.add("apply")
    with pytest.raises(PyinfraError):
        run(bare, "first", "second")
    assert bare.spent == ["observe", "apply"]


def test_a_host_that_does_not_answer_is_an_error_and_nothing_is_sent(bare: FakeHost) -> None:
    bare.failing.add("observe")
    with pytest.raises(PyinfraError):
        run(bare, "first", yes=False)
    assert bare.spent == ["observe"]


def test_a_host_that_says_more_than_its_answer_is_an_error(
    bare: FakeHost, caplog: pytest.LogCaptureFixture
) -> None:
    bare.last_words = "\nlogout"
    with pytest.raises(PyinfraError):
        run(bare, "first", yes=False)
    assert "the host printed something after the answer" in caplog.text
    assert bare.spent == ["observe"]


# --- the guard ------------------------------------------------------------------------------------


def test_a_guarded_change_is_kept_after_a_second_login(bare: FakeHost) -> None:
    assert run(bare, "guarded") == ["role guarded"]
    assert bare.spent == ["observe", "apply", KEEP]


def test_a_guarded_change_that_locks_out_is_taken_back(bare: FakeHost) -> None:
    bare.failing.add(REVERT)
    with session() as state:
        deploy(Plan([GUARDED]), "guarded")
        bare.lets_in = False
        with pytest.raises(PyinfraError):
            execute(state)
    assert bare.spent == ["observe", "apply", REVERT]


def test_what_a_killed_run_left_unconfirmed_is_confirmed_once(bare: FakeHost) -> None:
    bare.right.add("guarded")
    bare.unconfirmed.add("guarded")
    assert run(bare, "guarded") == ["role guarded"]
    assert bare.spent == ["observe", KEEP]
    bare.unconfirmed.clear()
    assert run(bare, "guarded") == []


# --- the whole deploy -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("vault") / "home.vault.json"
    Vault.create(path, b"for the tests")
    return path


@pytest.fixture
def secrets(vault: Path, monkeypatch: pytest.MonkeyPatch) -> Mapping[str, Secret]:
    monkeypatch.setenv("NEXUS_VAULT_PASSPHRASE", "for the tests")
    return secrets_of(site_of(RAW), str(vault))


@pytest.fixture
def whole(vault: Path, secrets: Mapping[str, Secret], monkeypatch: pytest.MonkeyPatch) -> FakeHost:
    site = site_of(RAW)
    stack = fitted(stack_of(site, secrets), FACTS["processors"], journal_gid=FACTS["journal_gid"])
    context = Context(site, stack, Facts(**FACTS), secrets, vault.read_bytes())
    host = FakeHost(roles_of(context))
    connect_to(host, monkeypatch)
    return host


def run_deploy_file(vault: Path, **options: Any) -> list[str]:
    """deploy.py as pyinfra runs it; the operations that changed something."""
    with session(site=RAW, vault=str(vault), **options) as state:
        runpy.run_path(str(ROOT / "deploy.py"))
        return execute(state)


def test_every_operation_has_a_name_and_shows_no_argument(whole: FakeHost, vault: Path) -> None:
    with session(site=RAW, vault=str(vault)) as state:
        runpy.run_path(str(ROOT / "deploy.py"))
        assert len(state.op_meta) == len(whole.roles)
        for meta in state.op_meta.values():
            (name,) = meta.names
            assert " | " in name and "converge" not in name
            assert meta.args == []


def test_the_second_run_changes_nothing_and_costs_two_commands(
    whole: FakeHost, vault: Path
) -> None:
    # Docker's repository is not there from the start, where the engine is the distribution's, and
    # every service here has a role of its own; nothing is replaced, in two steps.
    changed = run_deploy_file(vault)
    assert len(changed) == len(whole.roles) - 4
    assert len(whole.spent) > 2 * len(changed)
    assert whole.pending == set()
    assert run_deploy_file(vault) == []
    assert whole.spent == ["facts", "observe"]


def test_a_dry_run_without_change_costs_two_commands(whole: FakeHost, vault: Path) -> None:
    whole.right = set(whole.roles)
    with session(yes=False, site=RAW, vault=str(vault)):
        runpy.run_path(str(ROOT / "deploy.py"))
    assert whole.spent == ["facts", "observe"]


@pytest.mark.parametrize("yes", [True, False])
def test_nothing_that_is_printed_holds_a_secret(
    whole: FakeHost, vault: Path, secrets: Mapping[str, Secret], yes: bool, printed: Printed
) -> None:
    run_deploy_file(vault, yes=yes, diff=True, verbose=True)
    shown = printed()
    assert ">>> python3" in shown and "base: done" in shown
    values = {n: s.reveal() for n, s in secrets.items() if n not in PUBLIC}
    assert not [name for name, value in values.items() if value in shown]
    # The values are in here, encoded.
    assert not any(line in shown for line in whole.stdin)
