/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * present.c - verdicts and notices as tree items and expert infos.
 */
#include <string.h>

#include "rstdiag_ws.h"

/* What the session writes its answers to. Kept from frame to frame, and grown when needed. */
static struct {
    rstdiag_value *values;
    size_t values_cap;
    size_t values_len;
    uint8_t *text;
    size_t text_cap;
    size_t text_len;
} answer;

void
rstdiag_present_cleanup(void)
{
    g_free(answer.values);
    g_free(answer.text);
    memset(&answer, 0, sizeof answer);
}

/* Makes room for what the session said it needs. */
static void
grow(void)
{
    if (answer.values_len > answer.values_cap) {
        answer.values_cap = answer.values_len * 2;
        answer.values = g_renew(rstdiag_value, answer.values, answer.values_cap);
    }
    if (answer.text_len > answer.text_cap) {
        answer.text_cap = answer.text_len * 2;
        answer.text = g_renew(uint8_t, answer.text, answer.text_cap);
    }
}

static int32_t
ask_values(rstdiag_session *session, uint32_t frame, uint32_t layer, int32_t when,
           const uint8_t *wanted)
{
    int32_t status;
    for (unsigned attempt = 0; attempt < 2; attempt++) {
        status = rstdiag_session_values(session, frame, layer, when, wanted, answer.values,
                                        answer.values_cap, &answer.values_len, answer.text,
                                        answer.text_cap, &answer.text_len);
        if (status != RSTDIAG_E_BUFFER)
            break;
        grow();
    }
    return status;
}

static int32_t
ask_notice(rstdiag_session *session, size_t index, int32_t when)
{
    int32_t status;
    for (unsigned attempt = 0; attempt < 2; attempt++) {
        status = rstdiag_session_notice(session, index, when, answer.text, answer.text_cap,
                                        &answer.text_len);
        if (status != RSTDIAG_E_BUFFER)
            break;
        grow();
    }
    return status;
}

/* ---- Values ------------------------------------------------------------------------------ */

/* Text of a value as the host takes it. */
static const char *
text_of(const rstdiag_value *value, wmem_allocator_t *scope)
{
    return wmem_strndup(scope, (const char *)answer.text + value->text_offset, value->text_len);
}

static bool
text_is(const rstdiag_value *value, const char *word)
{
    return value->text_len == strlen(word) &&
           memcmp(answer.text + value->text_offset, word, value->text_len) == 0;
}

static nstime_t
nstime_of(int64_t nanoseconds)
{
    nstime_t time =
        NSTIME_INIT_SECS_NSECS(nanoseconds / 1000000000, (int)(nanoseconds % 1000000000));
    return time;
}

typedef proto_item *(*add_value)(proto_tree *tree, int hf, tvbuff_t *tvb, packet_info *pinfo,
                                 const rstdiag_value *value);

static proto_item *
add_STRING(proto_tree *tree, int hf, tvbuff_t *tvb, packet_info *pinfo,
           const rstdiag_value *value)
{
    return proto_tree_add_string(tree, hf, tvb, 0, 0, text_of(value, pinfo->pool));
}

static proto_item *
add_UNSIGNED(proto_tree *tree, int hf, tvbuff_t *tvb, packet_info *pinfo _U_,
             const rstdiag_value *value)
{
    return proto_tree_add_uint64(tree, hf, tvb, 0, 0, (uint64_t)value->number);
}

static proto_item *
add_BOOLEAN(proto_tree *tree, int hf, tvbuff_t *tvb, packet_info *pinfo _U_,
            const rstdiag_value *value)
{
    return proto_tree_add_boolean(tree, hf, tvb, 0, 0, value->number != 0);
}

static proto_item *
add_FRAME(proto_tree *tree, int hf, tvbuff_t *tvb, packet_info *pinfo _U_,
          const rstdiag_value *value)
{
    return proto_tree_add_uint(tree, hf, tvb, 0, 0, (uint32_t)value->number);
}

static proto_item *
add_DURATION(proto_tree *tree, int hf, tvbuff_t *tvb, packet_info *pinfo _U_,
             const rstdiag_value *value)
{
    nstime_t time = nstime_of(value->number);
    return proto_tree_add_time(tree, hf, tvb, 0, 0, &time);
}

static proto_item *
add_INSTANT(proto_tree *tree, int hf, tvbuff_t *tvb, packet_info *pinfo _U_,
            const rstdiag_value *value)
{
    nstime_t time = nstime_of(value->number);
    if (time.nsecs < 0) {
        /* Before 1970 the fraction still counts forwards. */
        time.secs--;
        time.nsecs += 1000000000;
    }
    return proto_tree_add_time(tree, hf, tvb, 0, 0, &time);
}

#define ADD_ROW(id, name, type, title, meaning) [RSTDIAG_FIELD_##id] = add_##type,

static const add_value add_by_field[RSTDIAG_FIELD_COUNT] = {RSTDIAG_FIELDS(ADD_ROW)};

/* Adds the verdict in the answer to the tree, and returns the item at its top. */
static proto_item *
show_values(tvbuff_t *tvb, packet_info *pinfo, proto_tree *tree)
{
    proto_item *top = proto_tree_add_item(tree, rstdiag_proto, tvb, 0, 0, ENC_NA);
    proto_item_set_generated(top);
    proto_tree *stream_tree = proto_item_add_subtree(top, rstdiag_ett);
    proto_tree *group_tree = stream_tree;
    uint32_t group = 0;
    for (size_t index = 0; index < answer.values_len; index++) {
        const rstdiag_value *value = &answer.values[index];
        if (value->field >= RSTDIAG_FIELD_COUNT)
            continue;
        if (value->group != group) {
            group = value->group;
            group_tree = stream_tree;
        }
        proto_item *item =
            add_by_field[value->field](group_tree, rstdiag_hf[value->field], tvb, pinfo, value);
        proto_item_set_generated(item);
        if (value->field == RSTDIAG_FIELD_SUMMARY)
            proto_item_append_text(top, ": %s", text_of(value, pinfo->pool));
        else if (value->field == RSTDIAG_FIELD_LOG)
            /* The entry comes first in its group; its parts go below it. */
            group_tree = proto_item_add_subtree(item, rstdiag_ett_log);
    }
    return top;
}

/* Adds the expert info of a stream's first RST: the summary, as severe as the verdict says. */
static void
show_reset(packet_info *pinfo, proto_item *item)
{
    const char *summary = "";
    expert_field *severity = &rstdiag_ei_harmless;
    for (size_t index = 0; index < answer.values_len; index++) {
        const rstdiag_value *value = &answer.values[index];
        if (value->field == RSTDIAG_FIELD_SUMMARY)
            summary = text_of(value, pinfo->pool);
        else if (value->field == RSTDIAG_FIELD_SEVERITY && text_is(value, "failure"))
            severity = &rstdiag_ei_failure;
        else if (value->field == RSTDIAG_FIELD_SEVERITY && text_is(value, "warning"))
            severity = &rstdiag_ei_warning;
    }
    expert_add_info_format(pinfo, item, severity, "%s", summary);
}

/* Whether anybody reads the texts of expert infos: a filter, a column, or statistics. */
static bool
is_expert_text_read(proto_tree *tree)
{
    static int proto_expert = -1;
    static int tap_expert = 0;
    if (proto_expert == -1) {
        proto_expert = proto_get_id_by_filter_name("_ws.expert");
        tap_expert = find_tap_id("expert");
    }
    return proto_field_is_referenced(tree, proto_expert) || have_tap_listener(tap_expert);
}

/* The word of a field in the answer, empty if it is not there. */
static const char *
word_of(uint32_t field, wmem_allocator_t *scope)
{
    for (size_t index = 0; index < answer.values_len; index++)
        if (answer.values[index].field == field)
            return text_of(&answer.values[index], scope);
    return "";
}

/* Tells the statistics about the stream of a frame. */
static int32_t
count_layer(rstdiag_session *session, packet_info *pinfo, uint32_t layer, uint32_t stream)
{
    static const uint8_t wanted[RSTDIAG_FIELD_COUNT] = {
        [RSTDIAG_FIELD_PHASE] = 1,
        [RSTDIAG_FIELD_RESET_BY] = 1,
        [RSTDIAG_FIELD_TRANSACTION] = 1,
    };
    int32_t status = ask_values(session, pinfo->num, layer,
                                pinfo->fd->visited ? RSTDIAG_FINAL : RSTDIAG_SO_FAR, wanted);
    if (status != RSTDIAG_OK)
        return status;
    rstdiag_counted *counted = wmem_new(pinfo->pool, rstdiag_counted);
    counted->stream = stream;
    counted->phase = word_of(RSTDIAG_FIELD_PHASE, pinfo->pool);
    counted->by = word_of(RSTDIAG_FIELD_RESET_BY, pinfo->pool);
    counted->transaction = word_of(RSTDIAG_FIELD_TRANSACTION, pinfo->pool);
    tap_queue_packet(rstdiag_tap, pinfo, counted);
    return RSTDIAG_OK;
}

bool
rstdiag_is_looked_at(proto_tree *tree)
{
    return proto_field_is_referenced(tree, rstdiag_proto) || have_tap_listener(rstdiag_tap);
}

static int32_t
present_layer(rstdiag_session *session, tvbuff_t *tvb, packet_info *pinfo, proto_tree *tree,
              uint32_t layer, uint32_t flags)
{
    /* In the first pass a stream is shown once it began to close: before, nothing is decided
     * about it. */
    bool visited = pinfo->fd->visited;
    if (!visited && (flags & RSTDIAG_FRAME_CLOSED) == 0)
        return RSTDIAG_OK;

    /* Expert infos count without a tree too, and come on the first RST. Of everything else only
     * what somebody looks at is worked out. */
    bool first_reset = (flags & RSTDIAG_FRAME_FIRST_RESET) != 0;
    bool looked_at = proto_field_is_referenced(tree, rstdiag_proto);
    if (!first_reset && !looked_at)
        return RSTDIAG_OK;
    uint8_t wanted[RSTDIAG_FIELD_COUNT] = {0};
    for (unsigned field = 0; looked_at && field < RSTDIAG_FIELD_COUNT; field++)
        wanted[field] = proto_field_is_referenced(tree, rstdiag_hf[field]);
    if (first_reset) {
        /* The severity counts in any case, the sentence only where somebody can read it: it
         * takes the log to know, which is dear before all of the capture is. */
        wanted[RSTDIAG_FIELD_SEVERITY] = 1;
        wanted[RSTDIAG_FIELD_SUMMARY] |= is_expert_text_read(tree);
    }

    int32_t status = ask_values(session, pinfo->num, layer,
                                visited ? RSTDIAG_FINAL : RSTDIAG_SO_FAR, wanted);
    if (status == RSTDIAG_NOT_FOUND)
        return RSTDIAG_OK;
    if (status != RSTDIAG_OK)
        return status;
    proto_item *item = show_values(tvb, pinfo, tree);
    if (first_reset)
        show_reset(pinfo, item);
    return RSTDIAG_OK;
}

int32_t
rstdiag_present(rstdiag_session *session, tvbuff_t *tvb, packet_info *pinfo, proto_tree *tree,
                uint32_t segments)
{
    rstdiag_frame known;
    int32_t status = RSTDIAG_OK;
    for (uint32_t layer = 0; layer < segments; layer++) {
        status = rstdiag_session_frame(session, pinfo->num, layer, &known);
        if (status == RSTDIAG_OK && have_tap_listener(rstdiag_tap))
            status = count_layer(session, pinfo, layer, known.stream);
        if (status == RSTDIAG_OK)
            status = present_layer(session, tvb, pinfo, tree, layer, known.flags);
        if (status != RSTDIAG_OK)
            break;
    }
    return status == RSTDIAG_NOT_FOUND ? RSTDIAG_OK : status;
}

/* ---- Report ------------------------------------------------------------------------------ */

const char *
rstdiag_present_report_part(rstdiag_session *session, size_t index, size_t *len)
{
    for (unsigned attempt = 0; attempt < 2; attempt++) {
        int32_t status = rstdiag_session_report_part(session, index, answer.text,
                                                     answer.text_cap, &answer.text_len);
        if (status == RSTDIAG_OK) {
            *len = answer.text_len;
            return (const char *)answer.text;
        }
        if (status != RSTDIAG_E_BUFFER)
            break;
        grow();
    }
    return NULL;
}

/* ---- Notices ----------------------------------------------------------------------------- */

int32_t
rstdiag_present_notices(rstdiag_session *session, packet_info *pinfo, proto_tree *tree)
{
    int32_t when = pinfo->fd->visited ? RSTDIAG_FINAL : RSTDIAG_SO_FAR;
    int32_t status;
    for (size_t index = 0; (status = ask_notice(session, index, when)) == RSTDIAG_OK; index++)
        expert_add_info_format(pinfo, tree, &rstdiag_ei_notice, "%.*s", (int)answer.text_len,
                               (const char *)answer.text);
    return status == RSTDIAG_NOT_FOUND ? RSTDIAG_OK : status;
}

size_t
rstdiag_tell_notices(rstdiag_session *session, size_t from, int32_t when)
{
    size_t index = from;
    for (; ask_notice(session, index, when) == RSTDIAG_OK; index++) {
        char *text = g_strndup((const char *)answer.text, answer.text_len);
        rstdiag_tell(text);
        g_free(text);
    }
    return index;
}

void
rstdiag_tell(const char *text)
{
    static wmem_map_t *told;
    if (told == NULL)
        told = wmem_map_new(wmem_epan_scope(), g_str_hash, g_str_equal);
    if (wmem_map_contains(told, text))
        return;
    char *kept = wmem_strdup(wmem_epan_scope(), text);
    wmem_map_insert(told, kept, kept);
    /* Not ws_warning, which would name a line of ours: the sentence is for the user. */
    ws_log(WS_LOG_DOMAIN, LOG_LEVEL_WARNING, "%s", text);
}
