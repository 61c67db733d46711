"""One page to print: what opens the backups when this machine and the server are both gone."""

from __future__ import annotations

import argparse
import datetime
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from roles.backup import VAULT
from roles.command.inventory import prove
from roles.core.secret import Secret
from roles.core.vault import VaultError, load_key
from roles.plan import kept_secrets
from roles.site.schema import Site, SiteError

FOLDER = Path(__file__).parents[2] / "build"
PAGE = """\
RECOVERY SHEET of the site "{name}"                                       {day}
================================================================================
Whoever holds this page can read every backup and every password of this server.
Print it, lock the paper away outside of the house, and delete this file.

THE VAULT'S KEY (secrets/{name}.vault.json; no character of it may be wrong)
{key}

THE REPOSITORIES
{repositories}

WHEN THE SERVER IS GONE
  1. Install Debian 13 on a new machine, with an SSH key for root.
  2. In the checkout of this project: make restore HOST=address-of-the-machine

WHEN YOUR OWN MACHINE IS GONE, TOO
  1. On any machine with restic and git: clone the project, and put your inventory
     (inventories/{name}.py) into it.
  2. The vault lies in each repository. With that one's address, login and password
     from above:
       restic -r ADDRESS dump --tag host latest \\
         {vault} > secrets/{name}.vault.json
  3. Write the vault's key into a file that you alone can read (chmod 600), and:
       export NEXUS_VAULT_KEY_FILE=that-file
  4. make vault ARGS=list    shows whether the key is right.
  5. Go on as above.
"""


def main(arguments: list[str] | None = None) -> int:
    """Write the page for each host of an inventory; 1 with a line on stderr if it cannot be."""
    parser = argparse.ArgumentParser(prog="recovery-sheet", description=__doc__)
    parser.add_argument("inventory", type=Path)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    options = parser.parse_args(arguments)
    try:
        for entry, site in prove(options.inventory):
            secrets = kept_secrets(site, entry.data.get("vault"))
            text = page(site, secrets, load_key(site.name).decode())
            file = options.folder / f"recovery-sheet-{site.name}.txt"
            write(file, text)
            print(
                f"WRITTEN: {file}\nIt holds the vault's key and the repositories' passwords IN "
                f"CLEAR. Print it, then: shred -u {file}"
            )
    except (SiteError, VaultError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def page(site: Site, secrets: Mapping[str, Secret], key: str) -> str:
    """The text, with secrets in clear."""
    lines = [
        "  local: on the server itself, or its backup disk",
        f"    address   {site.backup.repository}",
        f"    password  {secrets['backup_local_password'].reveal()}",
    ]
    if offsite := site.backup.offsite:
        lines += [
            "  offsite: the one that is left when the server is gone",
            f"    address   {offsite.address}",
            f"    password  {secrets['backup_offsite_password'].reveal()}",
        ]
        for variable, name in sorted(offsite.credentials.items()):
            value = secrets[name].reveal().strip().replace("\n", "\n      ")
            lines.append(f"    {variable}\n      {value}")
    else:
        lines.append(
            "  offsite: NONE. A fire or a thief takes the server and its backups together."
        )
    return PAGE.format(
        name=site.name,
        day=datetime.datetime.now(datetime.UTC).date(),
        key=f"  {key}",
        repositories="\n".join(lines),
        vault=VAULT,
    )


def write(file: Path, text: str) -> None:
    """For its owner alone, from the first byte on.

    Raises:
        OSError: it cannot be written.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    file.unlink(missing_ok=True)
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as opened:
        opened.write(text)


if __name__ == "__main__":
    sys.exit(main())
