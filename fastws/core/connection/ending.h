/* How a connection ends: the phases, what can end it, and a table of what then happens.

   A connection is in one phase at a time:

       HANDSHAKE <-> DECIDING -> OPEN -> CLOSING -> DOWN -> GONE

   It skips phases but never goes back, except that a verdict on the request brings it from DECIDING to HANDSHAKE. What
   ends it depends on who speaks first:

   - The application closes (ws.close). Our Close frame is sent, and the peer's answer is awaited: CLOSING. RFC 6455
     section 7.1.2.
   - The peer closes. Its code is echoed (section 5.5.1), and the connection is over: DOWN. In CLOSING its Close frame
     is the answer to ours.
   - The connection fails: the peer has broken a rule or a limit, or a callback has raised. A Close frame says so, and
     nothing more is parsed (section 7.1.7).
   - The peer is lost: its last byte has been read and everything answered, or its system has reset the connection.
   - The connection is cut: a deadline has come, its place is needed, or the server stops at once. Nothing is sent.
   - The application terminates it (ws.terminate): cut, too, but callbacks that have begun go on.

   Three ends are not in the table. A request that is answered in plain HTTP goes from HANDSHAKE to DOWN. One for which
   the application takes too long is answered by a 503 and goes from DECIDING to DOWN; its callback is cancelled
   (opening.pyx). In the child of a fork every connection is GONE at once (service.pyx).

   A connection is over in DOWN and GONE. Then `close` is due exactly once if `open` was called, with the code and the
   reason of the side that closed first. A socket that hangs up sends what is queued, shuts its direction, and reads
   until the peer does so too (section 7.1.1: the server closes TCP first); its deadline is close_timeout. A socket that
   is dropped is closed at once. A connection that never was open is counted as refused, any other as closed: see
   fastws/causes.py. */

#ifndef FASTWS_ENDING_H
#define FASTWS_ENDING_H

#include <stdint.h>

enum phase {
    PHASE_HANDSHAKE,  /* the request is coming */
    PHASE_DECIDING,   /* an async upgrade or http callback runs */
    PHASE_OPEN,
    PHASE_CLOSING,    /* our Close is sent, the peer's is awaited */
    PHASE_DOWN,       /* nothing more is parsed; the socket is being shut */
    PHASE_GONE,       /* no socket any more; perhaps an async callback that has not ended */
    PHASES
};

enum ending { END_CLOSE, END_PEER_CLOSE, END_FAIL, END_LOSS, END_CUT, END_TERMINATE, ENDINGS };

enum ending_frame { NO_FRAME, SENDS_CLOSE, ECHOES_CODE };
enum ending_count { UNCOUNTED, REFUSED_AS, CLOSED_AS };
enum ending_cause { CAUSE_GIVEN, CAUSE_LEFT, CAUSE_LOST, CAUSE_OURS };         /* OURS: by_app, or stopping */
enum ending_code { CODE_KEPT, CODE_GIVEN, CODE_1006 };                         /* that `close` is called with */
enum ending_callbacks { CALLBACKS_COME, CALLBACKS_FORGOTTEN, CALLBACKS_CANCELLED }; /* those that wait, and that run */
enum ending_socket { STAYS, HANGS_UP, DROPPED };

/* What is not named is 0: the connection stays in its phase; no frame, not counted, the cause as given, the code kept,
   callbacks come, the socket stays. */
struct ending_step {
    uint8_t happens, next; /* next: the phase that it enters */
    uint8_t frame, counts, cause, code, callbacks, socket, logged;
};

static const struct ending_step ending_steps[PHASES][ENDINGS] = {
    [PHASE_HANDSHAKE] = {
        [END_LOSS] = {1, PHASE_GONE, .counts = REFUSED_AS, .cause = CAUSE_LEFT, .socket = DROPPED},
        [END_CUT] = {1, PHASE_GONE, .counts = REFUSED_AS, .socket = DROPPED, .logged = 1},
    },
    [PHASE_DECIDING] = {
        [END_LOSS] = {1, PHASE_GONE, .counts = REFUSED_AS, .cause = CAUSE_LEFT, .callbacks = CALLBACKS_CANCELLED,
            .socket = DROPPED},
        [END_CUT] = {1, PHASE_GONE, .counts = REFUSED_AS, .callbacks = CALLBACKS_CANCELLED, .socket = DROPPED,
            .logged = 1},
    },
    [PHASE_OPEN] = {
        [END_CLOSE] = {1, PHASE_CLOSING, .frame = SENDS_CLOSE, .code = CODE_GIVEN, .callbacks = CALLBACKS_FORGOTTEN},
        [END_PEER_CLOSE] = {1, PHASE_DOWN, .frame = ECHOES_CODE, .counts = CLOSED_AS, .code = CODE_GIVEN,
            .socket = HANGS_UP},
        [END_FAIL] = {1, PHASE_DOWN, .frame = SENDS_CLOSE, .counts = CLOSED_AS, .code = CODE_GIVEN,
            .callbacks = CALLBACKS_CANCELLED, .socket = HANGS_UP, .logged = 1},
        [END_LOSS] = {1, PHASE_GONE, .counts = CLOSED_AS, .cause = CAUSE_LOST, .code = CODE_1006,
            .callbacks = CALLBACKS_CANCELLED, .socket = DROPPED},
        [END_CUT] = {1, PHASE_GONE, .counts = CLOSED_AS, .code = CODE_1006, .callbacks = CALLBACKS_CANCELLED,
            .socket = DROPPED, .logged = 1},
        [END_TERMINATE] = {1, PHASE_GONE, .counts = CLOSED_AS, .cause = CAUSE_OURS, .code = CODE_1006,
            .callbacks = CALLBACKS_FORGOTTEN, .socket = DROPPED},
    },
    [PHASE_CLOSING] = {
        [END_PEER_CLOSE] = {1, PHASE_DOWN, .counts = CLOSED_AS, .cause = CAUSE_OURS, .socket = HANGS_UP},
        [END_FAIL] = {1, PHASE_DOWN, .counts = CLOSED_AS, .cause = CAUSE_OURS, .callbacks = CALLBACKS_CANCELLED,
            .socket = HANGS_UP},
        [END_LOSS] = {1, PHASE_GONE, .counts = CLOSED_AS, .cause = CAUSE_OURS, .callbacks = CALLBACKS_CANCELLED,
            .socket = DROPPED},
        [END_CUT] = {1, PHASE_GONE, .counts = CLOSED_AS, .callbacks = CALLBACKS_CANCELLED, .socket = DROPPED,
            .logged = 1},
        [END_TERMINATE] = {1, PHASE_GONE, .counts = CLOSED_AS, .cause = CAUSE_OURS, .code = CODE_1006,
            .callbacks = CALLBACKS_FORGOTTEN, .socket = DROPPED},
    },
    [PHASE_DOWN] = {
        [END_LOSS] = {1, PHASE_GONE, .socket = DROPPED},
        [END_CUT] = {1, PHASE_GONE, .socket = DROPPED},
        [END_TERMINATE] = {1, PHASE_GONE, .socket = DROPPED},
    },
    [PHASE_GONE] = {{0}},
};

#endif
