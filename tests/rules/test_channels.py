"""What is rendered for Alertmanager, before its own judge of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from roles import alertmanager
from roles.context import Context
from roles.core.model import File
from tests.rules.judges import judged
from tests.unit.conftest import context_from

CONFIGURATION = "/opt/nexus/config/alertmanager/"
MAIL = {
    "server": "smtp.example.org:465",
    "sender": "nexus@example.org",
    "to": "alice@example.org",
    "user": "smtp_user",
    "password": "smtp_password",
}
NTFY = {"address": "https://ntfy.example.org/home", "token": "ntfy_token"}


def lay(context: Context, folder: Path) -> Path:
    """The main file as the deploy writes it, but for where its templates lie."""
    for file in alertmanager.desired(context).of(File):
        if file.path.startswith(CONFIGURATION):
            text = file.content.replace(alertmanager.FOLDER.encode(), str(folder).encode())
            (folder / file.path.removeprefix(CONFIGURATION)).write_bytes(text)
    return folder / "alertmanager.yml"


@pytest.mark.parametrize("speaks", ["json", "slack", "discord"])
def test_every_channel_is_taken(tmp_path: Path, speaks: str) -> None:
    notify = {"mail": MAIL, "ntfy": NTFY, "webhook": "hook", "webhook_speaks": speaks}
    lay(context_from(notify=notify, monitoring={"heartbeat": "beat"}), tmp_path)
    said = judged(tmp_path, "check-config", "alertmanager.yml", program="amtool")
    assert "SUCCESS" in said and "3 receivers" in said and "1 templates" in said


def test_a_site_without_any_channel_is_taken_and_a_mistake_is_not(tmp_path: Path) -> None:
    file = lay(context_from(), tmp_path)
    assert "SUCCESS" in judged(tmp_path, "check-config", file.name, program="amtool")
    file.write_text(file.read_text().replace("receiver: people", "receiver: stranger"))
    with pytest.raises(AssertionError, match='undefined receiver "stranger"'):
        judged(tmp_path, "check-config", file.name, program="amtool")
