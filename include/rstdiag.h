/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rstdiag.h - the boundary between the Wireshark glue (C) and the analysis (Rust).
 *
 * This file is the manual of that boundary and its only source: the Rust side is generated
 * from it, and a difference between the two does not compile.
 *
 * DIRECTION   C calls Rust. Rust takes no callbacks and never calls Wireshark. The glue ends
 *             all reading from the host, makes one call, and then writes to the host, so that
 *             no longjmp of the host crosses a Rust frame.
 * OWNERSHIP   The session is the only object that needs a free. Bytes that go in belong to the
 *             caller, are valid for the call only, and are copied where they are kept. What
 *             comes out is written into memory of the caller, and only on success.
 * NULL        A NULL pointer is reported as RSTDIAG_E_NULL, never followed. Two exceptions:
 *             rstdiag_session_free accepts NULL, and bytes may be NULL where their length is 0.
 * STATUS      Zero is success, a positive number is "no answer", a negative one a failure.
 *             After a failure the session is as it was before the call.
 * PANICS      None crosses. A panic becomes RSTDIAG_E_PANIC and poisons the session: every
 *             later call answers RSTDIAG_E_POISONED at once, and rstdiag_session_free works.
 * THREADS     A session belongs to the thread that made it. Debug builds remember the thread
 *             and answer RSTDIAG_E_THREAD to any other.
 * TIMES       Signed 64-bit nanoseconds; instants count from the Unix epoch.
 * TEXT        UTF-8 without a terminating zero, with control characters escaped; only a part
 *             of a report has line feeds.
 * ENUMS       Travel as int32_t or uint32_t; an unknown number is answered with
 *             RSTDIAG_E_ARGUMENT.
 */
#ifndef RSTDIAG_H
#define RSTDIAG_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Version of the plugin: that of Cargo.toml and of what Wireshark shows. */
#define RSTDIAG_VERSION "0.1.0"

/* ---- Status ------------------------------------------------------------------------------ */
/* Numbers are permanent: a retired one is never used again. Last used: -9. */

#define RSTDIAG_OK 0          /* done */
#define RSTDIAG_NOT_FOUND 1   /* nothing is known of what was asked for */
#define RSTDIAG_E_NULL -1     /* a pointer that must not be NULL is NULL */
#define RSTDIAG_E_ARGUMENT -2 /* a number or text is not understood */
#define RSTDIAG_E_ORDER -3    /* a segment of an earlier frame, or an option after segments */
#define RSTDIAG_E_LIMIT -4    /* a bound of the session would be exceeded */
#define RSTDIAG_E_BUFFER -5   /* the caller's memory is too small; the needed size is told */
#define RSTDIAG_E_HEADER -6   /* the bytes given as a TCP header are none */
#define RSTDIAG_E_PANIC -7    /* a defect in rstdiag; the session is poisoned */
#define RSTDIAG_E_POISONED -8 /* an earlier call met a defect */
#define RSTDIAG_E_THREAD -9   /* called from another thread than the session's */

/* ---- Fields ------------------------------------------------------------------------------ */
/*
 * Every field that a verdict can have: identifier, name in Wireshark, type, title, meaning.
 * The identifiers number the values that rstdiag_session_values returns; the glue registers
 * its fields from this table, and the README prints it. Types:
 *   STRING     text                        UNSIGNED   number
 *   BOOLEAN    number, 0 or 1              FRAME      number, a frame number of the capture
 *   DURATION   number, nanoseconds         INSTANT    number, nanoseconds since the epoch
 */
#define RSTDIAG_FIELDS(X)                                                                      \
    X(SUMMARY, "rstdiag.summary", STRING, "Summary",                                           \
      "What happened to this connection, in one sentence")                                     \
    X(SEVERITY, "rstdiag.severity", STRING, "Severity",                                        \
      "harmless, warning, or failure (a request or response was lost)")                        \
    X(PHASE, "rstdiag.phase", STRING, "Phase of the reset",                                    \
      "What the first RST cut; only on streams with a RST")                                    \
    X(STAGE, "rstdiag.stage", STRING, "Stage",                                                 \
      "How far the exchange had come at the first FIN or RST, or when the capture ended")      \
    X(TRANSACTION, "rstdiag.transaction", STRING, "Transaction",                               \
      "completed, failed, none or unknown: the exchange that was open at the end, else the "   \
      "last one")                                                                              \
    X(CLOSE, "rstdiag.close", STRING, "Close",                                                 \
      "four_way, three_way, simultaneous, half_close, one_fin, reset, open or unknown")        \
    X(CLOSE_BY, "rstdiag.close.by", STRING, "Closed by",                                       \
      "Side of the first FIN or RST: client or server; absent where the capture may lack it")  \
    X(CLOSE_FRAME, "rstdiag.close.frame", FRAME, "First FIN or RST",                           \
      "The frame that began the close; absent where the capture may lack it")                  \
    X(CLOSE_PIGGYBACKED, "rstdiag.close.piggybacked", BOOLEAN, "FIN rides on data",            \
      "The first FIN rode on a segment with data, where the Info column hides it")             \
    X(RESET_BY, "rstdiag.reset.by", STRING, "Reset by",                                        \
      "Side whose address the first RST bears: client or server")                              \
    X(RESET_FRAME, "rstdiag.reset.frame", FRAME, "First RST", "The frame of the first RST")    \
    X(RESET_COUNT, "rstdiag.reset.count", UNSIGNED, "RSTs",                                    \
      "RSTs of the stream, copies made by the capture not counted")                            \
    X(RESET_TEXT, "rstdiag.reset.text", STRING, "Text in the RST",                             \
      "Payload of the RST, where some devices write the reason")                               \
    X(RESET_FORM, "rstdiag.reset.form", STRING, "Form of the RST",                             \
      "active (a living socket aborted), passive (an answer to a segment that found no "       \
      "socket), injected (evidence of a third party) or unclear")                              \
    X(RESET_ANSWERS, "rstdiag.reset.answers", FRAME, "Answers",                                \
      "The segment that a passive RST answers")                                                \
    X(CAUSE, "rstdiag.cause", STRING, "Likely cause",                                          \
      "A word of the table of causes; absent where the packets do not single one out")         \
    X(EVIDENCE, "rstdiag.evidence", STRING, "Evidence",                                        \
      "What the cause rests on, with frames and values")                                       \
    X(ADVICE, "rstdiag.advice", STRING, "Advice", "What to change or to check next")           \
    X(IDLE, "rstdiag.idle", DURATION, "Idle before the end",                                   \
      "From the last segment with data to the first RST or FIN")                               \
    X(CLIENT, "rstdiag.client", STRING, "Client", "Address and port of the client")            \
    X(SERVER, "rstdiag.server", STRING, "Server", "Address and port of the server")            \
    X(REQUESTS, "rstdiag.requests", UNSIGNED, "Requests", "Requests that were begun")          \
    X(RESPONSES, "rstdiag.responses", UNSIGNED, "Responses", "Responses that are complete")    \
    X(REQUEST, "rstdiag.request", STRING, "Request",                                           \
      "Method and URI of the exchange that the transaction is about")                          \
    X(RESPONSE_STATUS, "rstdiag.response.status", UNSIGNED, "Response status",                 \
      "Status code of that exchange's response")                                               \
    X(RESPONSE_ACKED, "rstdiag.response.acked", BOOLEAN, "Response acknowledged",              \
      "The client's TCP acknowledged every byte of the response")                              \
    X(RESPONSE_MISSING, "rstdiag.response.missing", UNSIGNED, "Response bytes missing",        \
      "Bytes that the response's framing promised and the client never acknowledged")          \
    X(CAVEAT, "rstdiag.caveat", STRING, "Caveat",                                              \
      "What the capture does not show: mid_stream, one_sided, gap, truncated, encrypted, "     \
      "bad_order")                                                                             \
    X(NGINX_SEES, "rstdiag.nginx_sees", BOOLEAN, "Nginx sees it",                              \
      "The application above the socket learns of this end")                                   \
    X(LEG, "rstdiag.leg", STRING, "Leg",                                                       \
      "client (client to nginx) or upstream (nginx to upstream), where the log, the "          \
      "addresses or the other leg tell")                                                       \
    X(OTHER_LEG, "rstdiag.other_leg", FRAME, "Other leg",                                      \
      "First frame of the stream of the other leg that carried the same transaction")          \
    X(LOG_MORE, "rstdiag.log.more", UNSIGNED, "More log entries",                              \
      "Entries about this connection beyond the 100 that are shown")                           \
    X(LOG, "rstdiag.log", STRING, "Log entry", "The entry as it stands in the file")           \
    X(LOG_KIND, "rstdiag.log.kind", STRING, "Kind", "error or access")                         \
    X(LOG_FILE, "rstdiag.log.file", STRING, "File", "The file that holds the entry")           \
    X(LOG_LINE, "rstdiag.log.line", UNSIGNED, "Line", "Number of the entry's first line")      \
    X(LOG_TIME, "rstdiag.log.time", INSTANT, "Time",                                           \
      "The entry's time on the capture's clock")                                               \
    X(LOG_LEVEL, "rstdiag.log.level", STRING, "Level", "info, error, ...")                     \
    X(LOG_PID, "rstdiag.log.pid", UNSIGNED, "Process", "The worker that wrote the entry")      \
    X(LOG_CONNECTION, "rstdiag.log.connection", UNSIGNED, "Connection",                        \
      "Serial number of the client's connection, as in $connection")                           \
    X(LOG_MESSAGE, "rstdiag.log.message", STRING, "Message", "What nginx says happened")       \
    X(LOG_ERRNO, "rstdiag.log.errno", UNSIGNED, "Error number", "As in 104: Connection reset") \
    X(LOG_ACTION, "rstdiag.log.action", STRING, "While",                                       \
      "The action that nginx had last begun; not always the operation that failed")            \
    X(LOG_CLIENT, "rstdiag.log.client", STRING, "Client", "Address of the client")             \
    X(LOG_SERVER, "rstdiag.log.server", STRING, "Server", "Name or address of the server")     \
    X(LOG_REQUEST, "rstdiag.log.request", STRING, "Request", "The request line")               \
    X(LOG_SUBREQUEST, "rstdiag.log.subrequest", STRING, "Subrequest", "URI of the subrequest") \
    X(LOG_UPSTREAM, "rstdiag.log.upstream", STRING, "Upstream", "Upstream that was in use")    \
    X(LOG_HOST, "rstdiag.log.host", STRING, "Host", "The request's Host header")               \
    X(LOG_REFERRER, "rstdiag.log.referrer", STRING, "Referrer",                                \
      "The request's Referer header")                                                          \
    X(LOG_STATUS, "rstdiag.log.status", UNSIGNED, "Status",                                    \
      "Status that nginx answered with; 499 where the client had gone")                        \
    X(LOG_REQUEST_TIME, "rstdiag.log.request_time", DURATION, "Request time",                  \
      "From the request's first byte to the entry")                                            \
    X(LOG_BYTES_SENT, "rstdiag.log.bytes_sent", UNSIGNED, "Bytes sent",                        \
      "Bytes that nginx gave to the client's connection")                                      \
    X(LOG_REQUEST_ID, "rstdiag.log.request_id", STRING, "Request ID",                          \
      "Identifier of the request, as in $request_id")                                          \
    X(MATCH_SCORE, "rstdiag.match.score", UNSIGNED, "Score",                                   \
      "0 to 100; from 90 on no other stream fits the entry, from 60 on others are ruled out, " \
      "below it stays open")                                                                   \
    X(MATCH_EVIDENCE, "rstdiag.match.evidence", STRING, "Evidence",                            \
      "The criteria that agree: time, reset, uri, client, port, phase, order, upstream, "      \
      "host, status, bytes, request_id")                                                       \
    X(MATCH_DELTA, "rstdiag.match.delta", DURATION, "Entry minus packet",                      \
      "The entry's time minus that of the packet it is about")                                 \
    X(MATCH_RIVALS, "rstdiag.match.rivals", UNSIGNED, "Rivals",                                \
      "Other streams that the same entry could be about")

#define RSTDIAG_FIELD_IDENTIFIER(id, name, type, title, meaning) RSTDIAG_FIELD_##id,

/* Identifiers of the fields; RSTDIAG_FIELD_COUNT is their number. */
enum rstdiag_field { RSTDIAG_FIELDS(RSTDIAG_FIELD_IDENTIFIER) RSTDIAG_FIELD_COUNT };

/* ---- Shapes ------------------------------------------------------------------------------ */

/* A network address. Reserved bytes are 0. */
typedef struct rstdiag_address {
    uint8_t family; /* 4, 6, or 0 where it is not known */
    uint8_t reserved[3];
    uint8_t bytes[16]; /* network order; an IPv4 address in the first four */
} rstdiag_address;

/* A run of bytes. */
typedef struct rstdiag_bytes {
    const uint8_t *data;
    uint64_t len;
} rstdiag_bytes;

/* One TCP header of one frame, with what the capture holds of its payload. */
typedef struct rstdiag_segment {
    uint32_t frame;       /* frame number, from 1 */
    uint32_t layer;       /* which TCP header of the frame: 0 is the outermost */
    uint32_t stream;      /* tcp.stream */
    uint32_t payload_len; /* bytes of payload on the wire, captured or not */
    int64_t time_ns;      /* when the frame was captured */
    rstdiag_address src;
    rstdiag_address dst;
    const uint8_t *bytes; /* TCP header, options and captured payload, without a gap */
    uint32_t bytes_len;   /* at least 20 */
    uint32_t ip_len;      /* bytes at ip; 0 where the IP header is not at hand */
    const uint8_t *ip;    /* the IP header, without extension headers, or NULL */
    const rstdiag_bytes *decrypted; /* TLS records that end in this segment, as far as the host
                                       has the keys: their content, in order */
    uint32_t decrypted_len;         /* how many */
    uint32_t reserved;
} rstdiag_segment;

/* What is known of one TCP header of one frame. */
typedef struct rstdiag_frame {
    uint32_t stream; /* tcp.stream */
    uint32_t flags;  /* RSTDIAG_FRAME_... */
} rstdiag_frame;

#define RSTDIAG_FRAME_CLOSED 1u      /* the stream has seen a FIN or RST so far */
#define RSTDIAG_FRAME_FIRST_RESET 2u /* this is the stream's first RST */

/*
 * One value of a verdict. Values come in the order of display; those of one log entry share a
 * group from 1 on, those of the stream itself have group 0.
 */
typedef struct rstdiag_value {
    uint32_t field; /* enum rstdiag_field */
    uint32_t group;
    int64_t number;       /* for every type but STRING */
    uint32_t text_offset; /* for STRING: where it starts in the text buffer */
    uint32_t text_len;    /* and its length in bytes */
} rstdiag_value;

/* When a verdict is asked for. */
#define RSTDIAG_SO_FAR 0 /* while frames are still being fed: what is decided by now */
#define RSTDIAG_FINAL 1  /* every frame has been fed, or a frame is shown once more */
/* Where more is fed after a final verdict, what other streams tell of a stream may be as of
 * some frames ago, so that the cost of all verdicts stays linear; a report takes account of
 * all. */

/* Preferences, by number; their values travel as text. */
#define RSTDIAG_OPTION_TIME_ZONE 1    /* auto, local, UTC, +08:00, Asia/Shanghai */
#define RSTDIAG_OPTION_WINDOW 2       /* seconds that entry and packet may lie apart: 2, 0.5 */
#define RSTDIAG_OPTION_ERROR_LOG 3    /* file, directory or pattern; read when first needed */
#define RSTDIAG_OPTION_CLOCK_OFFSET 4 /* seconds to add to log times: auto, -1.7 */
#define RSTDIAG_OPTION_ACCESS_LOG 5   /* file, directory or pattern; read after the error log */
#define RSTDIAG_OPTION_ACCESS_LOG_FORMAT 6 /* a log_format, combined, main or json */
#define RSTDIAG_OPTION_NGINX_ADDRESSES 7   /* of the nginx host: 10.0.0.1, 192.168.0.0/24 */

/* One analysis of one capture. Opaque. */
typedef struct rstdiag_session rstdiag_session;

/* ---- Calls ------------------------------------------------------------------------------- */

/* Makes a session with default options. *out is written on success only. */
int32_t rstdiag_session_new(rstdiag_session **out);

/* Ends a session, poisoned or not, from any thread. NULL is accepted. */
void rstdiag_session_free(rstdiag_session *session);

/*
 * Sets an option. To be called before the first segment; RSTDIAG_E_ORDER after it. A value that
 * is not understood leaves the default, adds a notice, and is answered with
 * RSTDIAG_E_ARGUMENT.
 */
int32_t rstdiag_session_option(rstdiag_session *session, int32_t option, const uint8_t *value,
                               size_t value_len);

/*
 * Takes one segment. Segments go in frame order, each once, when a frame is dissected for the
 * first time; several of one frame go outermost first. The first segment makes the session
 * read its logs. A log that cannot be used adds a notice and is no failure of this call.
 */
int32_t rstdiag_session_feed(rstdiag_session *session, const rstdiag_segment *segment);

/* Tells what is known of a frame that was fed, cheaply. RSTDIAG_NOT_FOUND for any other. */
int32_t rstdiag_session_frame(rstdiag_session *session, uint32_t frame, uint32_t layer,
                              rstdiag_frame *out);

/*
 * Writes the verdict on the stream of a frame: at most values_cap values and text_cap bytes of
 * text. wanted points to RSTDIAG_FIELD_COUNT bytes, non-zero for each field that somebody
 * looks at, or is NULL for all. when is RSTDIAG_SO_FAR or RSTDIAG_FINAL.
 *
 * *values_len and *text_len receive what was written. With RSTDIAG_E_BUFFER they receive what
 * is needed instead, and nothing else is written.
 *
 * Where wanted asks for the log, the session looks, at most once a second, whether the log has
 * grown, and reads some of what was added.
 */
int32_t rstdiag_session_values(rstdiag_session *session, uint32_t frame, uint32_t layer,
                               int32_t when, const uint8_t *wanted, rstdiag_value *values,
                               size_t values_cap, size_t *values_len, uint8_t *text,
                               size_t text_cap, size_t *text_len);

/*
 * Writes the notice of this index, from 0: a sentence about an option or a log that could not
 * be used, for the user. RSTDIAG_NOT_FOUND past the last. *text_len as above.
 *
 * With RSTDIAG_FINAL, what all that has been fed tells about the logs comes behind the others,
 * worked out anew: that none of their entries is of the time of the capture.
 */
int32_t rstdiag_session_notice(rstdiag_session *session, size_t index, int32_t when,
                               uint8_t *text, size_t text_cap, size_t *text_len);

/*
 * Works out the report on everything that has been fed and read by now, anew. *parts receives
 * the number of its parts.
 */
int32_t rstdiag_session_report(rstdiag_session *session, size_t *parts);

/*
 * Writes one part of that report, from 0: whole lines for a person to read, each with a line
 * feed at its end. RSTDIAG_NOT_FOUND past the last, and without a report. *text_len as above.
 */
int32_t rstdiag_session_report_part(rstdiag_session *session, size_t index, uint8_t *text,
                                    size_t text_cap, size_t *text_len);

/* Writes why the last call on this session failed. RSTDIAG_NOT_FOUND when none did. */
int32_t rstdiag_session_error(rstdiag_session *session, uint8_t *text, size_t text_cap,
                              size_t *text_len);

/* Name of a status, "RSTDIAG_E_NULL" and so on; "unknown" for other numbers. Static. */
const char *rstdiag_status_name(int32_t status);

/* RSTDIAG_VERSION as it was compiled into the Rust side. Static. */
const char *rstdiag_version(void);

#ifdef __cplusplus
}
#endif

#endif
