"""Publish all images to a registry named host:port, always over TLS."""

from __future__ import annotations

from pathlib import Path

from tests.lab import images


def publish(registry: str, ca_file: Path, cache: Path, bin_dir: Path | None) -> dict[str, str]:
    """Build what `cache` lacks and push what the registry lacks.

    `registry` is host:port; `bin_dir` may hold a real `authelia` that replaces its double.
    Returns each image's name with its reference by digest. Errors: RegistryError, and
    subprocess.CalledProcessError for a tool that failed.
    """
    return images.publish(f"https://{registry}", ca_file, cache, bin_dir)
