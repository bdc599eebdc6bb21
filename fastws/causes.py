"""The causes for which sockets are refused and connections closed: the names by which `App.stats` counts them."""

#: Why a socket was sent away before it was an open connection. Those named after an option are breaches of it.
REFUSED = (
    "malformed",  # 400
    "max_request_line",  # 414
    "max_header_size",  # 431, also for max_headers
    "method",  # 405
    "http_version",  # 505
    "version",  # 426, also for a plain request to a WebSocket route
    "not_found",  # 404
    "origins",  # 403
    "allowed_hosts",  # 403
    "max_connections",  # 503
    "max_connections_per_ip",  # 503
    "max_pending_handshakes",
    "handshake_timeout",  # 503 where it was an async `upgrade` that took too long
    "http_timeout",  # 503
    "by_app",  # `upgrade` answered with a Response
    "error",  # 500: a callback raised, or returned nonsense
    "left",  # the peer went before it was answered
    "stopping",
)

#: What ended an open connection. Those named after an option are breaches of it.
CLOSED = (
    "by_peer",  # with a Close frame
    "by_app",  # `close` or `terminate`
    "lost",  # it ended without a Close frame: the peer's system ended it, the network did, or an error of ours
    "protocol_error",  # 1002
    "invalid_text",  # 1007
    "invalid_compression",  # 1007
    "max_message_size",  # 1009
    "max_fragments",
    "max_control_rate",
    "max_message_rate",
    "message_timeout",
    "ping_timeout",
    "send_timeout",
    "close_timeout",  # the app closed it, and the peer did not answer
    "max_backpressure",
    "error",  # 1011: a callback raised
    "stopping",
)
