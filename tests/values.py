"""Strategies for the values that keep the model's rules (`occd/rules.py`)."""

from typing import Any, get_args

from hypothesis import strategies as st

from occd import rules
from occd.events import Event
from occd.model import Artifact, File, Limits, Outcome, Result, Submission, Written
from occd.principal import with_kind
from occd.trace import BYTES_MAX, CALLS_MAX, STORED_MAX, CallCount, Trace

number = st.floats(0, 1e12, allow_nan=False)
moment = st.floats(0, 2.5e11, allow_nan=False)
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
word = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
label = word.filter(bool)
ids = st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True)
part = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/\\\0\x7f"),
    min_size=1,
    max_size=9,
).filter(lambda part: part not in (".", "..") and part[0] != "-")
names = st.lists(part, min_size=1, max_size=3).map("/".join)
written = st.builds(Written.of, st.binary(), truncated=st.booleans()) | st.builds(
    Written, size=st.integers(0, 2**30), utf8=st.booleans(), truncated=st.booleans()
)
outcomes = st.builds(
    Outcome,
    exit_code=st.none() | st.integers(0, 255),
    signal=st.none() | st.just("SIGSEGV"),
    stdout=written,
    stderr=written,
    cpu_time=number,
    wall_time=number,
    memory=st.integers(0, 2**50),
)
counts = st.builds(
    CallCount,
    name=st.from_regex(r"[a-z0-9_]{1,40}", fullmatch=True),
    count=st.integers(6, CALLS_MAX),
    failed=st.integers(3, 6),
    refused=st.integers(0, 3),
    seconds=st.floats(0, 1e9),
)
traces = st.builds(
    Trace,
    ended=st.sampled_from(["whole", "limit", "tracer_died", "of_a_later_version"]),
    calls=st.integers(0, CALLS_MAX),
    counts=st.lists(counts, max_size=3).map(tuple),
    sha256=st.none() | st.from_regex(r"[0-9a-f]{64}", fullmatch=True),
    size=st.integers(0, BYTES_MAX),
    stored=st.integers(0, STORED_MAX),
)
results = st.builds(
    Result,
    message=st.none() | text,
    version=st.none() | text,
    compile=st.none() | outcomes,
    run=st.none() | outcomes,
    attempts=st.integers(0, 3),
    started_at=st.none() | moment,
    finished_at=moment,
    trace=st.none() | traces,
)


def _limit(name: str) -> st.SearchStrategy[Any]:
    least, most = rules.LEAST[name], rules.MOST[name]
    whole = isinstance(getattr(Limits(), name), int)
    return st.integers(int(least), int(most)) if whole else st.floats(least, most)


limits = st.builds(
    Limits, **{name: _limit(name) for name in rules.MOST if name not in ("box", "idle")}
)


@st.composite
def submissions(draw: st.DrawFn) -> Submission:
    """Every field that a submission has, with values that keep the rules."""
    contents = draw(st.dictionaries(names, st.binary(max_size=50), min_size=1, max_size=4))
    files = [
        File(name, content)
        for name, content in contents.items()
        if not any(other.startswith(f"{name}/") for other in contents)
    ]
    return Submission(
        id=draw(ids),
        language=draw(label),
        version=draw(st.none() | st.from_regex(r"[0-9]{1,3}(\.[0-9]{1,3}){0,3}", fullmatch=True)),
        main=draw(st.sampled_from(files)).name,
        files=tuple(files),
        stdin=draw(st.binary()),
        args=tuple(draw(st.lists(word, max_size=4))),
        env=tuple(
            (name, draw(word))
            for name in draw(
                st.lists(st.from_regex(r"[A-Za-z_]\w{0,9}", fullmatch=True), max_size=3)
            )
            if name.isascii()
        ),
        compile_args=tuple(draw(st.lists(word, max_size=4))),
        limits=draw(limits),
        interactive=draw(st.booleans()),
        user_id=draw(st.none() | word),
        created_at=draw(moment),
        owner=draw(st.none() | ids.map(with_kind)),
        retry_of=draw(st.none() | ids),
    )


st.register_type_strategy(float, number)
st.register_type_strategy(str, text)
st.register_type_strategy(Outcome, outcomes)
st.register_type_strategy(Result, results)
artifacts = st.builds(
    Artifact,
    name=names,
    size=st.integers(0, 2**30),
    sha256=st.from_regex(r"[0-9a-f]{64}", fullmatch=True),
    type=st.just("image/png"),
)
st.register_type_strategy(Artifact, artifacts)
events = st.one_of([st.from_type(kind) for kind in get_args(Event)])
