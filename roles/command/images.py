"""Ask each registry what the locked tags stand for now, and show or keep the difference.

A digest is what runs; a tag may be moved by its publisher, for good (a rebuilt base) or for bad.
Exit 0: all as locked. 2: some are not. 1: a registry could not be asked.
"""

from __future__ import annotations

import argparse
import json
import re
import ssl
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from roles.stack.stack import IMAGE_LOCK

# An index over platforms, or one platform's manifest (OCI distribution specification 1.1).
ACCEPT = ", ".join(
    (
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)
LINE = re.compile(
    r"(?P<name>[a-z0-9-]+): (?P<host>[^/\s]+)/(?P<path>[^:@\s]+):(?P<tag>[^@\s]+)"
    r"@(?P<digest>sha256:[0-9a-f]{64})"
)
SECONDS = 30
# The one registry whose address is not its name.
DOCKER_HUB = {"docker.io": "registry-1.docker.io"}
LOCAL = re.compile(r"(127\.0\.0\.1|localhost)(:\d+)?")


class ImagesError(Exception):
    """A registry or the lock file cannot be read; the text says which and why."""


@dataclass(frozen=True, slots=True)
class Locked:
    """One line of the lock file."""

    name: str
    host: str
    path: str
    tag: str
    digest: str

    @property
    def url(self) -> str:
        scheme = "http" if LOCAL.fullmatch(self.host) else "https"
        host = DOCKER_HUB.get(self.host, self.host)
        return f"{scheme}://{host}/v2/{self.path}/manifests/{self.tag}"


def locked(text: str) -> Iterator[Locked]:
    """The images of a lock file.

    Raises:
        ImagesError: a line that is neither a comment nor an image by tag and digest.
    """
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        found = LINE.fullmatch(line)
        if not found:
            raise ImagesError(f"{IMAGE_LOCK.name}:{number}: is not NAME: HOST/PATH:TAG@sha256:...")
        yield Locked(**found.groupdict())


def digest_of(image: Locked, context: ssl.SSLContext | None = None) -> str:
    """What the registry says the tag stands for now.

    Raises:
        ImagesError: no answer, no such tag, or no digest in the answer.
    """
    request = urllib.request.Request(image.url, method="HEAD", headers={"Accept": ACCEPT})  # noqa: S310
    try:
        try:
            return _digest(image, request, context)
        except urllib.error.HTTPError as error:
            if error.code != 401:
                raise
            request.add_header("Authorization", f"Bearer {_token(error, context)}")
            return _digest(image, request, context)
    except (OSError, ValueError, KeyError) as error:
        raise ImagesError(
            f"{image.name}: {image.host}/{image.path}:{image.tag}: {error}"
        ) from error


def _digest(image: Locked, request: urllib.request.Request, context: ssl.SSLContext | None) -> str:
    with urllib.request.urlopen(request, timeout=SECONDS, context=context) as answer:  # noqa: S310
        digest = answer.headers.get("Docker-Content-Digest", "")
    if not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
        raise ValueError("the answer names no digest")
    return str(digest)


def _token(error: urllib.error.HTTPError, context: ssl.SSLContext | None) -> str:
    """An anonymous token, from where the registry's refusal says (distribution's token spec)."""
    fields = dict(re.findall(r'(\w+)="([^"]*)"', error.headers.get("WWW-Authenticate", "")))
    realm = fields.pop("realm")
    if not realm.startswith("https://") and not LOCAL.match(realm.removeprefix("http://")):
        raise ValueError("its token server has no TLS")
    url = f"{realm}?{urllib.parse.urlencode(fields)}"
    with urllib.request.urlopen(url, timeout=SECONDS, context=context) as answer:  # noqa: S310
        document = json.load(answer)
    return str(document.get("token") or document["access_token"])


def main(arguments: list[str] | None = None) -> int:
    """Print a line an image; see the module for the exit status."""
    parser = argparse.ArgumentParser(prog="images", description=__doc__)
    parser.add_argument("--write", action="store_true", help="keep what the registries say")
    parser.add_argument("--lock", type=Path, default=IMAGE_LOCK)
    options = parser.parse_args(arguments)
    text = options.lock.read_text()
    try:
        images = list(locked(text))
    except ImagesError as error:
        print(error, file=sys.stderr)
        return 1
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(_asked, images))
    moved = 0
    for image, answer in zip(images, answers, strict=True):
        changed = isinstance(answer, str) and answer != image.digest
        moved += changed
        word = "FAILED" if not isinstance(answer, str) else "moved" if changed else "as locked"
        print(f"{image.name:<14} {image.tag:<20} {word}")
        if changed:
            print(f"  - {image.digest}\n  + {answer}")
            text = text.replace(image.digest, str(answer))
    for answer in answers:
        if isinstance(answer, ImagesError):
            print(answer, file=sys.stderr)
    if options.write and moved:
        options.lock.write_text(text)
        print(f"{options.lock} written; read the difference before you deploy it")
    if any(isinstance(answer, ImagesError) for answer in answers):
        return 1
    return 2 if moved and not options.write else 0


def _asked(image: Locked) -> str | ImagesError:
    try:
        return digest_of(image)
    except ImagesError as error:
        return error


if __name__ == "__main__":
    sys.exit(main())
