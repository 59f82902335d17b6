"""Locks between processes, on one machine or on several that share a folder.

All are ``flock(2)``. The kernel drops such a lock when its process ends, however it ends, so that none is left behind.

On NFS, Linux turns it into a byte-range lock of the server. Between two clients of one server (Linux 6.1, NFSv4.2 and
NFSv3) this was tried, and holds: one client is refused, or waits, while the other has the lock; of journals to which both
append nothing is lost; a killed process leaves no lock. The lock of a client that loses its network is free after the lease
of the server, 90 seconds. Other machines read an appended record at once; a new file they may see some seconds later.
NFSv4 tells clients apart by their host names: two with the same name, containers for example, take each other's locks.

A file system that says that it has no locks is refused: NFSv3 without ``statd``, Lustre without the option ``flock``. One
that is mounted with locks of its own machine alone (``nolock`` or ``local_lock`` of NFS, ``localflock`` of Lustre) does not
tell, and must not be shared by processes of several machines: journals were damaged when this was tried.
"""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from pathlib import Path
from typing import IO
from weakref import WeakValueDictionary

from kerasnac.core.store.files import deleted, make_folder
from kerasnac.errors import EnvironmentProblem, RunError

#: Errors by which a file system says that it has no locks; a lock that another process holds is another error.
NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP})

#: File of a run folder whose lock is that of the folder.
LOCK_FILE = ".lock"


def lock(file: IO[bytes], path: Path, *, shared: bool = False, wait: bool = True) -> bool:
    """Lock an open file until it is closed.

    NFS has two demands: a file that is locked alone is open for writing, and one whose lock is shared is open for reading.

    Args:
        file: The file.
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
    except OSError as error:
        if not wait and error.errno in (errno.EAGAIN, errno.EACCES):  # Network file systems may answer with either.
            return False
        if error.errno not in NO_LOCKS:
            raise
        raise EnvironmentProblem(
            f"cannot lock {path}: its file system has no locks ({error.strerror}); choose a folder on a local disk, or have "
            "this one mounted with locks"
        ) from error
    return True


class FolderLock:
    """Lock of a run folder: one process at a time uses it, and in that process one object.

    A process that locks its own folder again takes the lock from the object that had it, which is closed then. So does
    garbage collection: nothing but the object itself keeps the folder locked.

    Args:
        folder: The folder; made if it does not exist.

    Raises:
        EnvironmentProblem: If the folder cannot be written, or its file system has no locks.
        RunError: If another process uses the folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file: IO[bytes] | None = None
        self._why_closed = f"the run in {folder} is closed: open it again"
        try:
            make_folder(folder)
            file = (folder / LOCK_FILE).open("ab")
        except OSError as error:
            raise EnvironmentProblem(
                f"cannot write to {folder}: {error.strerror}; choose a folder you may write to with --out"
            ) from error
        try:
            self._claim(file)
        finally:
            if file is not self._file:
                file.close()

    def check(self) -> None:
        """Make sure that this object still has the folder.

        Raises:
            RunError: If it is closed, another object of this process has the folder now, or it has been deleted or replaced.
        """
        if self._file is None:
            raise RunError(self._why_closed)
        own = os.fstat(self._file.fileno())
        try:
            now = (self.folder / LOCK_FILE).stat()
        except OSError as error:
            raise deleted(self.folder) from error
        if (now.st_dev, now.st_ino) != (own.st_dev, own.st_ino):
            raise deleted(self.folder)

    def close(self) -> None:
        """Release the folder, if this object still has it."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _claim(self, file: IO[bytes]) -> None:
        """Keep the file if it is locked now, or the file of the object of this process that has locked it before."""
        status = os.fstat(file.fileno())
        # Of a process: a forked one has the objects of its parent, but not the right to its folders.
        own = (os.getpid(), status.st_dev, status.st_ino)
        with _claiming:
            before = _holders.get(own)
            if before is not None and before._file is not None:
                self._file, before._file = before._file, None
                before._why_closed = f"the run in {self.folder} was opened again: use the object that was opened last"
            elif lock(file, self.folder / LOCK_FILE, wait=False):
                self._file = file
            else:
                raise RunError(f"{self.folder} is in use by another process")
            _holders[own] = self


#: Who has locked a folder, by process, device and inode of the lock's file.
_holders: WeakValueDictionary[tuple[int, int, int], FolderLock] = WeakValueDictionary()
_claiming = threading.Lock()
