"""Which states a power cut may leave on a disk: what `storage` does is recorded, and replayed with the unsynced lost.

The model is that of a journaling file system, without its favours: of the names in a folder (made, renamed, removed)
some first part survives, at least what was there when the folder was last synced; a file has the content it was last
synced with, and what was written since is there, torn, or gone. Folders and files are independent of each other.
"""

import itertools
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tsae_nb import storage

ROOT = 0  # the folder below which everything happens


@dataclass
class Recording:
    """Names before (folder → name → node), contents before (node → bytes), and operations in their order.

    Operations: ("name", folder, name, node or None), ("move", folder, old, new, node), ("swap", folder, one, other),
    ("write", node, bytes), ("sync", node).
    """

    names: dict[int, dict[str, int]] = field(default_factory=dict)
    contents: dict[int, bytes] = field(default_factory=dict)
    operations: list[tuple[Any, ...]] = field(default_factory=list)

    @property
    def syncs(self) -> list[int]:
        """Where in the operations something is synced."""
        return [place for place, operation in enumerate(self.operations) if operation[0] == "sync"]


class Recorder:
    """Follows a folder: between two operations of `storage` it looks at what has changed there."""

    def __init__(self, root: Path) -> None:
        self.root, self.numbers, self.recording = root, itertools.count(ROOT), Recording()
        self.nodes: dict[Path, tuple[int, int]] = {}  # path → (the system's number, ours)
        self.known: dict[int, bytes | None] = {}  # our number → content, None for a folder
        self.look()
        for path, (_, node) in self.nodes.items():
            if path != self.root:
                self.recording.names[self.nodes[path.parent][1]][path.name] = node
        self.recording.contents = {node: content for node, content in self.known.items() if content is not None}
        self.recording.operations.clear()  # what was there before is on the disk

    def look(self) -> None:
        """Record what has changed since the last look."""
        operations = self.recording.operations
        there = [self.root, *sorted(self.root.rglob("*"))]
        gone = [path for path in self.nodes if path not in there or path.lstat().st_ino != self.nodes[path][0]]
        for path in sorted(gone, reverse=True):  # what is in a folder before the folder
            operations.append(("name", self.nodes[path.parent][1], path.name, None))
            del self.nodes[path]
        for path in there:
            if path not in self.nodes:
                node = next(self.numbers)
                self.nodes[path] = path.lstat().st_ino, node
                if path != self.root:
                    operations.append(("name", self.nodes[path.parent][1], path.name, node))
                if path.is_dir():
                    self.known[node] = None
                    self.recording.names.setdefault(node, {})
                else:
                    self.known[node] = b""
            node, content = self.nodes[path][1], None if path.is_dir() else path.read_bytes()
            if content != self.known[node]:
                operations.append(("write", node, content))
                self.known[node] = content

    def moved(self, *pairs: tuple[Path, Path]) -> None:
        """Names have changed places: what is below them goes along."""
        new = {}
        for path, numbers in list(self.nodes.items()):
            for old, now in pairs:
                if path == old or old in path.parents:
                    new[now / path.relative_to(old)] = numbers
                    self.nodes.pop(path, None)
        self.nodes |= new


@contextmanager
def recorded(root: Path) -> Iterator[Recording]:
    """Record what `storage` does below a folder."""
    recorder = Recorder(root)
    real = {name: getattr(storage, name) for name in ("sync", "_rename", "_exchange")}
    operations = recorder.recording.operations

    def sync(path: Path) -> None:
        recorder.look()
        if Path(path) in recorder.nodes:
            operations.append(("sync", recorder.nodes[Path(path)][1]))

    def rename(old: Path, new: Path) -> None:
        recorder.look()
        real["_rename"](old, new)
        folder, node = recorder.nodes[old.parent][1], recorder.nodes[old][1]
        operations.append(("move", folder, old.name, new.name, node))
        recorder.nodes.pop(new, None)
        recorder.moved((old, new))

    def exchange(one: Path, other: Path) -> bool:
        recorder.look()
        if not real["_exchange"](one, other):
            return False
        operations.append(("swap", recorder.nodes[one.parent][1], one.name, other.name))
        recorder.moved((one, other), (other, one))
        return True

    users = [module for name, module in sys.modules.items() if name.startswith("tsae_nb.")]
    places = [(module, name) for module in users for name in real if getattr(module, name, None) is real[name]]
    for module, name in places:
        setattr(module, name, {"sync": sync, "_rename": rename, "_exchange": exchange}[name])
    try:
        yield recorder.recording
        recorder.look()
    finally:
        for module, name in places:
            setattr(module, name, real[name])


def _apply(names: dict[int, dict[str, int]], operation: tuple[Any, ...]) -> None:
    kind, folder, *rest = operation
    here = names.setdefault(folder, {})
    if kind == "name":
        name, node = rest
        if node is None:
            here.pop(name, None)
        else:
            here[name] = node
    elif kind == "move":
        old, new, node = rest
        here.pop(old, None)
        here[new] = node
    else:
        one, other = rest
        here[one], here[other] = here[other], here[one]


def _choices(operations: list[tuple[Any, ...]], contents: dict[int, bytes]) -> tuple[dict[int, list[Any]], ...]:
    """Of each folder the numbers of its operations that may survive, of each file the contents that may be there."""
    last = {operation[1]: place for place, operation in enumerate(operations) if operation[0] == "sync"}
    folders: dict[int, list[int]] = {}
    files: dict[int, list[bytes]] = {}
    for place, operation in enumerate(operations):
        kind, node = operation[:2]
        if kind in ("name", "move", "swap"):
            counts = folders.setdefault(node, [0])
            counts[:] = [counts[-1] + 1] if place < last.get(node, -1) else [*counts, counts[-1] + 1]
        elif kind == "write":
            if place < last.get(node, -1):
                files[node] = [operation[2]]
            else:
                before = files.setdefault(node, [contents.get(node, b"")])
                files[node] = [*before, operation[2][: len(operation[2]) // 2], operation[2]]
    return folders, files


def states(recording: Recording, without: int | None = None, most: int = 150) -> Iterator[tuple[bool, dict[str, Any]]]:
    """(whether all operations had ended, tree) for each state; `without` leaves out the operation of that number.

    A tree is name → bytes or tree. Of a moment with very many states, `most` are drawn (always the same).
    """
    operations = [operation for place, operation in enumerate(recording.operations) if place != without]
    for ended in range(len(operations) + 1):
        done = operations[:ended]
        folders, files = _choices(done, recording.contents)
        spaces = [*folders.values(), *files.values()]
        total = 1
        for space in spaces:
            total *= len(space)
        chosen: Any = itertools.product(*spaces)
        if total > most:
            draw = random.Random(ended)
            extremes = [tuple(space[end] for space in spaces) for end in (0, -1)]
            alone = [tuple(space[0 if n == k else -1] for n, space in enumerate(spaces)) for k in range(len(spaces))]
            chosen = [*extremes, *alone, *(tuple(map(draw.choice, spaces)) for _ in range(most))]
        for choice in chosen:
            counts = dict(zip(folders, choice, strict=False))
            contents = {**recording.contents, **dict(zip(files, choice[len(folders):], strict=True))}
            names = {folder: dict(here) for folder, here in recording.names.items()}
            passed = dict.fromkeys(counts, 0)
            for operation in done:
                if operation[0] in ("name", "move", "swap") and passed[operation[1]] < counts[operation[1]]:
                    _apply(names, operation)
                    passed[operation[1]] += 1
            yield ended == len(operations), _tree(ROOT, names, contents, recording)


def _tree(
    node: int, names: dict[int, dict[str, int]], contents: dict[int, bytes], recording: Recording
) -> dict[str, Any]:
    return {name: _tree(child, names, contents, recording) if child in recording.names else contents.get(child, b"")
            for name, child in names.get(node, {}).items()}


def lay_out(tree: dict[str, Any], folder: Path) -> None:
    """Make a tree on the disk."""
    folder.mkdir()
    for name, content in tree.items():
        if isinstance(content, dict):
            lay_out(content, folder / name)
        else:
            (folder / name).write_bytes(content)


def bad_states(recording: Recording, read: Callable[[Path], Any], allowed: list[Any], scratch: Path,
               without: int | None = None) -> Iterator[tuple[dict[str, Any], Any]]:
    """(tree, what was read) where `read` fails, or finds what is not `allowed` (at the end the last)."""
    seen = set()
    for ended, tree in states(recording, without):
        key = (ended, repr(tree))
        if key in seen:
            continue
        seen.add(key)
        place = scratch / str(len(seen))
        lay_out(tree, place)
        try:
            found = read(place)
        except Exception as error:
            found = f"{type(error).__name__}: {error}"
        if found not in (allowed[-1:] if ended else allowed):
            yield tree, found
