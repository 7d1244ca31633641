"""How much a submission may store, which counts for its payer until it has ended."""

from occd import wire
from occd.config import Config
from occd.execution.tests import LOG_BYTES, LOGGED_MAX, SHORT_LOG_BYTES
from occd.languages import Language
from occd.model import Submission
from occd.trace import STORED_MAX

_STREAMS = 2
_AT_ONCE = 32
"""So many tests may run together, and log as much as the first, when the log has got to its limit."""


def most_stored(submission: Submission, language: Language | None, config: Config) -> int:
    """In bytes: the submission, its output, the files that it leaves, and its trace."""
    output = submission.limits.output
    if submission.judging:
        steps = 2 * len(submission.judging.tests)  # a run, and a check that may be a program
        short = LOGGED_MAX // _STREAMS + SHORT_LOG_BYTES * steps + LOG_BYTES * _AT_ONCE
        output = min(LOG_BYTES * steps, short) + LOG_BYTES * len(submission.judging.programs)
    if language and language.compile and not submission.format:
        output += language.compile_limits.output
    files = config.artifacts.bytes if submission.artifacts else 0
    files += STORED_MAX if submission.trace else 0
    return len(wire.encode_submission(submission)) + _STREAMS * output + files
