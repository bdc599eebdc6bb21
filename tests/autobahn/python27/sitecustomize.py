"""On the path of the suite's Python 2.7, before anything of the suite runs.

Lends its hashlib OpenSSL's SHA-1 where it was built without OpenSSL. The cases of permessage-deflate hash what they
send and what comes back, 20 GB in all; cryptography, which the suite brings, gives the same digests four times as fast.

With NO_HINT in the environment the client's offers leave out client_no_context_takeover. All of the suite's have it,
upon which a server may well ask for it, and then no case keeps a context of the client's.

With PATIENCE in the environment the cases of permessage-deflate have so many times as long. The suite gives 60 s for
1000 messages to and fro, which take 1 s, and 100 s where a dozen other processes want the same two processors.
"""

import hashlib
import os

if hashlib.sha1.__module__ == "_sha":
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that Python 2 is old
        from cryptography.hazmat.backends import default_backend
    from cryptography.hazmat.primitives.hashes import SHA1, Hash

    class OpenSSLSha1(object):  # noqa: UP004 (in Python 2 it makes a difference)
        def __init__(self, data=b""):
            self._hash = Hash(SHA1(), default_backend())
            self._hash.update(data)
            self.update = self._hash.update

        def digest(self):
            return self._hash.copy().finalize()

        def hexdigest(self):
            return self.digest().encode("hex")

    hashlib.sha1 = OpenSSLSha1

if "NO_HINT" in os.environ:
    from autobahn.websocket.compress import PerMessageDeflateOffer

    names = PerMessageDeflateOffer.__init__.__code__.co_varnames[1:]
    assert names[:1] == ("acceptNoContextTakeover",), names
    defaults = PerMessageDeflateOffer.__init__.__defaults__
    PerMessageDeflateOffer.__init__.__func__.__defaults__ = (False,) + defaults[1:]  # noqa: RUF005 (Python 2 has no other)

if "PATIENCE" in os.environ:
    from autobahntestsuite.case.case12_x_x import Case12_X_X, Case13_X_X

    for case in Case12_X_X + Case13_X_X:
        case.WAITSECS *= float(os.environ["PATIENCE"])
