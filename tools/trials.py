"""What long trials share: work in a process of its own, and the commit that a stored result belongs to"""

import os
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from tsae_nb.config import UserError
from tsae_nb.processes import Terminated, terminable

ROOT = Path(__file__).resolve().parents[1]


def git(*arguments: str) -> str:
    """What git says of the project."""
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.rstrip()


def changed(*apart: Path, untracked: bool = False) -> list[str]:
    """The lines of `git status` on files that differ from the commit, those in `apart` left out."""
    within = [path.resolve() for path in apart if path.resolve().is_relative_to(ROOT)]
    besides = [f":(exclude){path.relative_to(ROOT)}" for path in within]
    found = git("status", "--porcelain", f"--untracked-files={'all' if untracked else 'no'}", "--", ".", *besides)
    return found.splitlines()


def commit(result: Path) -> str:
    """The commit of the tree, with a `+` where tracked files other than the result differ from it."""
    return git("rev-parse", "HEAD") + ("+" if changed(result) else "")


def apart(work: Callable[[], object], log: Path) -> int:
    """Start work in a process of its own session; exit status 0 done, 2 a `UserError`, 1 anything else."""
    sys.stdout.flush()  # or what waits is written twice
    process = os.fork()
    if process:
        return process
    status = 1
    try:
        os.setsid()
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        # whoever has replaced them; open until the process ends
        sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
        work()
        status = 0
    except UserError as error:
        print(error, file=sys.stderr)
        status = 2
    except BaseException:
        traceback.print_exc()
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:  # whatever happens: what the parent would tidy up on its way out is not ours
            os._exit(status)


def status_of(work: Callable[[], int]) -> int:
    """The exit status that work returns; 2 after the sentence of a `UserError`, 130 where it was stopped."""
    try:
        with terminable():
            return work()
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    except (KeyboardInterrupt, Terminated):
        print("stopped; the same command goes on", file=sys.stderr)
        return 130
