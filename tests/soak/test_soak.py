"""C3, C8, C12, C17, C27: all records agree under a mixed load with faults and disconnecting clients."""

import importlib.machinery
import importlib.util
import pathlib

import pytest

HERE = pathlib.Path(__file__).parent


def load(name):
    """The program, which has no ending."""
    loader = importlib.machinery.SourceFileLoader(name, str(HERE / name))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader))
    loader.exec_module(module)
    return module


soak = load("soak")


@pytest.mark.parametrize("workers", [1, 2])
def test_answers_record_log_and_metrics_agree(workers):
    """C27."""
    assert soak.main(["--requests", "2500", "--seed", "9", "--workers", str(workers)]) == 0


def test_a_wrong_account_is_found():
    """An answer that is another request's, a line too few, a line too many, an attempt not logged."""
    import ledger
    import plan

    def line(n, attempts=1):
        return f'level=info msg="request" id=r{n} model=m path=/v1/s{n}/chat/completions end=answered status=200 ' \
               f"attempts={attempts}"

    def seen(n, serial):
        return {"target": f"/v1/s{n}/chat/completions", "headers": [["X-Soak-Id", str(n)]], "n": serial,
                "serial": serial, "status": 200, "sent": 1}

    def answer(serial):
        body = (f'{{"id":"chatcmpl-{serial:012}","choices":[{{"message":{{"content":"{plan.TEXT}"}}}}]}}').encode()
        made = soak.crowd.Answer()
        reader = soak.crowd.Reader(made)
        reader.feed(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        return made

    requests = [plan.Request(n, "chat", None, None) for n in (1, 2)]
    good = {"answers": {1: answer(11), 2: answer(12)}, "record": [seen(1, 11), seen(2, 12)],
            "lines": [line(1), line(2)]}
    ledger.Round(requests, **good).check()
    for wrong in ({"answers": {1: answer(12), 2: answer(11)}}, {"lines": [line(1)]},
                  {"lines": [line(1), line(2), line(2)]}, {"lines": [line(1), line(2), line(3)]},
                  {"lines": [line(1), line(2, attempts=2)]}, {"record": [seen(1, 11), seen(2, 12), seen(2, 13)]},
                  {"record": [seen(1, 11), seen(2, 12), seen(3, 13)]}):
        with pytest.raises((ledger.Wrong, AssertionError)):
            ledger.Round(requests, **{**good, **wrong}).check()
