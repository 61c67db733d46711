"""A failure arrives by mail, ntfy and webhook over TLS, and no secret is anywhere else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from roles import notify
from roles.context import Context
from roles.core.model import File
from tests.lab.sinks import Sinks, sinks

ENTRIES = ("smtp_user", "smtp_password", "ntfy_token", "webhook")
LOGIN = ("value-of-smtp_user", "value-of-smtp_password")


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[Sinks]:
    with sinks(tmp_path / "sink", "127.0.0.1", LOGIN) as found:
        yield found


def site(sink: Sinks, security: str = "starttls") -> dict[str, Any]:
    mail = {
        "server": f"127.0.0.1:{sink.mail_port}",
        "sender": "nexus@example.org",
        "to": "me@example.org",
        "security": security,
        "user": "smtp_user",
        "password": "smtp_password",
    }
    ntfy = {"address": f"https://127.0.0.1:{sink.web_port}/topic", "token": "ntfy_token"}
    trusted = sink.authority.read_text()
    return {"mail": mail, "ntfy": ntfy, "webhook": "webhook", "ca_certificate": trusted}


class Notifier:
    """The host's program with its credential, and a journal that says what it is told to."""

    def __init__(self, context: Context, sink: Sinks, folder: Path) -> None:
        found = {file.path: file for file in notify.desired(context).of(File)}
        text = found[notify.PROGRAM].content.decode()
        self.settings = json.loads(found[notify.SETTINGS].content)
        if self.settings["webhook"]:
            self.settings["webhook"]["address"] = f"https://127.0.0.1:{sink.web_port}/hook-s3Cr3t"
        self.folder = folder
        self.program = folder / "notify"
        self.program.write_text(text.replace("(0, 30, 300), 30", "(0, 0), 1"))
        journal = folder / "journalctl"
        journal.write_text("#!/bin/sh\necho offsite: the repository did not answer\n")
        journal.chmod(0o755)

    def tell(self, unit: str) -> subprocess.CompletedProcess[str]:
        (self.folder / "channels.json").write_text(json.dumps(self.settings))
        environment = {
            "PATH": f"{self.folder}:{os.defpath}",
            "CREDENTIALS_DIRECTORY": str(self.folder),
        }
        argv = [sys.executable, "-I", str(self.program), unit]
        return subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def notifier(make_context: Callable[..., Context], sink: Sinks, tmp_path: Path) -> Notifier:
    return Notifier(make_context(notify=site(sink)), sink, tmp_path)


def test_every_channel_is_told_what_failed(notifier: Notifier, sink: Sinks) -> None:
    done = notifier.tell("nexus-backup@run.service")
    assert done.returncode == 0, done.stdout + done.stderr
    title, why = "home: nexus-backup@run.service failed", "offsite: the repository did not answer"
    assert f"Subject: {title}" in sink.mails[0] and why in sink.mails[0]
    topic, hook = sink.posts
    assert (topic["path"], topic["headers"]["Title"]) == ("/topic", title)
    assert topic["headers"]["Authorization"] == "Bearer value-of-ntfy_token"
    assert why in topic["body"]
    assert hook["path"] == "/hook-s3Cr3t" and hook["body"]["text"].startswith(title)
    said = done.stdout + done.stderr
    assert "<3>nexus-backup@run.service failed; see: journalctl -u" in said
    assert not [secret for secret in (*LOGIN, "value-of", "s3Cr3t") if secret in said]


def test_the_operator_can_try_it(notifier: Notifier, sink: Sinks) -> None:
    assert notifier.tell("test").returncode == 0
    assert "If you can read this" in sink.mails[0]
    notifier.settings.update(mail=None, ntfy=None, webhook=None)
    assert notifier.tell("test").returncode == 1
    # A failure is in the journal at least.
    assert notifier.tell("nexus-backup@run.service").returncode == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"ca_certificate": ""}, "its certificate is not trusted"),
        ({"mail": {"password": "another"}}, "mail: not told: SMTP 535"),
        ({"mail": {"security": "tls"}}, "mail: not told: "),
    ],
)
def test_one_deaf_channel_does_not_silence_the_others(
    notifier: Notifier, sink: Sinks, change: dict[str, Any], said: str
) -> None:
    for key, value in change.items():
        old = notifier.settings[key]
        notifier.settings[key] = {**old, **value} if isinstance(value, dict) else value
    done = notifier.tell("nexus-backup@run.service")
    assert done.returncode == 1
    assert said in done.stdout, done.stdout + done.stderr
    assert not sink.mails
    assert len(sink.posts) == (2 if "mail" in change else 0)
    assert "s3Cr3t" not in done.stdout + done.stderr and "value-of" not in done.stdout


@pytest.mark.parametrize("status", [404, 302])
def test_an_answer_that_is_no_success_is_a_failure(
    notifier: Notifier, sink: Sinks, status: int
) -> None:
    """A redirect as well: a token goes nowhere else."""
    sink.status = status
    done = notifier.tell("nexus-backup@run.service")
    assert done.returncode == 1
    assert f"webhook: not told: HTTP {status}" in done.stdout, done.stdout
    assert len(sink.posts) == 4  # two channels, two attempts each


def test_what_opens_the_channels_is_in_one_file_for_root(
    make_context: Callable[..., Context], sink: Sinks
) -> None:
    role = notify.desired(make_context(notify=site(sink)))
    for name in ENTRIES:
        holders = [f for f in role.of(File) if f"value-of-{name}".encode() in f.content]
        assert [(f.path, f.mode, f.secret) for f in holders] == [(notify.SETTINGS, "0400", True)]
