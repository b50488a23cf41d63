"""How the C++ operators are compiled, found, and done without."""

import multiprocessing
import subprocess

import pytest
import torch

from metaformer.core.compiling import cpp_compiler
from metaformer.ops.native import build, library
from metaformer.ops.norm_pool.native import NativeNormPool
from metaformer.ops.norm_pool.reference import NormPool, norm_pool

SMALL_SOURCE = 'extern "C" int mf_answer() { return 42; }\n'


@pytest.fixture
def small_sources(tmp_path, monkeypatch):
    """Sources that compile in no time, and a cache of their own."""
    if cpp_compiler() is None:
        pytest.skip("no C++ compiler on the PATH")
    sources = tmp_path / "sources" / "answer"
    sources.mkdir(parents=True)
    (sources / "answer.cpp").write_text(SMALL_SOURCE)
    monkeypatch.setattr(build, "SOURCES", sources.parent)
    monkeypatch.setattr(build, "cache_folder", lambda: tmp_path / "cache")
    return sources


@pytest.fixture
def no_compiler(monkeypatch):
    """A machine without a C++ compiler, that has not looked for one yet."""
    monkeypatch.setattr(build, "cpp_compiler", lambda: None)
    library.library_or_reason.cache_clear()
    library.native_library.cache_clear()
    yield
    library.library_or_reason.cache_clear()
    library.native_library.cache_clear()


def build_in_another_process(sources, cache):
    build.SOURCES, build.cache_folder = sources.parent, lambda: cache
    return str(build.built_library())


def test_it_is_compiled_once(small_sources, monkeypatch):
    path = build.built_library()
    written = path.stat().st_mtime_ns
    assert build.built_library() == path
    assert path.stat().st_mtime_ns == written
    assert library.ctypes.CDLL(str(path)).mf_answer() == 42


def test_changed_sources_are_compiled_anew(small_sources):
    before = build.built_library()
    (small_sources / "answer.cpp").write_text(SMALL_SOURCE.replace("42", "43"))
    after = build.built_library()
    assert after != before
    assert library.ctypes.CDLL(str(after)).mf_answer() == 43


def test_processes_that_build_at_once_both_get_a_whole_library(small_sources, tmp_path):
    with multiprocessing.get_context("fork").Pool(3) as pool:
        paths = pool.starmap(build_in_another_process, [(small_sources, tmp_path / "cache")] * 3)
    assert len(set(paths)) == 1
    assert library.ctypes.CDLL(paths[0]).mf_answer() == 42
    # Nothing half written stays behind.
    found = sorted(path.name for path in (tmp_path / "cache").rglob("*") if path.is_file())
    assert found == ["libmetaformer.so", "libmetaformer.so.sha256.json"]


def empty(path):
    path.write_bytes(b"")


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def garbage(path):
    path.write_bytes(b"garbage" * 99)


def one_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def folder(path):
    path.unlink()
    (path / "inside").mkdir(parents=True)


def gone(path):
    path.unlink()


def dangling(path):
    path.unlink()
    path.symlink_to("nowhere")


@pytest.mark.parametrize("name", ["libmetaformer.so", "libmetaformer.so.sha256.json"])
@pytest.mark.parametrize("damage", [empty, cut, garbage, one_bit, folder, gone, dangling])
def test_a_damaged_library_is_built_anew(small_sources, damage, name):
    path = build.built_library()
    damage(path.with_name(name))
    assert build.built_library() == path
    assert library.ctypes.CDLL(str(path)).mf_answer() == 42
    assert build.is_whole(path)


def test_a_whole_library_of_somebody_else_is_built_anew_once(small_sources, monkeypatch):
    # Its symbols are not ours, and neither are those of the sources here: told in one line, without a crash.
    built = []
    monkeypatch.setattr(library, "built_library", lambda **again: built.append(again) or build.built_library(**again))
    library.library_or_reason.cache_clear()
    try:
        assert "mf_norm_pool" in library.library_or_reason()
    finally:
        library.library_or_reason.cache_clear()
    assert built == [{}, {"again": True}]


def test_a_source_that_does_not_compile_says_why(small_sources):
    (small_sources / "answer.cpp").write_text("int broken = nonsense;\n")
    with pytest.raises(build.BuildError, match=r"failed: .*nonsense"):
        build.built_library()


def test_a_cache_that_cannot_be_written_is_no_crash(small_sources, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(build, "cache_folder", lambda: tmp_path / "file")
    with pytest.raises(build.BuildError, match="cannot write"):
        build.built_library()


def test_a_compiler_that_hangs_is_given_up(small_sources, monkeypatch):
    def hang(*_args, **_options):
        raise subprocess.TimeoutExpired("c++", 1)

    monkeypatch.setattr(build.subprocess, "run", hang)
    with pytest.raises(build.BuildError, match="did not run"):
        build.built_library()


def test_without_a_compiler_there_is_one_warning_and_the_plain_operator(no_compiler):
    x, op = torch.randn(2, 6, 5, 5), NormPool(scale=torch.randn(6))
    expected, _ = norm_pool(x, op)
    with pytest.warns(UserWarning, match=r"no C\+\+ compiler found") as caught:
        results = [NativeNormPool.pack(op).run(x, None)[0] for _ in range(2)]
    assert len(caught) == 1
    for result in results:
        torch.testing.assert_close(result, expected)


@pytest.mark.usefixtures("library")
def test_the_peak_is_a_rate_that_a_processor_can_have():
    assert 0.1 < library.measured_peak() < 1e5


def test_without_the_operators_there_is_no_peak(no_compiler):
    assert library.measured_peak() is None
