"""C17 over HTTP/2: a client that disconnects ends its own stream, and not those of others.

These are the tests of test_client_gone.py, with real HTTP/2 servers between retryd and the provider.
"""

import test_client_gone
from fronts import front, through_front  # noqa: F401
from pki import pki  # noqa: F401
from test_client_gone import leave  # noqa: F401


for name, test in vars(test_client_gone).items():
    if name.startswith("test_") and name != "test_while_connecting":  # there is no HTTP/2 yet
        globals()[name] = test
del name, test
