"""What is fed to a program in a container ends upon a word of that program's own.

Docker does not always hand on the end of the input (docs/decisions/secrets-as-files.md).
"""

from __future__ import annotations

import types
from collections.abc import Callable
from pathlib import Path

import pytest

from roles import authelia, backup, postgres
from roles.context import Context
from tests.host_programs import loaded, text_of

DOCKER = r"""#!/bin/sh
while IFS= read -r line; do
    case $line in
        quit) echo OK OK; exit ;;
        '\q') exit ;;
    esac
done
sleep 2
exit 1
"""


@pytest.fixture(autouse=True)
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that takes the end of its input to mean that more may come."""
    (tmp_path / "docker").write_text(DOCKER)
    (tmp_path / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")


def with_secret(text: str, path: str, folder: Path) -> types.ModuleType:
    """The program, with a password to hand on."""
    module = loaded(text, path)
    module.__dict__.update(PASSWORD=folder / "password", MONITOR="", DEADLINE=0)
    (folder / "password").write_text("lab")
    return module


def test_new_passwords_of_the_database(context: Context, tmp_path: Path) -> None:
    text = text_of(postgres.desired(context), postgres.SET_PASSWORD)
    assert with_secret(text, postgres.SET_PASSWORD, tmp_path).main() == 0


def test_the_end_of_all_sessions(context: Context, tmp_path: Path) -> None:
    text = text_of(authelia.desired(context), authelia.END_SESSIONS)
    assert with_secret(text, authelia.END_SESSIONS, tmp_path).main() == 0


def test_a_dump_that_is_put_back(make_context: Callable[..., Context], tmp_path: Path) -> None:
    role = backup.desired(make_context(backup={}))
    plan = tmp_path / "plan.json"
    plan.write_text(text_of(role, backup.PLAN))
    text = text_of(role, backup.PROGRAM).replace(backup.PLAN, str(plan))
    program = loaded(text, backup.PROGRAM)
    restore = loaded(text_of(role, backup.RESTORE), backup.RESTORE, backup=program)
    dump = tmp_path / "database.sql"
    dump.write_text("SELECT 1;\n")
    restore.load({"container": "database"}, {"rows": {}}, dump)
