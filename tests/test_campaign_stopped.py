"""A campaign that is stopped leaves nothing running."""

import sys
import threading
import time

from keras_ref.campaign import run


def test_a_campaign_that_is_stopped(monkeypatch):
    """Ctrl-C between two results ends the processes, which would go on for as long as they have operations."""
    waiting = "import json, time; print(json.dumps({}), flush=True); time.sleep(600)".format(
        "{'name': 'a', 'counts': {}, 'accusations': [], 'reason': '', 'gradients': []}"
    )
    monkeypatch.setattr(run, "own_command", lambda *_: [sys.executable, "-c", waiting])
    begun = time.monotonic()
    results = run.run_campaign(["a", "b", "c", "d"], workers=2)
    assert next(results).name == "a"
    results.close()
    assert time.monotonic() - begun < 30
    assert not [thread for thread in threading.enumerate() if "ThreadPoolExecutor" in thread.name]
