# The opening handshake (RFC 6455 section 4.2): a head is found, bounded and cleaned here, parsed by httptools, judged
# here again. httptools gets the head in one piece and nothing but the head: it bounds nothing, joins pieces at
# quadratic cost, and would go on into a body, a second request or frames.

cdef enum:
    CR = 13
    LF = 10
    TAB = 9
    SPACE = 32
    SLASH = 47
    DEL = 127

cdef bytes WEBSOCKET_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
cdef bytes TOKEN_CHARACTERS = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


cdef class HeadLimits:
    """The bounds of a request head; each is an option of the same name."""

    def __cinit__(self, size_t max_header_size, size_t max_request_line, size_t max_headers):
        self.max_header_size = max_header_size
        self.max_request_line = max_request_line
        self.max_headers = max_headers


cdef class Handshake:
    """One request, from its first byte to the verdict. Dropped once the connection is open."""

    def __cinit__(self, HeadLimits limits not None):
        self.limits = limits
        self.headers = []

    cdef HeadState scan(self, const uint8_t *data, size_t n) noexcept:
        """Looks on for the end of the head, from where it stopped last; each byte is looked at once.

        What a proxy in front might read otherwise than we do is refused: control characters, a bare CR or LF, folded
        headers (RFC 9112 sections 2.2, 5.2; RFC 9110 section 5.5). On HEAD_DONE the head is the first `scanned` bytes.
        """
        cdef size_t i = self.scanned
        cdef uint8_t byte
        while i < n:
            if i >= self.limits.max_header_size:
                return HEAD_TOO_LARGE
            byte = data[i]
            if byte == LF:
                if i == 0 or data[i - 1] != CR:
                    break
                if i - self.line_start == 1:            # an empty line
                    self.scanned = i + 1
                    return HEAD_DONE if self.lines else HEAD_BAD
                self.lines += 1
                if self.lines > self.limits.max_headers + 1:
                    return HEAD_TOO_LARGE
                self.line_start = i + 1
            elif i > self.line_start and data[i - 1] == CR:
                break
            elif byte < SPACE and byte != CR and (byte != TAB or not self.lines) or byte == DEL:
                break
            elif i == self.line_start and (byte == SPACE or byte == TAB):
                break
            elif not self.lines and i and data[i - 1] == SPACE and (byte == SPACE or byte == CR):
                break                                   # RFC 9112 section 3: single spaces, and none at the end
            elif not self.lines and i >= self.limits.max_request_line and byte != CR:
                return HEAD_LONG_TARGET
            i += 1
        self.scanned = i
        return HEAD_MORE if i == n else HEAD_BAD

    cdef bint parse(self, bytes head) except -1:
        """Has httptools parse the whole head; False where it finds it malformed."""
        cdef list words
        cdef bint malformed = False
        try:
            HttpRequestParser(self).feed_data(head)
        except HttpParserUpgrade:
            pass
        except HttpParserError:
            malformed = True
        if malformed:
            return False
        words = head[:head.find(b"\r\n")].split(b" ")  # it has found them to be good; asking it for each costs more
        if not self.complete or len(words) != 3 or not words[2].startswith(b"HTTP/"):   # it takes RTSP/1.1, too
            return False
        self.method, self.target, self.version = words[0], words[1], words[2][5:]
        return True

    # httptools calls these two

    def on_header(self, bytes name, bytes value):
        value = _stripped(value)
        self.headers.append((name, value))
        self._pick(name, value)

    def on_headers_complete(self):
        self.complete = True

    cdef int _pick(self, bytes name, bytes value) except -1:
        # Most headers are none of these, and need no copy in lower case to find out.
        cdef bytes key
        if len(name) not in (4, 6, 7, 10, 14, 17, 21, 22, 24):
            return 0
        key = name.lower()
        if key == b"host":
            self.hosts += 1
            self.host = value
        elif key == b"upgrade":
            self.wants_websocket |= _has_token(value, b"websocket")
        elif key == b"connection":
            self.connection_upgrade |= _has_token(value, b"upgrade")
        elif key == b"sec-websocket-key":
            self.keys += 1
            self.key = value
        elif key == b"sec-websocket-version":
            self.versions += 1
            self.sec_version = value
        elif key == b"sec-websocket-protocol":
            self.protocols = value if self.protocols is None else self.protocols + b"," + value
        elif key == b"sec-websocket-extensions":
            self.extensions = value if self.extensions is None else self.extensions + b"," + value
        elif key == b"origin":
            self.origins += 1
            self.origin = value
        elif key == b"transfer-encoding":
            self.has_body = True
        elif key == b"content-length":
            self.has_body |= value != b"0"
            self.bad_length |= not value.isdigit()

    # verdicts: None, or (status, text, headers) of the refusal

    cpdef refuse_request(self, allowed_hosts):
        """Rules for every request, upgrade or not."""
        if self.version != b"1.1" and self.version != b"1.0":
            return 505, "this server speaks HTTP/1.1", ()
        if self.hosts > 1 or not self.hosts and self.version == b"1.1":     # RFC 9112 section 3.2: in 1.0 it may lack
            return 400, "exactly one Host header is needed", ()
        if self.hosts and not (_is_plain_name(self.host) or is_host(self.host)):
            return 400, "the Host header is malformed", ()
        if PyBytes_AS_STRING(self.target)[0] != SLASH and not self.asks_for_options():
            self.host = target_host(self.target)        # RFC 9112 section 3.2.2: it counts, and Host does not
            if self.host is None:
                return 400, "the request target is malformed", ()
        if self.bad_length:
            return 400, "Content-Length is not a number", ()
        if allowed_hosts is not None and not host_allowed(self.host_text(), allowed_hosts):
            return 403, "this Host is not served here", ()
        return None

    cdef str host_text(self):
        """The host that counts; "" where HTTP/1.0 has named none."""
        return "" if self.host is None else self.host.decode("latin-1")

    cdef bint asks_for_options(self) except -1:
        """Asks what the server as a whole can do (RFC 9110 section 9.3.7)."""
        return self.method == b"OPTIONS" and self.target == b"*"

    cpdef refuse_upgrade(self, origins):
        """RFC 6455 section 4.2.1, item by item; then the origin check of section 10.2."""
        if self.version != b"1.1":
            return 505, "a WebSocket handshake is HTTP/1.1", ()
        if self.method != b"GET":
            return 405, "a WebSocket handshake is a GET", (("Allow", "GET"),)
        if self.has_body:
            return 400, "a WebSocket handshake has no body", ()
        if not self.wants_websocket:
            return 426, "this address speaks WebSocket", (("Upgrade", "websocket"),)
        if not self.connection_upgrade:
            return 400, "Connection does not say Upgrade", ()
        if self.versions > 1:
            return 400, "more than one Sec-WebSocket-Version", ()
        if self.sec_version != b"13":
            return 426, "only version 13 is spoken here", (("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"))
        if self.keys != 1 or not _is_key(self.key):
            return 400, "exactly one Sec-WebSocket-Key of 16 bytes in base64 is needed", ()
        if self.origins > 1:
            return 403, "more than one Origin", ()
        if self.origin is not None and not origin_allowed(self.origin.decode("latin-1"), self.host_text(), origins):
            return 403, "this Origin is not allowed", ()
        if self.protocols is not None and not _are_tokens(self.protocols):
            return 400, "Sec-WebSocket-Protocol is not a list of tokens", ()
        return None

    cpdef bytes response(self, accept, bytes extensions=None):
        """The 101 (RFC 6455 section 4.2.2); `accept` is an http.Accept or None, `extensions` what was negotiated."""
        digest = sha1(self.key + WEBSOCKET_GUID).digest()
        answer = (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
            + b2a_base64(digest, newline=False)
        )
        if extensions is not None:
            answer += b"\r\nSec-WebSocket-Extensions: " + extensions
        if accept is not None:
            if accept.subprotocol is not None:
                answer += _line(b"Sec-WebSocket-Protocol: " + accept.subprotocol.encode("latin-1"))
            for name, value in accept.headers:
                answer += _line(name + b": " + value)
        return answer + b"\r\n\r\n"


cdef bytes _line(bytes line):
    """A header of the application's, checked here: of an Accept that Request.accept() has not made, it has not been."""
    if line.translate(None, b"\r\n\0") != line:
        raise ValueError(f"a header of the answer holds a line break or a NUL: {line!r}")
    return b"\r\n" + line


cdef tuple request_target(bytes target):
    """(path, query string, path to look up) of the target, as split_target() has them; most need no decoding."""
    if target.isascii() and target.startswith(b"/") and b"%" not in target and b"#" not in target:
        path, _, query = target.decode("ascii").partition("?")
        return path, query, path
    return split_target(target)


cdef bint _is_plain_name(bytes host) except -1:
    """Letters, digits, dots and hyphens, then perhaps a port: what nearly every Host is."""
    cdef uint8_t byte
    cdef bint port = False
    cdef int digits = 0
    for byte in host:
        if b"0" <= byte <= b"9":
            digits += port
        elif port:
            return False
        elif byte == b":":
            port = True
        elif not (b"a" <= byte | 0x20 <= b"z" or byte == b"." or byte == b"-"):
            return False
    return host[:1].isalnum() and (0 < digits <= 5 if port else True)


cdef bytes _stripped(bytes value):
    """Without the white space around it, which httptools leaves at the end."""
    cdef const char *p = value
    cdef Py_ssize_t n = len(value)
    if n and (p[0] == SPACE or p[0] == TAB or p[n - 1] == SPACE or p[n - 1] == TAB):
        return value.strip(b" \t")
    return value


cdef bint _has_token(bytes value, bytes token) except -1:
    """A comma-separated header value names the token, in any letter case (RFC 9110 section 5.6.1)."""
    value = value.lower()
    if value == token:
        return True
    return token in [part.strip(b" \t") for part in value.split(b",")]


cdef bint _are_tokens(bytes value) except -1:
    """What the commas separate; nothing between two of them is let pass (RFC 9110 sections 5.6.1.2, 5.6.2)."""
    return not any([part.strip(b" \t").translate(None, TOKEN_CHARACTERS) for part in value.split(b",")])


cdef bint _is_key(bytes key) except -1:
    """16 bytes in base64 are 22 characters of its alphabet and two of padding."""
    if len(key) != 24 or not key.endswith(b"=="):
        return False
    cdef bytes nonce = b""
    try:
        nonce = a2b_base64(key)             # characters of no alphabet are passed over, and then it is fewer
    except ValueError:
        pass
    return len(nonce) == 16
