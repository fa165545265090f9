"""C10 to C13: streams as they pass, and incomplete responses, over HTTP/2: only a reset of the stream shows the fault."""

import test_commit
import test_streams
from http2_streams import both, cases_of, cuts_come_later, front, pki, through_front  # noqa: F401

globals().update(cases_of(test_commit, test_streams))
