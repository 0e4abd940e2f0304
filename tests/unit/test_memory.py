"""A process shares one heap among its threads, so that it stays as large as what it holds."""

from __future__ import annotations

import platform
import subprocess
import sys
import textwrap

import pytest


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc makes heaps for threads")
@pytest.mark.parametrize("shared", [False, True])
def test_threads_share_one_heap(shared: bool) -> None:
    # malloc_info tells of each heap; a thread gets its own as soon as it needs memory.
    program = f"""
        import ctypes, threading
        from streams.memory import share_one_heap

        assert not {shared} or share_one_heap()
        libc = ctypes.CDLL(None)
        libc.malloc.restype = libc.fopen.restype = ctypes.c_void_p
        libc.malloc.argtypes, libc.fopen.argtypes = [ctypes.c_size_t], [ctypes.c_char_p, ctypes.c_char_p]
        libc.malloc_info.argtypes, libc.fclose.argtypes = [ctypes.c_int, ctypes.c_void_p], [ctypes.c_void_p]
        together = threading.Barrier(3)

        def work():
            libc.malloc(10_000)
            together.wait()

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        out = libc.fopen(b"/dev/stdout", b"w")
        libc.malloc_info(0, out)
        libc.fclose(out)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=60, check=True)
    heaps = done.stdout.count("<heap nr=")
    assert heaps == 1 if shared else heaps > 1
