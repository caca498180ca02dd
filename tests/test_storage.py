"""Storage: states that a power cut may leave, damage, several writers at once, killed writers, folders of others."""

import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from crash_states import bad_states, lay_out, recorded, states

from tsae_nb import storage
from tsae_nb.foundation import CorruptFileError, UserError
from tsae_nb.storage import (
    Busy,
    Cache,
    Stored,
    drop_lock,
    holder,
    lock_file,
    locked,
    read_json,
    read_sealed,
    record,
    remove_stored,
    settled,
    verify,
    whole_directory,
    write_json,
    write_sealed,
)
from tsae_nb.views import index_build
from tsae_nb.views.feature_index import FeatureIndex
from tsae_nb.views.index_build import batch_of

# Each writer keeps version `n` below a folder; the reader says which one is there, whole. `None`: there is none.


def write_file(folder: Path, version: int) -> None:
    write_json(folder / "value.json", [version] * 50)


def write_deep_file(folder: Path, version: int) -> None:
    write_json(folder / "a" / "b" / "value.json", [version] * 50)


def write_folder(folder: Path, version: int) -> None:
    with whole_directory(folder / "kept", "numbers") as temporary:
        (temporary / "below").mkdir()
        write_json(temporary / "value.json", [version] * 50)
        write_json(temporary / "below" / "value.json", [version] * 50)


def write_recorded(folder: Path, version: int) -> None:
    write_json(folder / "value.json", [version] * 50)
    record(folder, "run", ["value.json"])


def write_seal(folder: Path, version: int) -> None:
    write_sealed(folder / "value.json", "numbers", [version] * 50)


def remove(folder: Path, version: int) -> None:
    remove_stored(folder / "kept")


def read_file(folder: Path) -> int | None:
    path = next(folder.rglob("value.json"), None)
    return None if path is None else _one(read_json(path))


def read_seal(folder: Path) -> int | None:
    return _one(read_sealed(folder / "value.json", "numbers")) if (folder / "value.json").is_file() else None


def read_folder(folder: Path) -> int | None:
    if not settled(folder / "kept").is_dir():
        return None
    kept = Stored(folder / "kept", "numbers")
    assert kept.json("value.json") == kept.json("below/value.json")
    return _one(kept.json("value.json"))


def read_recorded(folder: Path) -> int | None:
    """What is not as recorded is not believed, and made again."""
    try:
        kept = Stored(folder, "run")
        return _one(kept.json("value.json")) if kept.files else None
    except CorruptFileError:
        return None


def _one(values: list[int]) -> int:
    assert len(values) == 50 and len(set(values)) == 1
    return values[0]


WAYS: dict[str, tuple[Callable[[Path, int], None], Callable[[Path], int | None], int, list[int | None]]] = {
    # writer, reader, versions written before, what may be found (the last one when the writer has returned)
    "a new file": (write_file, read_file, 0, [None, 1]),
    "a file again": (write_file, read_file, 1, [1, 2]),
    "a file in new folders": (write_deep_file, read_file, 0, [None, 1]),
    "a sealed file again": (write_seal, read_seal, 1, [1, 2]),
    "a new folder": (write_folder, read_folder, 0, [None, 1]),
    "a folder again": (write_folder, read_folder, 1, [1, 2]),
    "a folder again, without exchange": (write_folder, read_folder, 1, [1, 2]),
    "a folder removed": (lambda folder, _: remove(folder, 0), read_folder, 1, [1, None]),
    "a recorded file": (write_recorded, read_recorded, 0, [None, 1]),
}


@pytest.fixture(name="memory")
def _memory() -> Iterator[Path]:
    """A folder in memory, where there is one: thousands of states are laid out."""
    folder = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(params=WAYS, name="way")
def _way(request: pytest.FixtureRequest, memory: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """(what was recorded, writer, reader, what may be found)"""
    writer, reader, before, allowed = WAYS[request.param]
    if "without exchange" in request.param:
        monkeypatch.setattr(storage, "_exchange", lambda one, other: False)
    if "remove" in request.param or before:
        (write_folder if "folder" in request.param else writer)(_made(memory / "disk"), 1)
    with recorded(_made(memory / "disk")) as recording:
        writer(memory / "disk", before + 1)
    monkeypatch.setattr(storage, "_started", lambda process: -1)  # the writer's machine was switched off
    monkeypatch.setattr(storage, "sync", lambda path: None)  # from here on time counts
    return recording, writer, reader, allowed


def _made(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder


def test_after_a_power_cut_the_old_or_the_new_is_whole(way: Any, memory: Path) -> None:
    recording, _, reader, allowed = way
    scratch = _made(memory / "states")
    assert list(bad_states(recording, reader, allowed, scratch)) == []
    assert len(list(scratch.iterdir())) > 3


def test_every_single_sync_is_needed(way: Any, memory: Path) -> None:
    recording, writer, reader, allowed = way
    if writer is write_recorded:
        return  # two files one after the other: the second's sync of the folder does for both names
    assert recording.syncs
    for number, sync in enumerate(recording.syncs):
        found = next(bad_states(recording, reader, allowed, _made(memory / f"states{number}"), without=sync), None)
        assert found is not None, f"nothing goes wrong without sync {number}: {recording.operations[sync]}"


def test_after_a_power_cut_the_same_again_ends_well_and_leaves_nothing_beside(way: Any, memory: Path) -> None:
    recording, writer, reader, allowed = way
    if allowed[-1] is None:
        return
    for number, (_, tree) in enumerate(states(recording, most=20)):
        place = memory / f"again{number}"
        lay_out(tree, place)
        writer(place, 3)
        assert reader(place) == 3
        names = [path.name for path in place.rglob("*")]
        assert not [name for name in names if name.startswith(".")], names


# A feature index is the largest thing that is kept: many files, built for long, with labels that are written meanwhile.

FEATURES, TOKENS = 8, 600


def small_index(out: Path, batches: int = 6, seed: int = 0, pause: float = 0.0) -> FeatureIndex:
    """Index codes that depend on the seed alone; each batch takes a while."""
    numbers = np.random.default_rng(seed)
    made = []
    for number in range(batches):
        codes = np.maximum(numbers.normal(size=(TOKENS, FEATURES)), 0).astype(np.float32)
        documents = np.repeat(np.arange(TOKENS // 20), 20) + number * TOKENS // 20
        made.append(batch_of(numbers.integers(0, 9, TOKENS), documents, codes))

    class Slowly(list):  # type: ignore[type-arg]
        def __iter__(self) -> Iterator[Any]:
            for item in super().__iter__():
                time.sleep(pause)
                yield item

    words = [str(number) for number in range(9)]
    key = {"sae": f"sae{seed}", "token_rows": f"{batches} batches"}
    return FeatureIndex.from_codes(Slowly(made), out, FEATURES, words, key=key, record_every=1)


def digest(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


class Forked:
    """A process of its own that calls a function; `said` is what it wrote to standard error."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.file = tempfile.TemporaryFile("w+")  # noqa: SIM115  (read when the process has ended)
        self.process = os.fork()
        if self.process == 0:
            sys.stderr = self.file
            code = 1
            try:
                function(*arguments)
                code = 0
            except BaseException as error:
                print(repr(error), file=self.file)
            finally:
                self.file.flush()
                os._exit(code)

    def kill(self) -> None:
        os.kill(self.process, signal.SIGKILL)

    def wait(self) -> int:
        """Its exit code, negative the signal that ended it."""
        code = os.waitstatus_to_exitcode(os.waitpid(self.process, 0)[1])
        self.file.seek(0)
        self.said = self.file.read()
        return code


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_after_a_power_cut_an_index_opens_and_keeps_its_labels(memory: Path) -> None:
    disk = _made(memory / "disk")
    small_index(disk / "index", batches=1).labels.set(2, "a week of labelling")
    with recorded(disk) as recording:
        small_index(disk / "index", batches=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(storage, "_started", lambda process: -1)
        sizes = set()
        for number, (ended, tree) in enumerate(states(recording, most=1)):
            if number % 7 and not ended:
                continue
            place = memory / str(number)
            lay_out(tree, place)
            index = FeatureIndex.open(place / "index")
            index.verify()
            assert index.labels == {2: "a week of labelling"}
            sizes.add(index.manifest["tokens"])
            assert not ended or index.manifest["tokens"] == 2 * TOKENS
            if number % 80 == 0 or ended:
                again = small_index(place / "index", batches=2)
                assert again.manifest["tokens"] == 2 * TOKENS and again.labels == index.labels
                assert [path.name for path in place.iterdir()] == ["index"]
                again.verify()
            shutil.rmtree(place)
        assert sizes == {TOKENS, 2 * TOKENS}


def test_builders_of_one_index_at_once_and_builds_killed_anywhere_end_with_the_same_bytes(tmp_path: Path) -> None:
    small_index(tmp_path / "alone")
    expected = digest(tmp_path / "alone")
    plain = index_build.put_in_place
    with pytest.MonkeyPatch.context() as patch:  # so slow that the three meet
        patch.setattr(index_build, "put_in_place", lambda *places: (time.sleep(2), plain(*places))[1])
        builders = [Forked(small_index, tmp_path / "index") for _ in range(3)]
    assert [builder.wait() for builder in builders] == [0] * 3, [builder.said for builder in builders]
    assert digest(tmp_path / "index") == expected
    said = [builder.said for builder in builders]
    assert sum("waiting for" in text and "(building the feature index) has it" in text for text in said) == 2, said
    draw = random.Random(os.urandom(4))
    for _ in range(3):
        shutil.rmtree(tmp_path / "index")
        builder = Forked(small_index, tmp_path / "index", 6, 0, 0.1)
        until((tmp_path / ".index.building" / "state.json").is_file)
        time.sleep(draw.uniform(0, 0.8))
        builder.kill()
        builder.wait()
        small_index(tmp_path / "index")
        assert digest(tmp_path / "index") == expected
        assert {path.name for path in tmp_path.iterdir()} == {"alone", "index"}


def test_labels_of_four_processes_and_a_builder_are_all_kept(tmp_path: Path) -> None:
    def label(feature: int) -> None:
        for number in range(40):
            FeatureIndex.open(tmp_path / "index").labels.set(feature, str(number))

    small_index(tmp_path / "index").labels.set(7, "first")
    processes = [Forked(label, feature) for feature in range(4)]
    for _ in range(3):
        small_index(tmp_path / "index", batches=2)  # what is labelled meanwhile goes along
    assert [process.wait() for process in processes] == [0] * 4, [process.said for process in processes]
    assert FeatureIndex.open(tmp_path / "index").labels == {**dict.fromkeys(range(4), "39"), 7: "first"}
    assert [path.name for path in tmp_path.iterdir()] == ["index"]


def test_a_rebuild_killed_before_its_name_keeps_labels_and_work(tmp_path: Path) -> None:
    small_index(tmp_path / "index").labels.set(2, "a week of labelling")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tsae_nb.views.index_build.put_in_place", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        assert Forked(small_index, tmp_path / "index", 3).wait() == -signal.SIGKILL
    assert FeatureIndex.open(tmp_path / "index").labels == {2: "a week of labelling"}
    assert (tmp_path / ".index.building").is_dir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tsae_nb.views.index_build.GrowingFiles", None)  # nothing is encoded again
        again = small_index(tmp_path / "index", batches=3)
    assert again.labels == {2: "a week of labelling"} and again.manifest["tokens"] == 3 * TOKENS
    assert [path.name for path in tmp_path.iterdir()] == ["index"]


def test_folders_of_others_beside_an_index_stay(tmp_path: Path) -> None:
    for name in ("index.partial", ".index.building"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match=r"\.index\.building holds thesis.txt, which is not ours"):
        small_index(tmp_path / "index")
    (tmp_path / ".index.building").rename(tmp_path / "elsewhere")
    small_index(tmp_path / "index")
    assert (tmp_path / "index.partial" / "thesis.txt").read_text() == "mine"


def test_a_damaged_index_is_named_wherever_the_damage_is_read(tmp_path: Path) -> None:
    index = small_index(tmp_path / "index", batches=130)  # large enough for arrays in blocks
    index.labels.set(1, "one")
    draw, silent = random.Random(os.urandom(4)), []
    columns = map(index.arrays.column, range(FEATURES))
    expected = [tuple(map(np.copy, column)) for column in columns]  # not a map of the file
    for path in sorted(index.folder.iterdir()):
        whole = path.read_bytes()
        for way in ("bit", "bit", "cut", "gone"):
            place, bit = draw.randrange(len(whole)), 1 << draw.randrange(8)
            spoilt = whole[:place] + (bytes([whole[place] ^ bit]) + whole[place + 1:] if way == "bit" else b"")
            path.unlink() if way == "gone" else path.write_bytes(spoilt)
            try:
                found = FeatureIndex.open(index.folder)
                same = all(np.array_equal(one, other) for feature in range(FEATURES)
                           for one, other in zip(found.arrays.column(feature), expected[feature], strict=True))
                if not same or (found.labels != {1: "one"} and way != "gone"):
                    silent.append((path.name, way))
                if path.name != "labels.json" and path.name != "stored.json":
                    assert [damaged for damaged, _ in verify(index.folder)] == [path], (path.name, way)
            except UserError as error:
                assert path.name in str(error), (path.name, way, str(error))
            path.write_bytes(whole)
    assert silent == []


def test_a_full_disk_ends_a_build_in_a_sentence_and_the_same_again_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int, start: int, length: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    small_index(tmp_path / "alone")
    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        with pytest.raises(UserError, match="index: No space left on device"):
            small_index(tmp_path / "index")
    small_index(tmp_path / "index")
    assert digest(tmp_path / "index") == digest(tmp_path / "alone")
    assert {path.name for path in tmp_path.iterdir()} == {"alone", "index"}


@pytest.mark.parametrize("beside_others", [True, False])
def test_every_bit_of_a_sealed_file_is_checked(beside_others: bool, tmp_path: Path) -> None:
    path = tmp_path / "labels.json"
    write_sealed(path, "labels", {"3": "bark"})
    if beside_others:
        record(tmp_path, "index", [])
    whole, refused = path.read_bytes(), 0
    for place in range(8 * len(whole)):
        path.write_bytes(whole[: place // 8] + bytes([whole[place // 8] ^ 1 << place % 8]) + whole[place // 8 + 1 :])
        try:
            assert read_sealed(path, "labels") == {"3": "bark"}
        except CorruptFileError:
            refused += 1
            found = [file for file, _ in verify(tmp_path)]
            assert found == [path] or (not beside_others and b'"owner": "tsae_nb"' not in path.read_bytes())
    assert refused > 6 * len(whole)


def test_a_folder_whose_mark_is_damaged_is_named_and_left_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / ".index.building"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tsae_nb.views.index_build.put_in_place", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        assert Forked(small_index, tmp_path / "index", 3).wait() == -signal.SIGKILL
    manifest, before = folder / "stored.json", sorted(folder.iterdir())
    manifest.write_bytes(manifest.read_bytes().replace(b"owner", b"owned"))
    with pytest.raises(CorruptFileError, match=f"{manifest} is damaged.* move that folder away"):
        small_index(tmp_path / "index", 3)
    assert sorted(folder.iterdir()) == before
    folder.rename(tmp_path / "away")
    assert small_index(tmp_path / "index", 3).manifest["tokens"] == 3 * TOKENS


LOCKS = {
    "empty": "", "half": '{"process": 4', "bytes": "\xff\x00", "deep": "[" * 5000, "list": "[]", "keys": "{}",
    "infinite": '{"process": Infinity, "started": 0, "machine": "MACHINE", "what": "x"}',
    "huge": '{"process": 1' + "0" * 40 + ', "started": 1, "machine": "MACHINE", "what": "x"}',
    "negative": '{"process": -1, "started": 0, "machine": "MACHINE", "what": "x"}',
    "zero": '{"process": 0, "started": 0, "machine": "MACHINE", "what": "x"}',
    "another": '{"process": OWN, "started": 1, "machine": "MACHINE", "what": "the process number is used again"}',
}


@pytest.mark.parametrize("content", LOCKS)
def test_a_lock_file_that_says_nonsense_holds_nobody_up(content: str, tmp_path: Path) -> None:
    file, text = lock_file(tmp_path / "kept"), LOCKS[content]
    text = text.replace("MACHINE", storage._machine()).replace("OWN", str(os.getpid()))
    file.write_text(text, encoding="latin-1")
    assert holder(tmp_path / "kept") is None
    with locked(tmp_path / "kept", "writing", wait=False):
        assert holder(tmp_path / "kept") is not None
        file.write_text(text, encoding="latin-1")
        with pytest.raises(Busy, match="in use by another process: wait"), locked(tmp_path / "kept", "", wait=False):
            pass
    file.write_text(text, encoding="latin-1")
    drop_lock(tmp_path / "kept")
    assert not list(tmp_path.iterdir())


def test_a_copied_lock_holds_nobody_up(tmp_path: Path) -> None:
    with locked(tmp_path / "kept", "writing"):
        shutil.copy(lock_file(tmp_path / "kept"), lock_file(tmp_path / "copy"))
        assert holder(tmp_path / "kept") is not None and holder(tmp_path / "copy") is None
        drop_lock(tmp_path / "copy")
        assert not lock_file(tmp_path / "copy").exists()


BEATING = """import os, sys, time
from pathlib import Path
from tsae_nb import storage
storage.BEAT, file = 0.05, storage.lock_file(sys.argv[1])
with storage.locked(sys.argv[1], "writing"):
    os.utime(file, (1, 1))
    end = time.monotonic() + 30
    while file.stat().st_mtime < 2 and time.monotonic() < end:
        time.sleep(0.01)
    assert time.time() - file.stat().st_mtime < 30
other = Path(sys.argv[1] + ".other")
other.touch()
os.utime(other, (1, 1))
handle = os.open(other, os.O_RDWR)  # the number of the handle that was closed
time.sleep(0.3)
assert other.stat().st_mtime == 1 and not storage._held"""


def test_whoever_holds_a_lock_touches_its_file_and_no_other(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", BEATING, tmp_path / "kept"], check=True, timeout=300)


@pytest.mark.parametrize("silent", [False, True])
def test_a_holder_on_another_machine_counts_until_it_is_silent(silent: bool, tmp_path: Path) -> None:
    """Where the file system keeps the locks of machines apart: nobody here has it locked."""
    file = lock_file(tmp_path / "run")
    file.write_text('{"process": 7, "started": 7, "machine": "node2+1", "what": "training"}')
    if silent:
        os.utime(file, (time.time() - storage.LEASE - 1,) * 2)
        assert holder(tmp_path / "run") is None
        drop_lock(tmp_path / "run")
        assert not file.exists()
    else:
        assert str(holder(tmp_path / "run")) == "process 7 on node2 (training)"
        drop_lock(tmp_path / "run")
        with pytest.raises(Busy, match="process 7 on node2"), locked(tmp_path / "run", "removing", wait=False):
            pass
        assert "node2" in file.read_text(), "untouched"


def test_a_dead_lock_beside_a_whole_entry_goes(tmp_path: Path) -> None:
    def count() -> Any:
        return Cache(tmp_path, "numbers").remembered(
            "key", "counting", lambda: [1], lambda folder, made: write_json(folder / "n.json", made),
            lambda kept: kept.json("n.json"))

    count()
    lock_file(tmp_path / "key").write_text("{}")
    assert count() == [1] and [path.name for path in tmp_path.iterdir()] == ["key"]


@pytest.mark.parametrize("removed", [False, True])
def test_what_is_replaced_while_it_is_verified_is_not_damaged(
    removed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_folder(tmp_path, 1)
    plain = storage._entry

    def meanwhile(path: Path) -> dict[str, Any]:
        monkeypatch.setattr(storage, "_entry", plain)
        remove(tmp_path, 0) if removed else write_folder(tmp_path, 2)
        return plain(path) if not removed else {"size": 0, "sha256": ""}

    monkeypatch.setattr(storage, "_entry", meanwhile)
    assert list(verify(tmp_path)) == []
    assert storage._entry is plain and (tmp_path / "kept").is_dir() != removed


def test_a_living_writers_work_is_left_alone_and_a_dead_ones_is_not(tmp_path: Path) -> None:
    def hold() -> None:
        with whole_directory(tmp_path / "kept", "numbers"):
            time.sleep(60)

    writer = Forked(hold)
    until(lambda: any(tmp_path.iterdir()))
    write_json(tmp_path / "other.json", 1)
    assert len(list(tmp_path.iterdir())) == 2
    writer.kill()
    writer.wait()
    write_json(tmp_path / "other.json", 2)
    assert [path.name for path in tmp_path.iterdir()] == ["other.json"]


def test_a_lock_ends_with_its_process_and_what_is_locked_stays_in_the_cache(tmp_path: Path) -> None:
    cache = Cache(tmp_path, "numbers", gibibytes=0)
    for key in ("in-use", "idle"):
        with whole_directory(cache.path(key), "numbers") as folder:
            write_json(folder / "numbers.json", [1, 2, 3])

    def hold() -> None:
        with locked(cache.path("in-use"), "filling"):
            time.sleep(60)

    writer = Forked(hold)
    until(lambda: holder(cache.path("in-use")) is not None)
    assert not cache.make_room() and [path.name for path in cache.entries()] == ["in-use"]
    assert f"process {writer.process} (filling)" in str(holder(cache.path("in-use")))
    writer.kill()
    writer.wait()
    assert holder(cache.path("in-use")) is None
    assert cache.make_room() and list(tmp_path.iterdir()) == []
