"""Black boxes: functions, libraries and executables, and everything that can be wrong with them."""

import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tapeout import _native
from tapeout.circuit.columns import columns_to_rows, rows_to_columns
from tapeout.circuit.open import open_oracle
from tapeout.circuit.oracle import (
    FunctionOracle,
    LibraryOracle,
    NativeOracle,
    check_oracle,
    function_oracle,
    random_rows,
    to_native,
    to_oracle,
)
from tapeout.circuit.process_oracle import ProcessOracle
from tapeout.circuit.words import Rows, pack, parse_interface, parse_words, row_words, unpack
from tapeout.errors import UserError

ADD = "a:8 b:8 -> sum:9"


def rows(bits: int, count: int = 50, seed: int = 1) -> Rows:
    return random_rows(np.random.default_rng(seed), count, bits)


@function_oracle(ADD)
def add(a, b):
    return a + b


EXPECTED = to_oracle(add).evaluate(rows(16))


# ---- words and rows


def test_columns_agree_with_bits() -> None:
    """Words that lie across 64-bit elements, and longer ones, against the bits of the row one by one."""
    words = parse_words("a:3 b:62 c:100 d e:64 f:65")
    bits = np.random.default_rng(3).integers(0, 2, (20, 295), np.uint8)
    columns = rows_to_columns(pack(bits), words)
    at = 0
    for word, column in zip(words, columns, strict=True):
        limbs = column.reshape(20, row_words(word.width))
        assert np.array_equal(unpack(limbs, word.width), bits[:, at : at + word.width])
        at += word.width
    assert np.array_equal(columns_to_rows(columns, words, 20, ""), pack(bits))


@pytest.mark.parametrize(
    ("column", "what"),
    [
        (np.array([1, 8]), "the value 8; mask it to its 3 bits"),
        (np.array([1, -1]), "the negative value -1"),
        (np.array([0.5, 1]), "values of type float64"),
        (np.array([1, 2, 3]), r"shape \(3,\); give an array of shape \(2,\)"),
    ],
)
def test_columns_that_do_not_fit(column: np.ndarray, what: str) -> None:
    with pytest.raises(UserError, match=what):
        columns_to_rows([column], parse_words("a:3"), 2, "here")


# ---- Python functions


def test_functions_by_words_and_by_rows() -> None:
    assert np.array_equal(EXPECTED, FunctionOracle(lambda a, b: {"sum": a + b}, ADD).evaluate(rows(16)))
    by_rows = FunctionOracle(lambda r: (r & np.uint64(255)) + (r >> np.uint64(8)), ADD, by_rows=True)
    assert np.array_equal(EXPECTED, by_rows.evaluate(rows(16)))
    both = FunctionOracle(lambda a: (a, a == 3), "a:4 -> same:4 three")
    assert int(both.evaluate(np.array([[3]], np.uint64))[0, 0]) == 3 + 16
    check_oracle(by_rows)


def test_function_without_inputs() -> None:
    constant = FunctionOracle(lambda: 5, "-> five:3")
    check_oracle(constant)
    assert constant.evaluate(np.zeros((4, 0), np.uint64)).tolist() == [[5]] * 4


@pytest.mark.parametrize(
    ("function", "what"),
    [
        (lambda a, b: a * b, "word 'sum' has the value .* mask it to its 9 bits"),
        (lambda a, b: (a, b), "2 arrays for 1 words"),
        (lambda a, b: {"total": a}, "no 'sum'; return all of sum"),
        (lambda a, b: a[:3], "shape"),
        (lambda a, b: 1 // 0, "function <lambda>: raised ZeroDivisionError"),
        (
            lambda a, b: np.arange(len(a)) & 511,
            "not deterministic: .* answered differently when asked in another order",
        ),
    ],
)
def test_wrong_functions(function: Callable[..., object], what: str) -> None:
    with pytest.raises(UserError, match=what):
        check_oracle(FunctionOracle(function, ADD))


def test_not_deterministic() -> None:
    random = np.random.default_rng()
    with pytest.raises(UserError, match=r"not deterministic: \d+ of 200 questions .* when asked again"):
        check_oracle(FunctionOracle(lambda a: random.integers(0, 2, len(a)), "a:8 -> y"))


def test_batch_size_matters() -> None:
    with pytest.raises(UserError, match="answered differently when asked in smaller batches"):
        check_oracle(FunctionOracle(lambda a: np.full(len(a), len(a) > 100), "a:8 -> y"))


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        (lambda r: r[:, :0], r"shape \(200, 0\); return \(200, 1\)"),
        (lambda r: r.astype(np.int64), "type int64"),
        (lambda r: r, "bits set behind the last of 9 output bits"),
    ],
)
def test_wrong_rows(answer: Callable[[Rows], object], what: str) -> None:
    with pytest.raises(UserError, match=what):
        check_oracle(FunctionOracle(answer, ADD, by_rows=True))


def test_hanging_function_is_given_up() -> None:
    begin = time.monotonic()
    with pytest.raises(UserError, match=r"function <lambda>: no answer within 0.2 s"):
        check_oracle(FunctionOracle(lambda a: time.sleep(1.5), "a -> y"), timeout_s=0.2)
    assert time.monotonic() - begin < 1.2


def test_no_outputs() -> None:
    with pytest.raises(UserError, match="no output word"):
        check_oracle(FunctionOracle(lambda a: (), "a:8 ->"))


def test_things_that_are_no_black_box() -> None:
    with pytest.raises(UserError, match="words of the function are not known"):
        to_oracle(lambda a: a)
    with pytest.raises(UserError, match="int is not a black box"):
        to_oracle(3)


@pytest.mark.native
def test_native_algorithms_can_ask_a_function() -> None:
    native = to_native(to_oracle(add))
    assert (native.input_bits, native.output_bits) == (16, 9)
    assert np.array_equal(native.evaluate(rows(16)), EXPECTED)
    for answer, what in ((lambda r: r, "bits set behind"), (lambda r: r[1:], "not an array"), (lambda r: 1, "not an")):
        with pytest.raises(UserError, match=what):
            _native.CallbackOracle(16, 9, answer).evaluate(rows(16))
    with pytest.raises(ZeroDivisionError):
        _native.CallbackOracle(16, 9, lambda r: 1 // 0).evaluate(rows(16))
    with pytest.raises(ValueError, match="rows have 2 words, not 1"):
        native.evaluate(rows(128))
    named = NativeOracle(native, to_oracle(add).interface)
    assert to_native(named) is native
    assert np.array_equal(named.evaluate(rows(16)), EXPECTED)
    with pytest.raises(ValueError, match="16 and 9 bits are not those of 'a -> b'"):
        NativeOracle(native, parse_interface("a -> b"))


# ---- shared libraries

LIBRARY = """
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>
extern "C" const char* tapeout_interface(void) {{ return "{interface}"; }}
extern "C" int tapeout_evaluate(const uint64_t* in, uint64_t* out, size_t rows) {{
    for (size_t i = 0; i < rows; ++i) {{ {body} }}
    return {code};
}}
{more}
"""
SUM = "out[i] = (in[i] & 255) + (in[i] >> 8);"
Build = Callable[..., Path]


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    folder = tmp_path_factory.mktemp("libraries")

    def compile_library(body: str = SUM, interface: str = ADD, code: str = "0", more: str = "") -> Path:
        source = folder / f"oracle{len(list(folder.iterdir()))}.cpp"
        source.write_text(LIBRARY.format(body=body, interface=interface, code=code, more=more))
        target = source.with_suffix(".so")
        subprocess.run(["c++", "-shared", "-fPIC", "-o", str(target), str(source)], check=True)
        return target

    return compile_library


def test_library(build: Build) -> None:
    path = build(more='extern "C" int tapeout_concurrent(void) { return 1; }')
    oracle = open_oracle(str(path), probe=True)
    assert isinstance(oracle, LibraryOracle)
    check_oracle(oracle)
    assert str(oracle.interface) == ADD
    assert np.array_equal(oracle.evaluate(rows(16)), EXPECTED)
    assert oracle.native.concurrent
    assert to_native(oracle) is oracle.native
    isolated = open_oracle(str(path), isolate=True)
    assert isinstance(isolated, ProcessOracle)
    with isolated:
        assert np.array_equal(isolated.evaluate(rows(16)), EXPECTED)


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ({"body": "out[2 * i] = 1; out[2 * i + 1] = 1;"}, "writes more than 1 words of 64 bits a row"),
        ({"interface": "a:8 b:8 -> sum:65"}, "leaves words of row 100 of 200 unwritten"),
        ({"body": "out[i] = in[i];"}, "bits set behind the last of 9 output bits"),
        ({"code": "7"}, r"tapeout_evaluate\(\) returned 7;"),
        ({"code": "7", "more": 'extern "C" const char* tapeout_error(void) { return "no luck"; }'}, "7: no luck"),
        ({"interface": "a:8 b:8"}, r"tapeout_interface\(\) says: 'a:8 b:8' has no '->'"),
        ({"body": "static uint64_t n; out[i] = ++n & 1;"}, "not deterministic"),
    ],
)
def test_wrong_libraries(build: Build, given: dict[str, str], what: str) -> None:
    path = build(**given)
    with pytest.raises(UserError, match=what) as caught:
        check_oracle(LibraryOracle(path))
    assert caught.value.where == str(path)


def test_library_that_crashes_or_hangs_is_found_by_the_probe(build: Build) -> None:
    with pytest.raises(UserError, match="was ended by signal SIGSEGV"):
        open_oracle(str(build(body="*(volatile int*)8 = 1;")), probe=True)
    with pytest.raises(UserError, match=r"no answer within 1 s"):
        open_oracle(str(build(body="sleep(100);")), probe=True, timeout_s=1)


def test_library_that_hangs_leaves_python_running(build: Build) -> None:
    """The interpreter's lock is not held while a library is asked."""
    oracle = LibraryOracle(build(body="sleep(2); rows = 0;"))
    with pytest.raises(UserError, match=r"no answer within 0\.2 s"):
        check_oracle(oracle, timeout_s=0.2)


def test_no_library(tmp_path: Path) -> None:
    (tmp_path / "text.so").write_text("nothing")
    with pytest.raises(UserError, match="cannot load the library"):
        open_oracle(str(tmp_path / "text.so"))
    with pytest.raises(UserError, match="no function tapeout_interface"):
        LibraryOracle(_native.__file__)


# ---- executables

SERVER = """
import os, signal, struct, sys, time
print("{greeting}", flush=True)
{before}
while len(head := sys.stdin.buffer.read(8)) == 8:
    count, = struct.unpack("<Q", head)
    rows = struct.unpack(f"<{{count}}Q", sys.stdin.buffer.read(8 * count))
    answers = [(row & 255) + (row >> 8) for row in rows]
    {body}
    sys.stdout.buffer.write(struct.pack(f"<Q{{len(answers)}}Q", count, *answers))
    sys.stdout.buffer.flush()
"""


def server(folder: Path, body: str = "", before: str = "", greeting: str = f"tapeout-oracle 1 {ADD}") -> str:
    path = folder / "server.py"
    path.write_text(SERVER.format(body=body, before=before, greeting=greeting))
    return f"{sys.executable} {path}"


def test_executable(tmp_path: Path) -> None:
    oracle = open_oracle(server(tmp_path))
    assert isinstance(oracle, ProcessOracle)
    with oracle:
        check_oracle(oracle)
        assert np.array_equal(oracle.evaluate(rows(16)), EXPECTED)
        many = rows(16, 150_000)
        assert np.array_equal(oracle.evaluate(many), to_oracle(add).evaluate(many))
        assert len(oracle.evaluate(rows(16, 0))) == 0


def test_answers_before_it_has_read_all(tmp_path: Path) -> None:
    """Both pipes full at once: only a caller that writes and reads together gets through."""
    body = textwrap.dedent("""
        import sys
        sys.stdout.buffer.write(b"tapeout-oracle 1 a:64 -> y:64\\n"); sys.stdout.buffer.flush()
        while head := sys.stdin.buffer.read(8):
            sys.stdout.buffer.write(head)
            for _ in range(int.from_bytes(head, "little")):
                sys.stdout.buffer.write(sys.stdin.buffer.read(8)); sys.stdout.buffer.flush()
    """)
    (tmp_path / "echo.py").write_text(body)
    with ProcessOracle([sys.executable, str(tmp_path / "echo.py")], 20) as oracle:
        assert np.array_equal(oracle.evaluate(rows(64, 60_000)), rows(64, 60_000))


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ({"body": "os._exit(3)"}, "ended with exit code 3 after 0 bytes of an answer of"),
        ({"body": "raise ValueError('bad')"}, "ended with exit code 1 .*, saying: ValueError: bad"),
        ({"body": "os.kill(os.getpid(), signal.SIGABRT)"}, "was ended by signal SIGABRT"),
        ({"body": "os.close(1); time.sleep(60)"}, "closed its pipe"),
        ({"body": "time.sleep(60)"}, r"no answer within 0.5 s \(0 bytes of"),
        ({"body": "answers.pop()"}, r"no answer within 0.5 s \(1600 bytes of an answer of 1608 bytes to 200 questions"),
        ({"body": "answers += answers"}, "sends bytes that nobody asked for"),
        ({"body": "count += 1"}, "answers 200 questions with a frame of 201 rows"),
        ({"body": "answers = rows"}, "bits set behind the last of 9"),
        ({"body": "answers = [os.urandom(1)[0] for _ in rows]"}, "not deterministic"),
        ({"greeting": "hello"}, "its first line is 'hello'; begin with 'tapeout-oracle 1"),
        ({"greeting": "tapeout-oracle 1 a"}, "its first line says: 'a' has no '->'"),
        ({"before": "os._exit(2)", "greeting": ""}, "its first line is ''"),
    ],
)
def test_wrong_executables(tmp_path: Path, given: dict[str, str], what: str) -> None:
    def ask() -> None:
        with ProcessOracle(server(tmp_path, **given).split(), 20) as oracle:
            oracle.timeout_s = 0.5 if "no answer" in what else 20
            check_oracle(oracle)

    with pytest.raises(UserError, match=what):
        ask()


def test_executables_that_say_nothing() -> None:
    with pytest.raises(UserError, match="ended with exit code 1 after 0 bytes of its first line"):
        ProcessOracle(["false"])
    with pytest.raises(UserError, match=r"no answer within 0\.2 s"):
        ProcessOracle(["sleep", "50"], 0.2)
    with pytest.raises(UserError, match="cannot be run"):
        ProcessOracle(["/nowhere/oracle"])


# ---- what a command line names


def test_open_function(tmp_path: Path) -> None:
    path = tmp_path / "black_box.py"
    path.write_text(
        "from tapeout.circuit.oracle import function_oracle\nprint('noise')\n"
        f"@function_oracle('{ADD}')\ndef add(a, b):\n    return a + b\n"
        "def plain(a, b):\n    return a + b\ndef dies(a, b):\n    import os; os.abort()\n"
    )
    for oracle in (
        open_oracle(f"{path}:add", probe=True),
        open_oracle(f"{path}:plain", interface=ADD),
        open_oracle(f"{path}:plain", interface=ADD, isolate=True),
    ):
        assert not isinstance(oracle, _native.Oracle)
        assert np.array_equal(oracle.evaluate(rows(16)), EXPECTED)  # type: ignore[union-attr]
    for text, what in (
        (f"{path}:plain", "words of the function are not known"),
        (f"{path}:missing", "there is no 'missing'"),
        (f"{path}", "no function is named"),
        (f"{tmp_path}/none.py:add", "no such file"),
        ("no-such-program here", "is neither a file nor a command"),
        ("unclosed 'quote", "not a command line"),
    ):
        with pytest.raises(UserError, match=what):
            open_oracle(text)
    with pytest.raises(UserError, match="was ended by signal SIGABRT"):
        open_oracle(f"{path}:dies", interface=ADD, probe=True)
