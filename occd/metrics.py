"""The metrics of this process, for Prometheus. docs/metrics.md has a line for each; a test compares the two.

The flow counts where something happens. The queue, the slots and whatever else can be asked for at any time
are read when somebody scrapes (`observed.py`). No label has a value that a stranger can invent: routes,
problem types, languages, verdicts and classes are this server's own words.
"""

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)

# A third of all samples, of no use to anybody.
disable_created_metrics()  # type: ignore[no-untyped-call]
REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)

_FAST_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_LONG_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)

# Every role


def _gauge(name: str, meaning: str, *labels: str) -> Gauge:
    return Gauge(name, meaning, labels, registry=REGISTRY)


def _counter(name: str, meaning: str, *labels: str) -> Counter:
    return Counter(name, meaning, labels, registry=REGISTRY)


def _seconds(
    name: str, meaning: str, *labels: str, buckets: tuple[float, ...] = _LONG_S
) -> Histogram:
    return Histogram(name, meaning, labels, registry=REGISTRY, buckets=buckets)


INFO = _gauge(
    "occd_info", "1, with the version, the commit, the node, its roles, and where queue and state are kept",
    "version", "commit", "node", "roles", "queue", "state",
)  # fmt: skip
LOOP_LAG = _seconds(
    "occd_loop_lag_seconds", "How late the event loop woke a task that had slept", buckets=_FAST_S
)
THREADS = _gauge("occd_threads", "Threads of Python")
UP = _gauge("occd_up", "1 when the part (queue, state) can be used, else 0", "part")
CHECK = _gauge("occd_check_seconds", "How long the part took to answer", "part")
READY = _gauge("occd_ready", "1 when a program would be run now, as /readyz says, else 0")
DRAINING = _gauge("occd_draining", "1 while this process takes no more, after occd drain, else 0")
DISK_FREE = _gauge("occd_disk_free_bytes", "Bytes that are free for us where the data folder lies")
DISK = _gauge("occd_disk_bytes", "Bytes that the file system of the data folder has")
NODES = _gauge("occd_nodes", "Nodes that have announced this role lately", "role")

# Requests

REQUESTS = _counter("occd_http_requests_total", "Answers over HTTP", "route", "method", "status")
REQUEST_TIME = _seconds(
    "occd_http_request_seconds",
    "From a request's head to the head of its answer, with the time that a client asked to wait",
    "route",
)
REFUSALS = _counter("occd_refusals_total", "Problems that clients were told, by type", "problem")
REFUSALS.labels("queue-full")  # from 0, so that the first one is an increase for the alert
QUOTA_REFUSALS = _counter(
    "occd_quota_refusals_total", "Submissions refused by a quota", "class", "quota"
)
ACCEPTED = _counter("occd_submissions_accepted_total", "New submissions recorded and queued")
WEBSOCKETS = _gauge("occd_websockets", "WebSockets that are open")
FOLLOWERS = _gauge("occd_followers", "Clients that wait for news of a submission, or read them")
HELD = _gauge(
    "occd_held_bytes", "Bytes held for clients: requests that come, answers not yet taken"
)

# The queue

QUEUE = _gauge("occd_queue_messages", "Messages that wait in a queue", "queue")
OLDEST = _gauge(
    "occd_queue_oldest_seconds", "The age of the submission that has waited longest, 0 for none"
)

# Running

WAITED = _seconds("occd_wait_seconds", "From the creation of a submission to its first attempt")
SET_UP = _seconds(
    "occd_setup_seconds", "From the order to run a step to its program's start", "stage",
    buckets=_FAST_S,
)  # fmt: skip
RAN = _seconds("occd_run_seconds", "The wall time of a step's program", "stage")
STORED = _seconds(
    "occd_store_seconds", "From the end of an attempt to its stored result", buckets=_FAST_S
)
RUNS = _counter("occd_runs_total", "Attempts that came to a result", "language", "verdict")
ATTEMPTS = _counter("occd_attempts_total", "Attempts that began")
REPEATED = _counter("occd_attempts_repeated_total", "Attempts after the first of a submission")
FAILED = _counter("occd_attempts_failed_total", "Attempts that failed for a reason of ours")
DEAD_LETTERS = _counter("occd_dead_letters_total", "Messages that became dead letters")
SLOTS = _gauge("occd_slots", "Slots of this node")
SLOTS_USED = _gauge("occd_slots_used", "Slots of this node that have a submission")
SEATS = _gauge("occd_seats", "Seats of this node")
SEATS_USED = _gauge("occd_seats_used", "Seats of this node that are taken")
CACHE_HITS = _counter("occd_cache_hits_total", "Programs that need not be compiled again")
CACHE_MISSES = _counter(
    "occd_cache_misses_total", "Programs that were to be compiled, and might be kept"
)
CACHE_BYTES = _gauge("occd_cache_bytes", "Bytes of the compiled programs that this node keeps")
PRECOMPILED_BYTES = _gauge(
    "occd_precompiled_bytes", "Bytes of what compilations have in common, and find made"
)
PRECOMPILED_MISSING = _gauge(
    "occd_precompiled_missing", "Parts of it that this node could have, and does not have"
)
COPIES = _counter("occd_copies_total", "Programs that began as copies of a template")
TEMPLATES = _gauge("occd_templates", "Templates: interpreters that have started already")
TEMPLATE_BYTES = _gauge("occd_template_bytes", "The memory of all templates")
JAILS_FIT = _gauge("occd_jails_fit", "1 while jails start on this node, else 0")

# Events

EVENTS = _counter("occd_events_total", "Events stored in the logs of submissions")
EVENT_LAG = _seconds(
    "occd_event_lag_seconds", "How long storing a batch of events took, outages included",
    buckets=_FAST_S,
)  # fmt: skip
