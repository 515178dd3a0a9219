"""The helper that starts the programs of all tests: it shows their output, and leaves none running."""

import os
import sys

import pytest
from tests import processes
from tests.processes import run, started, wait_until


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_output_and_status_are_returned():
    result = run(python("import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"), status=3)
    assert (result.stdout, result.stderr, result.returncode) == ("out\n", "err\n", 3)


@pytest.mark.parametrize(("code", "status"), [("1 / 0", 0), ("print('fine')", 1)], ids=["failure", "success"])
def test_an_unexpected_status_shows_the_output(code, status):
    with pytest.raises(pytest.fail.Exception, match=r"ended with status \d, not \d(.|\n)*(ZeroDivisionError|fine)"):
        run(python(code), status=status)


def test_bytes_are_returned_if_asked_for():
    assert run(python("print('out')"), text=False).stdout == b"out\n"


def test_children_are_killed_when_the_block_ends():
    read, write = os.pipe()
    child = f"subprocess.Popen(['sleep', '900'], pass_fds=[{write}])"
    program = f"import subprocess; child = {child}; print('started', flush=True); child.wait()"
    with started(python(program), pass_fds=[write]) as process:
        assert process.stdout.readline() == "started\n"
    os.close(write)
    # The pipe ends when every process that could write to it is gone.
    assert os.read(read, 1) == b""
    os.close(read)


def test_a_program_is_killed_at_the_limit(monkeypatch):
    monkeypatch.setattr(processes, "LIMIT", 0.1)
    with pytest.raises(pytest.fail.Exception, match="killed at the limit"):
        run(["sleep", "900"])


def test_a_state_that_never_comes_is_named(monkeypatch):
    monkeypatch.setattr(processes, "LIMIT", 0.1)
    with pytest.raises(pytest.fail.Exception, match="for the end of the world"):
        wait_until(lambda: False, "the end of the world")


def test_a_state_is_waited_for():
    read, write = os.pipe()
    with started(python(f"import os; os.write({write}, b'ready')"), pass_fds=[write]):
        assert wait_until(lambda: os.read(read, 5)) == b"ready"
    os.close(read)
    os.close(write)
