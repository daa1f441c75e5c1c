import pickle

import pytest

from tapeout.errors import (
    DoesNotFit,
    InvalidChip,
    InvalidModel,
    SimError,
    TapeoutError,
    UnsupportedOp,
    UserError,
    VerifyError,
)


@pytest.mark.parametrize("kind", [UserError, UnsupportedOp, InvalidChip, InvalidModel, DoesNotFit])
def test_user_error_says_where_what_and_what_to_do(kind: type[UserError]) -> None:
    error = kind("dtype 'f12' is unknown", "chip.toml:14", "use one of f16, f32")
    assert str(error) == "chip.toml:14: dtype 'f12' is unknown; use one of f16, f32"
    assert (error.what, error.where, error.action) == error.args
    assert isinstance(error, TapeoutError)


def test_user_error_leaves_out_what_is_empty() -> None:
    assert str(UserError("no chip given")) == "no chip given"
    assert str(UserError("no chip given", action="pass --chip")) == "no chip given; pass --chip"


def test_messages_are_one_line() -> None:
    errors = [
        UserError("a\nb", "c\n"),
        VerifyError("fuse", "%3", "a\n  b"),
        SimError("a\nb", command="MM\nx"),
    ]
    assert all("\n" not in str(error) for error in errors)


def test_verify_error_names_pass_and_value() -> None:
    assert str(VerifyError("fuse_bias", "%7", "used before it is defined")) == (
        "after fuse_bias: %7: used before it is defined"
    )


def test_sim_error_gives_what_is_known() -> None:
    error = SimError("read past the end", command="MM a, b", loops={"i": 3, "j": 0}, address=4096, cycle=17)
    assert str(error) == "read past the end (in `MM a, b`; at i=3, j=0; address 0x1000; cycle 17)"
    assert str(SimError("deadlock", cycle=0)) == "deadlock (cycle 0)"
    assert str(SimError("deadlock")) == "deadlock"


@pytest.mark.parametrize(
    "error",
    [
        InvalidChip("a", "b", "c"),
        VerifyError("a", "b", "c"),
        SimError("a", command="b", loops={"i": 1}, cycle=4),
    ],
)
def test_errors_cross_processes(error: TapeoutError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
