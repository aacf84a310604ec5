"""One check for all processes that ask for it: made once, computed by all of them, whatever becomes of one."""

import os
import time
from concurrent.futures import BrokenExecutor
from functools import partial
from importlib import util
from multiprocessing import get_context

import pytest

from keras_ref.errors import BadInput
from keras_ref.frontends.invocations.shared_check import Helpers, SharedChecks, can_share

NUMBERS = range(12)


def wait_until(condition):
    until = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def squared(folder, dies, number):
    """The square, and by which process, when two have begun with one; that which helps may end itself."""
    begun = folder / "begun"
    begun.mkdir(exist_ok=True)
    (begun / str(os.getpid())).touch()
    if dies and os.getpid() != dies:
        os._exit(1)
    wait_until(lambda: len([*begun.iterdir()]) == 2)
    return number**2, os.getpid()


def check(folder, happens, helpers):
    """Squares, as the blocks of a check are asked for: what does not arrive is computed here."""
    with (folder / "log").open("a") as log:
        print(os.getpid(), file=log)
    if happens == "it refuses":
        time.sleep(0.5)
        return BadInput("It must be right. Received: wrong. Mend it.")
    wait_until(lambda: helpers.connected)
    is_first = len((folder / "log").read_text().split()) == 1
    if happens == "it is killed" and is_first:
        os._exit(1)
    function = partial(squared, folder, os.getpid() if happens == "a helper is killed" else 0)
    shared, found = helpers.share(function), []
    asked = [helpers.submit(shared, number) for number in NUMBERS]
    for number, future in zip(NUMBERS, asked, strict=True):
        try:
            found.append(future.result(30))
        except BrokenExecutor:
            found.append(function(number))
    return found


def ask(folder, happens, answers):
    """A process that asks for the check and sends its result."""
    found = SharedChecks(folder).check_once("squares", partial(check, folder, happens))
    answers.send(str(found) if isinstance(found, Exception) else found)


@pytest.mark.sampled
@pytest.mark.parametrize("happens", ["nothing", "it refuses", "it is killed", "a helper is killed"])
def test_a_check_is_made_once_by_all_who_ask(happens, tmp_path):
    context = get_context("spawn")
    number = 3 if happens == "it is killed" else 2
    pipes = [context.Pipe(duplex=False) for _ in range(number)]
    processes = [context.Process(target=ask, args=(tmp_path, happens, sending)) for _, sending in pipes]
    for process, (_, sending) in zip(processes, pipes, strict=True):
        process.start()
        sending.close()
    results = []
    for process, (receiving, _) in zip(processes, pipes, strict=True):
        try:
            results.append(receiving.recv())
        except EOFError:  # it was killed
            process.join(10)
            assert process.exitcode == 1
    for process in processes:
        process.join(10)
    checked = (tmp_path / "log").read_text().split()
    assert len(checked) == 1 + (happens == "it is killed")
    assert len(results) == 1 + (happens in ("nothing", "it refuses")) + (happens == "it is killed")
    assert all(result == results[0] for result in results)
    if happens == "it refuses":
        assert results[0] == "It must be right. Received: wrong. Mend it."
        return
    squares, by = zip(*results[0], strict=True)
    assert list(squares) == [number**2 for number in NUMBERS]
    expected = {int(checked[-1])} if happens == "a helper is killed" else {process.pid for process in processes}
    assert {*by} == expected - ({int(checked[0])} if happens == "it is killed" else set())


def test_what_cannot_be_shared_is_not(monkeypatch):
    assert can_share("/tmp/gradtwin-12345678")
    assert not can_share("") and not can_share("/" + "a" * 100)
    monkeypatch.setattr(util, "find_spec", {}.get)  # as on Windows
    assert not can_share("/tmp/gradtwin-12345678")


def test_a_folder_that_is_gone_ends_nothing(tmp_path):
    """The process that began the test run may be gone before a check ends."""
    folder = tmp_path / "shared"
    folder.mkdir()
    with Helpers(folder / "key"):
        (folder / "key").unlink()
        folder.rmdir()


def test_alone_it_asks_nobody(tmp_path):
    """Without a process that helps, blocks are computed without an executor."""

    def check(helpers):
        assert isinstance(helpers, Helpers)
        with pytest.raises(BrokenExecutor):
            helpers.submit(pow, 2, 3)
        assert helpers.share(pow) is pow
        return "made"

    shared = []
    assert SharedChecks(tmp_path).check_once("it", lambda helpers: shared.append(helpers) or check(helpers)) == "made"
    with pytest.raises(BrokenExecutor):  # when it has ended
        shared[0].submit(pow, 2, 3)
    assert SharedChecks(tmp_path).check_once("it", lambda _: "made again") == "made"
    assert SharedChecks(tmp_path).check_once("another", lambda _: "made again") == "made again"
