"""Compile `guard.cpp` once per machine and load it, before torch is imported"""

import ctypes
import hashlib
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

SOURCE = Path(__file__).with_name("guard.cpp")
FLAGS = ("-std=c++20", "-O1", "-shared", "-fPIC")


def compiler() -> str | None:
    """The C++ compiler of this machine, `$CXX` first; None where there is none."""
    names = (os.environ.get("CXX"), "g++", "clang++", "c++")
    return next((found for name in names if name and (found := shutil.which(name))), None)


def torch_folder() -> Path:
    """Where torch is installed, without importing it."""
    spec = importlib.util.find_spec("torch")
    assert spec is not None and spec.origin is not None, "torch is not installed"
    return Path(spec.origin).parent


def cache_folder() -> Path:
    """A folder of this user alone below the system's temporary folder."""
    folder = Path(tempfile.gettempdir()) / f"tsae-pretend-cuda-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise RuntimeError(f"{folder} can be written by others: code is not loaded from there")
    return folder


def build() -> Path:
    """The compiled guard, named by its source, its flags and the version of torch; compiled now if it is not there."""
    parts = (SOURCE.read_bytes(), " ".join(FLAGS).encode(), importlib.metadata.version("torch").encode())
    built = cache_folder() / f"guard-{hashlib.sha256(b'|'.join(parts)).hexdigest()[:16]}.so"
    if built.is_file():
        return built
    program, torch_root = compiler(), torch_folder()
    if program is None:
        raise RuntimeError("the pretend CUDA device needs a C++ compiler (g++ or clang++): install one, or set CXX")
    temporary = built.with_suffix(f".{os.getpid()}.partial")  # several processes may build at once; the last one wins
    include, libraries = torch_root / "include", torch_root / "lib"
    places = [f"-I{include}", f"-I{include / 'torch' / 'csrc' / 'api' / 'include'}", f"-L{libraries}"]
    command = [program, *FLAGS, str(SOURCE), "-o", str(temporary), *places, "-lc10", "-ltorch_cpu"]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
        os.replace(temporary, built)
    except subprocess.CalledProcessError as error:
        raise RuntimeError(f"{SOURCE} cannot be compiled:\n{error.stderr}") from error
    finally:
        temporary.unlink(missing_ok=True)
    return built


def load() -> None:
    """Load torch's libraries, then the guard: torch asks for the hooks once, so they must be there first."""
    libraries = torch_folder() / "lib"
    for name in ("libc10.so", "libtorch_cpu.so"):
        ctypes.CDLL(str(libraries / name), ctypes.RTLD_GLOBAL)
    ctypes.CDLL(str(build()))
