"""Versions of the packages that decide the results."""

from __future__ import annotations

from importlib import metadata

#: Packages whose versions decide the results of a run.
PACKAGES = (
    "kerasnac",
    "tensorflow",
    "tf-keras",
    "qkeras",
    "tensorflow-model-optimization",
    "keras-tuner",
    "pymoo",
    "hls4ml",
    "da4ml",
    "rule4ml",
    "numpy",
)


def versions() -> dict[str, str]:
    """Return the version of each of :data:`PACKAGES`, or ``not installed``."""
    return {name: _version(name) for name in PACKAGES}


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
