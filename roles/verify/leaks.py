"""Whether a text holds a secret, as it is or as programs write it down. Names, never values."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from urllib.parse import quote

from roles.core.secret import Secret

PUBLIC = frozenset({"tls_ca_certificate", "tls_server_certificate"})
# A shorter text would be found by chance.
SHORTEST = 8


class Searcher:
    """The forms of every secret value of a site."""

    def __init__(self, secrets: Mapping[str, Secret]) -> None:
        self._forms = {
            name: _forms(secret.reveal()) for name, secret in secrets.items() if name not in PUBLIC
        }

    def __repr__(self) -> str:
        return f"Searcher({', '.join(self._forms)})"

    def found_in(self, text: str) -> list[str]:
        """The names of the entries whose value stands in a text."""
        return [name for name, forms in self._forms.items() if any(form in text for form in forms)]


def _forms(value: str) -> set[str]:
    """The value, its longest line (a key's, in any layout), base64, and percent-encoding."""
    longest = max(value.splitlines(), key=len, default="")
    octets = value.encode()
    # Whole groups of three: what follows the value would change the last one.
    encoded = base64.b64encode(octets[: len(octets) // 3 * 3]).decode()
    forms = {value, longest, encoded, quote(value, safe="")}
    return {form for form in forms if len(form) >= SHORTEST}
