/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * abi_test.c - what rstdiag.h promises, asked from C.
 *
 * Each test returns NULL, or where it failed and the condition that did not hold. tests/abi.rs
 * runs them all. Panics can not be caused from here; src/ffi/guard.rs tests those.
 */
#include <limits.h>
#include <stdbool.h>
#include <string.h>

#include "rstdiag.h"

#define NUMBER_TEXT_(number) #number
#define NUMBER_TEXT(number) NUMBER_TEXT_(number)
#define CHECK(condition)                                                                       \
    do {                                                                                       \
        if (!(condition))                                                                      \
            return __FILE__ ":" NUMBER_TEXT(__LINE__) ": " #condition;                         \
    } while (0)

#define TEST(name)                                                                             \
    const char *name(void);                                                                    \
    const char *name(void)

/* A test that is given a session of its own. */
#define SESSION_TEST(name)                                                                     \
    static const char *name##_in(rstdiag_session *session);                                    \
    const char *name(void);                                                                    \
    const char *name(void)                                                                     \
    {                                                                                          \
        rstdiag_session *session = NULL;                                                       \
        CHECK(rstdiag_session_new(&session) == RSTDIAG_OK);                                    \
        const char *failed = name##_in(session);                                               \
        rstdiag_session_free(session);                                                         \
        return failed;                                                                         \
    }                                                                                          \
    static const char *name##_in(rstdiag_session *session)

/* ---- A small conversation ---------------------------------------------------------------- */

enum { FIN = 1, SYN = 2, RST = 4, PSH = 8, ACK = 16 };

static const uint8_t request[] = "GET /pay HTTP/1.1\r\nHost: example.com\r\n\r\n";

/* A TCP segment with its IPv4 header. */
typedef struct packet {
    uint8_t ip[20];
    uint8_t tcp[20 + sizeof request];
} packet;

static void
put32(uint8_t *at, uint32_t number)
{
    for (int i = 0; i < 4; i++)
        at[i] = (uint8_t)(number >> (24 - 8 * i));
}

/* The segment of a frame; from_client sends from 192.0.2.1:50000 to 192.0.2.2:80. */
static rstdiag_segment
segment(packet *packet, uint32_t frame, bool from_client, uint8_t flags, uint32_t seq,
        uint32_t ack, const uint8_t *payload, uint32_t payload_len)
{
    static const uint8_t ends[2][4] = {{192, 0, 2, 1}, {192, 0, 2, 2}};
    static const uint8_t ports[2][2] = {{50000 >> 8, 50000 & 255}, {0, 80}};

    memset(packet, 0, sizeof *packet);
    packet->ip[0] = 0x45;
    packet->ip[3] = (uint8_t)(40 + payload_len);
    packet->ip[8] = 64;
    packet->ip[9] = 6;
    memcpy(packet->ip + 12, ends[!from_client], 4);
    memcpy(packet->ip + 16, ends[from_client], 4);
    memcpy(packet->tcp, ports[!from_client], 2);
    memcpy(packet->tcp + 2, ports[from_client], 2);
    put32(packet->tcp + 4, seq);
    put32(packet->tcp + 8, ack);
    packet->tcp[12] = 5 << 4;
    packet->tcp[13] = flags;
    packet->tcp[14] = 0xff;
    if (payload_len > 0)
        memcpy(packet->tcp + 20, payload, payload_len);

    rstdiag_segment segment = {
        .frame = frame,
        .payload_len = payload_len,
        .time_ns = 1700000000000000000 + (int64_t)frame * 1000000,
        .bytes = packet->tcp,
        .bytes_len = 20 + payload_len,
        .ip = packet->ip,
        .ip_len = sizeof packet->ip,
    };
    return segment;
}

/* Feeds a handshake, a request, and the server's RST in frames 1 to 5. */
static int32_t
feed_reset(rstdiag_session *session)
{
    const uint32_t len = sizeof request - 1;
    packet packets[5];
    const rstdiag_segment segments[5] = {
        segment(&packets[0], 1, true, SYN, 100, 0, NULL, 0),
        segment(&packets[1], 2, false, SYN | ACK, 500, 101, NULL, 0),
        segment(&packets[2], 3, true, ACK, 101, 501, NULL, 0),
        segment(&packets[3], 4, true, PSH | ACK, 101, 501, request, len),
        segment(&packets[4], 5, false, RST | ACK, 501, 101 + len, NULL, 0),
    };
    int32_t status = RSTDIAG_OK;
    for (int i = 0; i < 5 && status == RSTDIAG_OK; i++)
        status = rstdiag_session_feed(session, &segments[i]);
    return status;
}

static int32_t
set(rstdiag_session *session, int32_t option, const char *value)
{
    return rstdiag_session_option(session, option, (const uint8_t *)value, strlen(value));
}

/* Whether a text that the session wrote holds a word. */
static bool
holds(const uint8_t *text, size_t len, const char *word)
{
    size_t word_len = strlen(word);
    for (size_t i = 0; i + word_len <= len; i++)
        if (memcmp(text + i, word, word_len) == 0)
            return true;
    return false;
}

/* ---- Shapes and names -------------------------------------------------------------------- */

TEST(shapes_have_no_hidden_padding)
{
    CHECK(sizeof(rstdiag_address) == 20);
    CHECK(sizeof(rstdiag_bytes) == sizeof(void *) + 8);
    CHECK(sizeof(rstdiag_segment) == 4 * 4 + 8 + 2 * 20 + 4 * 4 + 3 * sizeof(void *));
    CHECK(sizeof(rstdiag_frame) == 8);
    CHECK(sizeof(rstdiag_value) == 4 + 4 + 8 + 4 + 4);
    return NULL;
}

TEST(field_identifiers_count_from_zero)
{
    CHECK(RSTDIAG_FIELD_SUMMARY == 0);
    CHECK(RSTDIAG_FIELD_MATCH_RIVALS == RSTDIAG_FIELD_COUNT - 1);
    return NULL;
}

TEST(statuses_have_names)
{
#define STATUS(status)                                                                         \
    {                                                                                          \
        status, #status                                                                        \
    }
    static const struct {
        int32_t status;
        const char *name;
    } names[] = {
        STATUS(RSTDIAG_OK),         STATUS(RSTDIAG_NOT_FOUND), STATUS(RSTDIAG_E_NULL),
        STATUS(RSTDIAG_E_ARGUMENT), STATUS(RSTDIAG_E_ORDER),   STATUS(RSTDIAG_E_LIMIT),
        STATUS(RSTDIAG_E_BUFFER),   STATUS(RSTDIAG_E_HEADER),  STATUS(RSTDIAG_E_PANIC),
        STATUS(RSTDIAG_E_POISONED), STATUS(RSTDIAG_E_THREAD),
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        CHECK(strcmp(rstdiag_status_name(names[i].status), names[i].name) == 0);
    CHECK(strcmp(rstdiag_status_name(2), "unknown") == 0);
    CHECK(strcmp(rstdiag_status_name(INT32_MIN), "unknown") == 0);
    CHECK(strcmp(rstdiag_status_name(INT32_MAX), "unknown") == 0);
    return NULL;
}

TEST(version_is_that_of_the_header)
{
    CHECK(strcmp(rstdiag_version(), RSTDIAG_VERSION) == 0);
    return NULL;
}

/* ---- Misuse ------------------------------------------------------------------------------ */

SESSION_TEST(null_pointers_are_reported)
{
    uint8_t text[8];
    size_t len;
    size_t values_len;
    rstdiag_value values[1];
    rstdiag_frame frame;
    packet packet;
    rstdiag_segment syn = segment(&packet, 1, true, SYN, 100, 0, NULL, 0);

    CHECK(rstdiag_session_new(NULL) == RSTDIAG_E_NULL);
    rstdiag_session_free(NULL);

    CHECK(rstdiag_session_option(NULL, RSTDIAG_OPTION_WINDOW, text, 1) == RSTDIAG_E_NULL);
    CHECK(rstdiag_session_feed(NULL, &syn) == RSTDIAG_E_NULL);
    CHECK(rstdiag_session_frame(NULL, 1, 0, &frame) == RSTDIAG_E_NULL);
    CHECK(rstdiag_session_values(NULL, 1, 0, RSTDIAG_FINAL, NULL, values, 1, &values_len, text,
                                 sizeof text, &len) == RSTDIAG_E_NULL);
    CHECK(rstdiag_session_notice(NULL, 0, RSTDIAG_SO_FAR, text, sizeof text, &len) ==
          RSTDIAG_E_NULL);
    CHECK(rstdiag_session_error(NULL, text, sizeof text, &len) == RSTDIAG_E_NULL);

    CHECK(rstdiag_session_option(session, RSTDIAG_OPTION_WINDOW, NULL, 1) == RSTDIAG_E_NULL);
    CHECK(rstdiag_session_feed(session, NULL) == RSTDIAG_E_NULL);
    CHECK(rstdiag_session_frame(session, 1, 0, NULL) == RSTDIAG_E_NULL);
    CHECK(rstdiag_session_values(session, 1, 0, RSTDIAG_FINAL, NULL, NULL, 1, &values_len, text,
                                 sizeof text, &len) == RSTDIAG_E_NULL);
    CHECK(rstdiag_session_values(session, 1, 0, RSTDIAG_FINAL, NULL, values, 1, NULL, text,
                                 sizeof text, &len) == RSTDIAG_E_NULL);
    CHECK(rstdiag_session_values(session, 1, 0, RSTDIAG_FINAL, NULL, values, 1, &values_len,
                                 NULL, 1, &len) == RSTDIAG_E_NULL);
    CHECK(rstdiag_session_values(session, 1, 0, RSTDIAG_FINAL, NULL, values, 1, &values_len,
                                 text, sizeof text, NULL) == RSTDIAG_E_NULL);
    CHECK(rstdiag_session_notice(session, 0, RSTDIAG_SO_FAR, NULL, 1, &len) == RSTDIAG_E_NULL);
    CHECK(rstdiag_session_notice(session, 0, RSTDIAG_SO_FAR, text, sizeof text, NULL) ==
          RSTDIAG_E_NULL);
    CHECK(rstdiag_session_error(session, NULL, 1, &len) == RSTDIAG_E_NULL);
    CHECK(rstdiag_session_error(session, text, sizeof text, NULL) == RSTDIAG_E_NULL);

    syn.bytes = NULL;
    CHECK(rstdiag_session_feed(session, &syn) == RSTDIAG_E_NULL);
    syn.bytes = packet.tcp;
    syn.ip = NULL;
    CHECK(rstdiag_session_feed(session, &syn) == RSTDIAG_E_NULL);
    return NULL;
}

SESSION_TEST(null_is_fine_where_there_are_no_bytes)
{
    packet packet;
    rstdiag_segment syn = segment(&packet, 1, true, SYN, 100, 0, NULL, 0);
    size_t len = 1;

    CHECK(rstdiag_session_option(session, RSTDIAG_OPTION_ERROR_LOG, NULL, 0) == RSTDIAG_OK);
    CHECK(rstdiag_session_notice(session, 0, RSTDIAG_SO_FAR, NULL, 0, &len) ==
          RSTDIAG_NOT_FOUND);
    CHECK(rstdiag_session_notice(session, 0, RSTDIAG_FINAL, NULL, 0, &len) ==
          RSTDIAG_NOT_FOUND);
    CHECK(rstdiag_session_notice(session, 0, 2, NULL, 0, &len) == RSTDIAG_E_ARGUMENT);
    syn.ip = NULL;
    syn.ip_len = 0;
    CHECK(rstdiag_session_feed(session, &syn) == RSTDIAG_OK);
    return NULL;
}

SESSION_TEST(unknown_numbers_are_refused)
{
    static const int32_t options[] = {INT32_MIN, -1, 0, RSTDIAG_OPTION_NGINX_ADDRESSES + 1,
                                      INT32_MAX};
    static const int32_t times[] = {INT32_MIN, -1, 2, INT32_MAX};
    packet packet;
    rstdiag_segment syn = segment(&packet, 1, true, SYN, 100, 0, NULL, 0);
    size_t values_len;
    size_t text_len;

    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++)
        CHECK(set(session, options[i], "2") == RSTDIAG_E_ARGUMENT);
    CHECK(rstdiag_session_feed(session, &syn) == RSTDIAG_OK);
    for (size_t i = 0; i < sizeof times / sizeof times[0]; i++)
        CHECK(rstdiag_session_values(session, 1, 0, times[i], NULL, NULL, 0, &values_len, NULL,
                                     0, &text_len) == RSTDIAG_E_ARGUMENT);
    syn.frame = 0;
    CHECK(rstdiag_session_feed(session, &syn) == RSTDIAG_E_ARGUMENT);
    syn.frame = 2;
    syn.src.family = 5;
    CHECK(rstdiag_session_feed(session, &syn) == RSTDIAG_E_ARGUMENT);
    return NULL;
}

SESSION_TEST(options_come_before_segments)
{
    CHECK(set(session, RSTDIAG_OPTION_TIME_ZONE, "+08:00") == RSTDIAG_OK);
    CHECK(set(session, RSTDIAG_OPTION_WINDOW, "0.5") == RSTDIAG_OK);
    CHECK(set(session, RSTDIAG_OPTION_CLOCK_OFFSET, "-1.7") == RSTDIAG_OK);
    CHECK(set(session, RSTDIAG_OPTION_CLOCK_OFFSET, "auto") == RSTDIAG_OK);
    CHECK(feed_reset(session) == RSTDIAG_OK);
    CHECK(set(session, RSTDIAG_OPTION_WINDOW, "2") == RSTDIAG_E_ORDER);
    return NULL;
}

SESSION_TEST(bytes_that_are_no_tcp_header_are_refused)
{
    packet packet;
    rstdiag_segment syn = segment(&packet, 1, true, SYN, 100, 0, NULL, 0);
    rstdiag_frame frame;

    syn.bytes_len = 19;
    CHECK(rstdiag_session_feed(session, &syn) == RSTDIAG_E_HEADER);
    syn.bytes = NULL;
    syn.bytes_len = 0;
    CHECK(rstdiag_session_feed(session, &syn) == RSTDIAG_E_HEADER);
    syn.bytes = packet.tcp;
    syn.bytes_len = 20;
    for (int words = 0; words < 5; words++) {
        packet.tcp[12] = (uint8_t)(words << 4);
        CHECK(rstdiag_session_feed(session, &syn) == RSTDIAG_E_HEADER);
    }
    CHECK(rstdiag_session_frame(session, 1, 0, &frame) == RSTDIAG_NOT_FOUND);
    /* Options that the capture cut away are done without. */
    for (int words = 5; words < 16; words++) {
        packet.tcp[12] = (uint8_t)(words << 4);
        CHECK(rstdiag_session_feed(session, &syn) == RSTDIAG_OK);
    }
    return NULL;
}

SESSION_TEST(an_ip_header_that_is_none_is_done_without)
{
    packet packet;
    rstdiag_segment syn = segment(&packet, 1, true, SYN, 100, 0, NULL, 0);
    packet.ip[0] = 0x4f;
    CHECK(rstdiag_session_feed(session, &syn) == RSTDIAG_OK);
    syn.frame = 2;
    syn.ip_len = 1;
    CHECK(rstdiag_session_feed(session, &syn) == RSTDIAG_OK);
    return NULL;
}

SESSION_TEST(decrypted_records_have_to_be_there)
{
    packet packet;
    rstdiag_segment data = segment(&packet, 1, true, ACK, 100, 1, NULL, 0);
    rstdiag_bytes records[2] = {{NULL, 0}, {(const uint8_t *)"GET / HTTP/1.1\r\n", 16}};
    data.decrypted_len = 2;
    CHECK(rstdiag_session_feed(session, &data) == RSTDIAG_E_NULL);
    data.decrypted = records;
    CHECK(rstdiag_session_feed(session, &data) == RSTDIAG_OK);
    records[0].len = 1;
    data.frame = 2;
    CHECK(rstdiag_session_feed(session, &data) == RSTDIAG_E_NULL);
    return NULL;
}

SESSION_TEST(errors_are_told_until_a_call_succeeds)
{
    packet packet;
    rstdiag_segment syn = segment(&packet, 1, true, SYN, 100, 0, NULL, 0);
    uint8_t text[256];
    size_t len = 0;

    CHECK(rstdiag_session_error(session, text, sizeof text, &len) == RSTDIAG_NOT_FOUND);
    CHECK(set(session, 77, "") == RSTDIAG_E_ARGUMENT);
    CHECK(rstdiag_session_error(session, text, sizeof text, &len) == RSTDIAG_OK);
    CHECK(len > 0 && holds(text, len, "77"));

    /* Asking is no call of its own, even where it fails. */
    size_t needed = 0;
    CHECK(rstdiag_session_error(session, text, len - 1, &needed) == RSTDIAG_E_BUFFER);
    CHECK(needed == len);
    CHECK(rstdiag_session_error(session, text, needed, &len) == RSTDIAG_OK);

    CHECK(rstdiag_session_feed(session, &syn) == RSTDIAG_OK);
    CHECK(rstdiag_session_error(session, text, sizeof text, &len) == RSTDIAG_NOT_FOUND);
    return NULL;
}

/* ---- Notices ----------------------------------------------------------------------------- */

SESSION_TEST(a_value_that_is_not_understood_is_a_notice)
{
    static const uint8_t odd[] = "Mars\n\xff";
    uint8_t text[512];
    size_t len = 0;

    CHECK(rstdiag_session_option(session, RSTDIAG_OPTION_TIME_ZONE, odd, sizeof odd - 1) ==
          RSTDIAG_E_ARGUMENT);
    CHECK(rstdiag_session_notice(session, 0, RSTDIAG_SO_FAR, text, sizeof text, &len) ==
          RSTDIAG_OK);
    CHECK(holds(text, len, "time_zone"));
    CHECK(holds(text, len, "Mars\\n\\xff"));
    CHECK(rstdiag_session_notice(session, 1, RSTDIAG_SO_FAR, text, sizeof text, &len) ==
          RSTDIAG_NOT_FOUND);
    CHECK(rstdiag_session_notice(session, SIZE_MAX, RSTDIAG_SO_FAR, text, sizeof text, &len) ==
          RSTDIAG_NOT_FOUND);
    return NULL;
}

SESSION_TEST(a_log_that_cannot_be_read_is_a_notice_and_no_failure)
{
    uint8_t text[512];
    size_t len = 0;

    CHECK(set(session, RSTDIAG_OPTION_ERROR_LOG, "/nowhere/error.log") == RSTDIAG_OK);
    CHECK(rstdiag_session_notice(session, 0, RSTDIAG_SO_FAR, text, sizeof text, &len) ==
          RSTDIAG_NOT_FOUND);
    CHECK(feed_reset(session) == RSTDIAG_OK);
    CHECK(rstdiag_session_notice(session, 0, RSTDIAG_SO_FAR, text, sizeof text, &len) ==
          RSTDIAG_OK);
    CHECK(holds(text, len, "/nowhere/error.log"));
    CHECK(rstdiag_session_notice(session, 1, RSTDIAG_SO_FAR, text, sizeof text, &len) ==
          RSTDIAG_NOT_FOUND);
    return NULL;
}

SESSION_TEST(a_notice_needs_room)
{
    uint8_t text[512];
    size_t needed = 0;
    size_t len = 0;

    CHECK(set(session, RSTDIAG_OPTION_TIME_ZONE, "Mars") == RSTDIAG_E_ARGUMENT);
    CHECK(rstdiag_session_notice(session, 0, RSTDIAG_SO_FAR, NULL, 0, &needed) ==
          RSTDIAG_E_BUFFER);
    CHECK(needed > 0 && needed < sizeof text);
    memset(text, '#', sizeof text);
    CHECK(rstdiag_session_notice(session, 0, RSTDIAG_SO_FAR, text, needed - 1, &len) ==
          RSTDIAG_E_BUFFER);
    CHECK(len == needed && text[0] == '#');
    CHECK(rstdiag_session_notice(session, 0, RSTDIAG_SO_FAR, text, needed, &len) == RSTDIAG_OK);
    CHECK(len == needed && text[0] != '#' && text[needed] == '#');
    return NULL;
}

SESSION_TEST(notices_are_bounded)
{
    uint8_t text[512];
    size_t len = 0;
    size_t index = 0;

    for (int i = 0; i < 1000; i++)
        CHECK(set(session, RSTDIAG_OPTION_TIME_ZONE, "Mars") == RSTDIAG_E_ARGUMENT);
    while (rstdiag_session_notice(session, index, RSTDIAG_SO_FAR, text, sizeof text, &len) ==
           RSTDIAG_OK)
        index++;
    CHECK(index > 0 && index < 1000);
    return NULL;
}

/* ---- Frames and verdicts ----------------------------------------------------------------- */

SESSION_TEST(a_report_comes_in_parts)
{
    size_t parts = 0;
    size_t len = 0;
    uint8_t text[4096];
    CHECK(rstdiag_session_report_part(session, 0, text, sizeof text, &len) ==
          RSTDIAG_NOT_FOUND);
    CHECK(rstdiag_session_report(NULL, &parts) == RSTDIAG_E_NULL);
    CHECK(rstdiag_session_report(session, NULL) == RSTDIAG_E_NULL);
    CHECK(rstdiag_session_report(session, &parts) == RSTDIAG_OK && parts > 0);
    CHECK(feed_reset(session) == RSTDIAG_OK);
    size_t before = parts;
    CHECK(rstdiag_session_report(session, &parts) == RSTDIAG_OK && parts > before);
    CHECK(rstdiag_session_report_part(session, 0, NULL, 0, &len) == RSTDIAG_E_BUFFER);
    CHECK(rstdiag_session_report_part(session, 0, text, sizeof text, NULL) == RSTDIAG_E_NULL);
    bool found = false;
    for (size_t part = 0; part < parts; part++) {
        CHECK(rstdiag_session_report_part(session, part, text, sizeof text - 1, &len) ==
              RSTDIAG_OK);
        CHECK(len > 0 && text[len - 1] == '\n');
        text[len] = '\0';
        found = found || strstr((const char *)text, "frame 5 ") != NULL;
    }
    CHECK(found);
    CHECK(rstdiag_session_report_part(session, parts, text, sizeof text, &len) ==
          RSTDIAG_NOT_FOUND);
    return NULL;
}

SESSION_TEST(frames_that_were_not_fed_are_not_found)
{
    rstdiag_frame frame = {77, 77};
    rstdiag_value value;
    size_t values_len = 77;
    size_t text_len = 77;
    uint8_t text[1];

    CHECK(feed_reset(session) == RSTDIAG_OK);
    for (uint32_t at = 0; at < 4; at++) {
        static const uint32_t where[4][2] = {{0, 0}, {6, 0}, {1, 1}, {UINT32_MAX, UINT32_MAX}};
        CHECK(rstdiag_session_frame(session, where[at][0], where[at][1], &frame) ==
              RSTDIAG_NOT_FOUND);
        CHECK(rstdiag_session_values(session, where[at][0], where[at][1], RSTDIAG_FINAL, NULL,
                                     &value, 1, &values_len, text, 1,
                                     &text_len) == RSTDIAG_NOT_FOUND);
    }
    /* Nothing is written but on success. */
    CHECK(frame.stream == 77 && frame.flags == 77 && values_len == 77 && text_len == 77);
    return NULL;
}

SESSION_TEST(verdict_of_a_reset)
{
    rstdiag_frame frame;
    static rstdiag_value values[256];
    static uint8_t text[8192];
    size_t values_len = 0;
    size_t text_len = 0;
    uint8_t wanted[RSTDIAG_FIELD_COUNT] = {0};

    CHECK(feed_reset(session) == RSTDIAG_OK);
    for (uint32_t number = 1; number <= 5; number++) {
        CHECK(rstdiag_session_frame(session, number, 0, &frame) == RSTDIAG_OK);
        CHECK(frame.stream == 0);
        CHECK((frame.flags & RSTDIAG_FRAME_CLOSED) != 0);
        CHECK(((frame.flags & RSTDIAG_FRAME_FIRST_RESET) != 0) == (number == 5));
    }

    /* Every field: in order, in one group, with its text within the buffer. */
    CHECK(rstdiag_session_values(session, 1, 0, RSTDIAG_FINAL, NULL, values, 256, &values_len,
                                 text, sizeof text, &text_len) == RSTDIAG_OK);
    CHECK(values_len > 0 && values_len <= 256 && text_len > 0 && text_len <= sizeof text);
    for (size_t i = 0; i < values_len; i++) {
        CHECK(values[i].field < RSTDIAG_FIELD_COUNT);
        CHECK(values[i].group == 0);
        CHECK(i == 0 || values[i - 1].field <= values[i].field);
        CHECK((size_t)values[i].text_offset + values[i].text_len <= text_len);
    }
    CHECK(values[0].field == RSTDIAG_FIELD_SUMMARY);

    /* Only the wanted one. */
    wanted[RSTDIAG_FIELD_PHASE] = 1;
    CHECK(rstdiag_session_values(session, 5, 0, RSTDIAG_SO_FAR, wanted, values, 256,
                                 &values_len, text, sizeof text, &text_len) == RSTDIAG_OK);
    CHECK(values_len == 1 && values[0].field == RSTDIAG_FIELD_PHASE);
    CHECK(text_len == strlen("awaiting_response"));
    CHECK(memcmp(text, "awaiting_response", text_len) == 0);

    /* None. */
    memset(wanted, 0, sizeof wanted);
    CHECK(rstdiag_session_values(session, 5, 0, RSTDIAG_FINAL, wanted, NULL, 0, &values_len,
                                 NULL, 0, &text_len) == RSTDIAG_OK);
    CHECK(values_len == 0 && text_len == 0);

    /* Too little room: both lengths are told, and nothing is written. */
    wanted[RSTDIAG_FIELD_PHASE] = wanted[RSTDIAG_FIELD_RESET_FRAME] = 1;
    memset(text, '#', sizeof text);
    CHECK(rstdiag_session_values(session, 5, 0, RSTDIAG_FINAL, wanted, values, 1, &values_len,
                                 text, sizeof text, &text_len) == RSTDIAG_E_BUFFER);
    CHECK(values_len == 2 && text_len == strlen("awaiting_response") && text[0] == '#');
    CHECK(rstdiag_session_values(session, 5, 0, RSTDIAG_FINAL, wanted, values, 2, &values_len,
                                 text, 1, &text_len) == RSTDIAG_E_BUFFER);
    CHECK(values_len == 2 && text_len == strlen("awaiting_response") && text[0] == '#');
    CHECK(rstdiag_session_values(session, 5, 0, RSTDIAG_FINAL, wanted, values, 2, &values_len,
                                 text, text_len, &text_len) == RSTDIAG_OK);
    CHECK(values[1].field == RSTDIAG_FIELD_RESET_FRAME && values[1].number == 5);
    return NULL;
}

SESSION_TEST(an_earlier_frame_is_refused_and_changes_nothing)
{
    packet packet;
    rstdiag_segment late = segment(&packet, 3, true, ACK, 101, 501, NULL, 0);
    rstdiag_frame before;
    rstdiag_frame after;

    CHECK(feed_reset(session) == RSTDIAG_OK);
    CHECK(rstdiag_session_frame(session, 5, 0, &before) == RSTDIAG_OK);
    CHECK(rstdiag_session_feed(session, &late) == RSTDIAG_E_ORDER);
    CHECK(rstdiag_session_frame(session, 5, 0, &after) == RSTDIAG_OK);
    CHECK(before.stream == after.stream && before.flags == after.flags);
    return NULL;
}
