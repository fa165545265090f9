"""C10 to C13: cuts at any place, and streams of unknown kinds, over HTTP/2, where only a reset of the stream shows the fault."""

import test_stream_cuts
import test_unknown_streams
from http2_streams import both, cases_of, cuts_come_later, front, pki, through_front  # noqa: F401

globals().update(cases_of(test_stream_cuts, test_unknown_streams))
