"""Run one server and end it when whoever asked for it is gone.

`headwater.processes` starts this file as a script. Standard input is a pipe whose other end only the asker
holds: the byte ``q`` asks for an orderly end, ``k`` for a sudden one, its closing means that the asker died.
The kernel's death signal would not do: it fires when the *thread* that started a child ends; Linux only.

Arguments: process id of the asker, workspace to delete if the asker died, then the command line.
Standard output carries one line, the server's process id; standard error is the server's log.
"""

import contextlib
import ctypes
import os
import select
import shutil
import signal
import sys
import time

GRACE_S = 5.0
POLL_S = 1.0
PR_SET_PDEATHSIG = 1
EXEC_FAILED = 127
GONE = b""


def main(argv: list[str]) -> int:
    """Start the server, wait for its end or for the asker's, and return the server's exit code."""
    asker, workspace, *command = argv[1:]
    wakeup = _listen_to_signals()
    server = os.fork()
    if server == 0:
        _become_server(command)
    print(server, flush=True)
    request = _wait_for_end(int(asker), server, wakeup)
    code = _end(server, signal.SIGKILL if request == b"k" else signal.SIGTERM)
    if request == GONE:
        shutil.rmtree(workspace, ignore_errors=True)
    return code


def _listen_to_signals() -> int:
    """Turn SIGTERM and the server's end into bytes on a pipe; a terminal's Ctrl-C is the asker's business."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)
    for number in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, lambda _number, _frame: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return reader


def _become_server(command: list[str]) -> None:
    """Replace the forked copy by the server, which the kernel ends if this supervisor is killed."""
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGCHLD, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        die_with_parent()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(2, 1)
        os.execv(command[0], command)  # noqa: S606 the command is ours; a shell would only add a process
    except OSError as error:
        os.write(2, f"cannot run {command[0]}: {error}\n".encode())
    finally:
        os._exit(EXEC_FAILED)


def die_with_parent() -> None:
    """Have the kernel end this process when the thread that started it ends; only on Linux."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _wait_for_end(asker: int, server: int, wakeup: int) -> bytes:
    """Block until the server ends, or the asker wishes it to end, or the asker is gone; say which."""
    while os.getppid() == asker:
        # The timeout covers a forked copy of the asker that keeps the pipe open after the asker's death.
        readable, _, _ = select.select([0, wakeup], [], [], POLL_S)
        if wakeup in readable and (signal.SIGTERM in os.read(wakeup, 64) or _has_ended(server)):
            return b"q"
        if 0 in readable:
            return os.read(0, 1)
    return GONE


def _has_ended(server: int) -> bool:
    """Return whether the server is gone: where it is only paused, or goes on, the signal is the same."""
    if not hasattr(os, "waitid"):  # macOS, before Python 3.13
        return True
    return os.waitid(os.P_PID, server, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _end(server: int, first: signal.Signals) -> int:
    """Ask the server to stop, insist after the grace period, and return its exit code."""
    _send(server, first)
    _send(server, signal.SIGCONT)
    deadline = time.monotonic() + GRACE_S
    while True:
        ended, status = os.waitpid(server, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status) % 256
        if time.monotonic() > deadline:
            _send(server, signal.SIGKILL)
        time.sleep(0.005)


def _send(server: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(server, number)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
