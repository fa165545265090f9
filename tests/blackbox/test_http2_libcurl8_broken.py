"""C10 to C13: broken streams and how they are mended, over HTTP/2, where only a reset of the stream shows the fault."""

import test_broken_streams
from http2_streams import both, cases_of, cuts_come_later, front, pki, through_front  # noqa: F401
from test_broken_streams import cut_everywhere  # noqa: F401

globals().update(cases_of(test_broken_streams))
