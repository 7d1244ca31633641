"""`python -m bench.uncounted ARGS` is `occd ARGS` of the same tree, of which nothing is counted or measured.

The flow still calls functions that do nothing. These calls are all that is left of the
metrics: some microseconds.
"""

import trio
from prometheus_client import Counter, Gauge, Histogram

from occd import metrics
from occd.__main__ import main
from occd.web import metrics as requests


class Uncounted:
    def labels(self, *_values: object) -> "Uncounted":
        return self

    def nothing(self, *_values: object) -> None:
        pass

    inc = dec = set = observe = nothing


async def _measure_nothing(_observed: object) -> None:
    await trio.sleep_forever()


if __name__ == "__main__":
    for name, each in list(vars(metrics).items()):
        if isinstance(each, Counter | Gauge | Histogram):
            setattr(metrics, name, Uncounted())
    vars(requests)["count_requests"] = lambda app: None
    from occd.observed import Observed  # it imports what was replaced

    setattr(Observed, "run", _measure_nothing)  # noqa: B010  (mypy refuses an assignment)
    main()
