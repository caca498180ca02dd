"""A real Slurm of one node in a folder of its own: controller, node and keys are processes of whoever asks

Debian's packages `slurm-wlm` and `munge` are all it needs; nothing of the system's own configuration is read.

    with own_slurm(folder) as environment:
        subprocess.run(["sinfo"], env=environment)
"""

import getpass
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol", "scancel")
SETTINGS = """
ClusterName=own
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
SlurmUser={user}
SlurmdUser={user}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_min_interval=100000
SlurmdParameters=config_overrides
KillWait=2
ReturnToService=2
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=UNLIMITED State=UP
"""


def missing() -> str:
    """Why there can be no Slurm here; empty where there can."""
    path = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))
    absent = [name for name in PROGRAMS if shutil.which(name, path=path) is None]
    return f"needs Slurm ({', '.join(absent)}): apt-get install slurm-wlm munge" if absent else ""


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]


@contextmanager
def _running(command: list[str], environment: dict[str, str], log: Path) -> Iterator[None]:
    with open(log, "wb") as said, subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=said, stderr=said) as process:
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


@contextmanager
def own_slurm(folder: Path) -> Iterator[dict[str, str]]:
    """A Slurm whose files are in `folder` (a short path: sockets are there); yields the environment of its commands."""
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    folder.chmod(0o755)
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o400)
    controller, node = _free_ports(2)
    host, user = socket.gethostname().partition(".")[0], getpass.getuser()
    configuration = folder / "slurm.conf"
    configuration.write_text(SETTINGS.format(host=host, user=user, folder=folder, controller=controller, node=node))
    path = os.pathsep.join((os.environ["PATH"], "/usr/sbin", "/sbin"))
    environment = {**os.environ, "PATH": path, "SLURM_CONF": str(configuration)}
    files = {"--key-file": key, "--socket": folder / "munge.socket", "--pid-file": folder / "munged.pid",
             "--log-file": folder / "munged.log", "--seed-file": folder / "munged.seed"}
    keys = ["munged", "--foreground", "--force", "--num-threads=1", *(f"{name}={file}" for name, file in files.items())]
    with ExitStack() as stack:
        for command in (keys, ["slurmctld", "-D", "-i"], ["slurmd", "-D"]):
            stack.enter_context(_running(command, environment, folder / f"{command[0]}.said"))
            if command is keys:
                _wait((folder / "munge.socket").exists, folder)
        _wait(lambda: "idle" in subprocess.run(
            ["sinfo", "--noheader", "--format=%t"], env=environment, capture_output=True, text=True).stdout, folder)
        try:
            yield environment
        finally:  # a task outlives controller and node
            subprocess.run(["scancel", "--quiet", f"--user={user}"], env=environment)
            queue = ["squeue", "--noheader"]
            _wait(lambda: not subprocess.run(queue, env=environment, capture_output=True).stdout, folder)


def _wait(what: object, folder: Path, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not what():  # type: ignore[operator]
        if time.monotonic() > end:
            said = "\n".join(f"{log.name}: {log.read_text()[-1500:]}" for log in sorted(folder.glob("*.said")))
            raise AssertionError(f"Slurm does not start, or does not end\n{said}")
        time.sleep(0.1)
