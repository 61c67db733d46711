"""A headless Chromium that trusts the site's own authority and finds its names at the host."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

# Without these Chromium asks the internet for updates and lists at every start.
QUIET = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--window-size=1200,900",
)


@contextmanager
def chromium(folder: Path, authority: str, domain: str, address: str) -> Iterator[Chrome]:
    """A browser with an empty profile in `folder`; `authority` is a PEM certificate.

    Certificates are checked: a wrong one makes every page an error.
    """
    _trust(folder, authority)
    rules = f"MAP *.{domain} {address}, EXCLUDE localhost, MAP * ~NOTFOUND"
    with bare_chromium(folder, f"--host-resolver-rules={rules}") as driver:
        driver.implicitly_wait(10)
        yield driver


@contextmanager
def bare_chromium(folder: Path, *arguments: str) -> Iterator[Chrome]:
    """A browser with an empty profile in `folder`, for pages that are files."""
    options = ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for argument in (*QUIET, f"--user-data-dir={folder}/profile", *arguments):
        options.add_argument(argument)
    service = Service("/usr/bin/chromedriver", env={"HOME": str(folder), "PATH": "/usr/bin:/bin"})
    driver = Chrome(options=options, service=service)
    driver.set_page_load_timeout(30)
    try:
        yield driver
    finally:
        driver.quit()


def _trust(folder: Path, authority: str) -> None:
    """Put the authority in the database that Chromium reads on Linux (nssdb)."""
    database = folder / ".pki" / "nssdb"
    database.mkdir(parents=True)
    file = folder / "authority.pem"
    file.write_text(authority)
    store = ["certutil", "-d", f"sql:{database}"]
    subprocess.run([*store, "-N", "--empty-password"], check=True)
    subprocess.run([*store, "-A", "-t", "C,,", "-n", "site", "-i", str(file)], check=True)
