import pytest

from metaformer.core import caches


@pytest.fixture
def user_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(caches.platformdirs, "user_cache_dir", lambda name: tmp_path / name)
    return tmp_path / "metaformer"


def test_sizes_are_those_of_the_files(user_cache):
    assert caches.size_mib("trials") == 0
    folder = user_cache / "trials" / "deep"
    folder.mkdir(parents=True)
    (folder / "one").write_bytes(bytes(2**19))
    (folder.parent / "two").write_bytes(bytes(2**20))
    assert caches.size_mib("trials") == 1.5


def test_clearing_removes_what_is_kept_and_nothing_else(user_cache):
    for name in caches.CACHES:
        (user_cache / name).mkdir(parents=True)
        (user_cache / name / "file").write_text("x")
    (user_cache / "something else").mkdir()
    caches.clear_caches()
    assert [path.name for path in user_cache.iterdir()] == ["something else"]
    caches.clear_caches()
