"""Locks between processes, on one machine or on several that share a folder."""

from __future__ import annotations

import errno
import fcntl
from pathlib import Path
from typing import IO

from kerasnac.errors import EnvironmentProblem

#: Errors by which a file system says that it has no locks; a lock that another process holds is another error.
NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP})


def lock(file: IO[bytes] | int, path: Path, *, shared: bool = False, wait: bool = True) -> bool:
    """Lock an open file until it is closed.

    This is ``flock(2)``. On NFS, Linux turns it into a byte-range lock of the server, so that it holds between machines;
    therefore a file is opened for writing before it is locked alone, and for reading before its lock is shared.

    Args:
        file: The file, or its descriptor.
        path: Its path, for messages.
        shared: Let other processes share the lock.
        wait: Wait for a lock that another process holds.

    Returns:
        True if the file is locked now; False if another process holds the lock, which happens without ``wait`` only.

    Raises:
        EnvironmentProblem: If the file system has no locks.
        OSError: If locking fails otherwise.
    """
    operation = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB)
    try:
        fcntl.flock(file, operation)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        raise EnvironmentProblem(
            f"cannot lock {path}: its file system has no locks ({error.strerror}); choose a folder on a local disk, or have "
            "it mounted with locks"
        ) from error
    return True
