"""Names that become those of folders: from users, and from files that anybody may have written."""

from __future__ import annotations

import re

from kerasnac.errors import ConfigError

#: Bytes of the longest name that a user may give; what stages add to it (widths, ways of pruning) comes on top.
LONGEST_GIVEN = 100

#: Bytes of the longest name of all: file systems have 255, of which temporary files need some.
LONGEST = 200


def check_name(name: object, longest: int = LONGEST) -> str:
    """Return a name that may become the name of a folder.

    Args:
        name: From a user or a file.
        longest: Bytes that it may have.

    Raises:
        ConfigError: If it is none; with it, a file could be written anywhere.
    """
    rule = "a name becomes the name of a folder: use letters, digits, _, - and ."
    if not isinstance(name, str) or not re.fullmatch(r"\w[\w.-]*", name):
        raise ConfigError(f"{name!r:.80} is no name: {rule}")
    if len(name.encode(errors="replace")) > longest:
        raise ConfigError(f"the name {name:.30}... is too long: {rule}, at most {longest} of them")
    return name
