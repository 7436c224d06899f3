"""The files of jobs: what is kept of whom, for how long; no id and no hash leads out of their folder."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlmp_spawner.errors import Invalid
from mlmp_spawner.jobs.files import MOST_READ, JobFiles, Kept

CODE = b"code" * 1000
SHA256 = hashlib.sha256(CODE).hexdigest()


@pytest.fixture
def files(tmp_path: Path) -> JobFiles:
    made = JobFiles(tmp_path / "jobs")
    made.prepare()
    return made


def printed(files: JobFiles, attempt: str, text: bytes) -> None:
    """An attempt has printed this."""
    files.log(attempt).parent.mkdir(parents=True, exist_ok=True)
    files.log(attempt).write_bytes(text)


def test_the_folders_are_for_the_services_eyes_alone_and_may_be_there(files: JobFiles) -> None:
    files.prepare()
    for folder in [files.root, *files.root.iterdir()]:
        assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("attempt", ["", "..", "../x-1", "a-1/..", "a", "a-", "A-1", "a-1\n", "-1", "a-1.json"])
def test_no_path_is_made_of_what_is_no_attempt(files: JobFiles, attempt: str) -> None:
    for path in (files.log, files.ended, files.metrics, files.usage, files.remove_logs):
        with pytest.raises(ValueError, match="not of the form"):
            path(attempt)


@pytest.mark.parametrize("sha256", ["", "../../x", "0" * 63, "G" * 64, "0" * 64 + "\n", "A" * 64])
def test_no_path_is_made_of_what_is_no_hash(files: JobFiles, sha256: str) -> None:
    with pytest.raises(ValueError, match="not of the form"):
        files.code_path("ann", sha256)
    with pytest.raises(ValueError, match="not of the form"):
        files.receive_code(sha256, 10)


@given(st.text(max_size=30), st.text(max_size=30))
def test_everybody_has_a_folder_of_code_of_their_own(one: str, other: str) -> None:
    files = JobFiles(Path("/data/jobs"))
    first, second = files.code_path(one, SHA256), files.code_path(other, SHA256)
    assert (first == second) == (one == other)
    assert first.parents[1] == Path("/data/jobs/code")


class TestLogs:
    def test_it_is_read_in_parts(self, files: JobFiles) -> None:
        printed(files, "a-1", b"0123456789")
        part = files.read_log("a-1", 2, 3)
        assert (part.data, part.start, part.end, part.size, part.cut) == (b"234", 2, 5, 10, 0)
        assert files.read_log("a-1", -4, 100).data == b"6789"
        assert files.read_log("a-1", -100, 2).data == b"01"
        assert files.read_log("a-1", 100, 5).start == 10
        assert files.read_log("a-1", 0, -1).data == b""

    @settings(max_examples=50)
    @given(st.binary(max_size=200), st.integers(1, 50))
    def test_its_parts_together_are_the_whole(
        self, tmp_path_factory: pytest.TempPathFactory, text: bytes, limit: int
    ) -> None:
        files = JobFiles(tmp_path_factory.mktemp("jobs"))
        printed(files, "a-1", text)
        read, at = b"", 0
        while (part := files.read_log("a-1", at, limit)).data:
            assert part.start == at
            read, at = read + part.data, part.end
        assert read == text

    def test_no_part_is_larger_than_may_be_in_memory(self, files: JobFiles) -> None:
        printed(files, "a-1", b"")
        os.truncate(files.log("a-1"), MOST_READ + 10)
        assert len(files.read_log("a-1", 0, 1 << 40).data) == MOST_READ

    def test_it_is_complete_once_nothing_watches_over_the_attempt(self, files: JobFiles) -> None:
        assert not files.read_log("a-1", 0, 10).complete  # it has not begun
        printed(files, "a-1", b"x")
        record = files.running / "a-1.json"
        record.touch()
        assert not files.read_log("a-1", 0, 10).complete
        record.unlink()
        assert files.read_log("a-1", 0, 10).complete
        assert not files.read_log("a-1", 0, 10, complete=False).complete

    def test_how_much_was_left_out_is_told(self, files: JobFiles) -> None:
        printed(files, "a-1", b"x")
        (files.log("a-1").parent / "cut").write_bytes(b"4096")
        assert files.read_log("a-1", 0, 10).cut == 4096
        (files.log("a-1").parent / "cut").write_bytes(b"what?")
        assert files.read_log("a-1", 0, 10).cut == 0

    def test_what_is_not_kept_reads_as_nothing(self, files: JobFiles) -> None:
        part = files.read_log("a-1", 5, 10, complete=True)
        assert (part.data, part.start, part.end, part.size, part.complete) == (b"", 0, 0, 0, True)


class TestWhatIsDropped:
    def test_what_ended_long_ago_goes(self, files: JobFiles) -> None:
        for attempt in ("a-1", "a-2", "b-1"):
            printed(files, attempt, b"x")
        ended = [Kept("a-1", "ann", 10), Kept("a-2", "ann", 20), Kept("b-1", "bob", 9)]
        assert sorted(files.remove_old(ended, before=20, room={})) == ["a-1", "b-1"]
        assert files.with_logs() == ["a-2"]

    def test_of_too_much_the_oldest_goes_first_and_others_stay(self, files: JobFiles) -> None:
        for number in range(1, 6):
            printed(files, f"a-{number}", b"x" * 100)
            printed(files, f"b-{number}", b"x" * 100)
        ended = [Kept(f"{owner[0]}-{number}", owner, number) for owner in ("ann", "bob") for number in range(1, 6)]
        files.metrics("a-5").write_bytes(b"y" * 50)
        assert sorted(files.remove_old(ended, before=0, room={"ann": 30 << 10, "bob": None})) == ["a-1", "a-2"]
        assert files.size_of(files.with_logs()) == (8 * 8 + 4) << 10

    def test_all_may_go_again(self, files: JobFiles) -> None:
        files.remove_logs("a-1")
        files.remove_old([Kept("a-1", "ann", 1)], before=5, room={})
        assert JobFiles(files.root / "nowhere").with_logs() == []

    @settings(max_examples=40)
    @given(
        st.lists(st.tuples(st.sampled_from(["ann", "bob"]), st.integers(0, 9), st.integers(0, 60)), max_size=8),
        st.integers(0, 100), st.integers(0, 10),
    )  # fmt: skip
    def test_what_stays_is_within_the_room_and_of_the_newest(
        self, tmp_path_factory: pytest.TempPathFactory, made: list[tuple[str, int, int]], room: int, before: int
    ) -> None:
        files = JobFiles(tmp_path_factory.mktemp("jobs"))
        ended = []
        for number, (owner, at, size) in enumerate(made):
            printed(files, f"a-{number}", b"x" * size)
            ended.append(Kept(f"a-{number}", owner, at))
        dropped = set(files.remove_old(ended, before=before, room={"ann": room << 10}))
        stays = [one for one in ended if one.attempt not in dropped]
        assert {one.attempt for one in stays} == set(files.with_logs())
        assert files.size_of(one.attempt for one in stays if one.owner == "ann") <= room << 10
        assert all(one.ended_at >= before for one in stays)
        assert all(one.ended_at < before or one.owner == "ann" for one in ended if one.attempt in dropped)


class TestCode:
    def test_what_arrives_whole_is_handed_over(self, files: JobFiles) -> None:
        with files.receive_code(SHA256, len(CODE)) as upload:
            upload.write(CODE[:100])
            upload.write(CODE[100:])
            sent = upload.finish()
            assert sent.stat().st_mode & 0o777 == 0o600
            place = files.code_path("ann", SHA256)
            place.parent.mkdir()
            sent.replace(place)
        assert place.read_bytes() == CODE

    def test_what_is_too_large_leaves_nothing_behind(self, files: JobFiles) -> None:
        with pytest.raises(Invalid, match="more than 10 B"), files.receive_code(SHA256, 10) as upload:
            upload.write(CODE)
        assert list((files.root / "code").iterdir()) == []

    def test_what_has_another_hash_leaves_nothing_behind(self, files: JobFiles) -> None:
        with files.receive_code(SHA256, 10_000) as upload:
            upload.write(CODE[:-1])
            with pytest.raises(Invalid, match="it was cut"):
                upload.finish()
        assert list((files.root / "code").iterdir()) == []

    def test_what_came_in_half_when_the_service_ended_is_dropped_later(self, files: JobFiles) -> None:
        upload = files.receive_code(SHA256, 10_000)
        upload.write(CODE)
        os.utime(upload.path, (100, 100))
        files.remove_uploads(before=99_000)
        assert upload.path.exists()
        files.remove_uploads(before=101_000)
        assert not upload.path.exists()
        with upload:
            pass
