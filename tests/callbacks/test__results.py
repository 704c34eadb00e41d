from copy import deepcopy

from lightning_robust.callbacks._results import Mailbox, Results
from tests.processes import run_alone


def test_a_mailbox():
    mailbox = Mailbox()
    assert mailbox.read() is None
    for content in ({"a": 0.5}, [{"long": "x" * 1000}, {"nan": 1.0}], {}):
        mailbox.write(content)
        assert mailbox.read() == content
    mailbox.write("x" * 100_000)  # does not fit
    assert mailbox.read() is None


def test_the_newest_values_win_wherever_they_were_measured():
    """A process that was started has a copy of the object and the same memory."""
    here = Results()
    there = deepcopy(here)
    there._mailbox._memory = here._mailbox._memory
    assert here.values == here.intervals == {}
    here.write({"a": 1.0}, {"a": (0.5, 1.5)}, publish=True)
    there.write({"a": 2.0}, {"a": (1.5, 2.5)}, publish=True)
    for results in (here, there):
        assert (results.values, results.intervals) == ({"a": 2.0}, {"a": (1.5, 2.5)})
    here.write({"a": 3.0}, {}, publish=False)
    assert (here.values, there.values) == ({"a": 3.0}, {"a": 2.0})


def _measure(results):
    results.write({"a": 2.0}, {"a": (1.5, 2.5)}, publish=True)


def test_what_a_process_measures_that_was_handed_a_pickle():
    here = Results()
    here.write({"a": 1.0}, {}, publish=False)
    run_alone(_measure, here, timeout=60)
    assert (here.values, here.intervals) == ({"a": 2.0}, {"a": (1.5, 2.5)})
