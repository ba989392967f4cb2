/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * stats.c - Statistics > Reset Diagnosis, tshark -z rstdiag, and the report.
 *
 * The table has no hook that draws it, so it is right after every frame: a stream moves from
 * row to row as its frames pass by. The host keeps one table for all who look at it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rstdiag_ws.h"

#include <epan/funnel.h>
#include <epan/stat_tap_ui.h>

int rstdiag_tap = -1;

/* ---- The table --------------------------------------------------------------------------- */

#define WORD_MAX 24

/* Rows of the table: 9 phases and none, 2 sides and none, 4 transactions. */
#define GROUPS_MAX 128

/* Streams with the same words. */
typedef struct group {
    char phase[WORD_MAX];
    char by[WORD_MAX];
    char transaction[WORD_MAX];
    char share[WORD_MAX];
    unsigned streams;
} group;

static struct {
    group groups[GROUPS_MAX];
    unsigned groups_len;
    unsigned streams;
    GHashTable *group_of_stream; /* stream -> group, counted from 1 */
} counts;

/* How text comes out of tshark, whose columns are as wide as their values. */
static stat_tap_table_item columns[] = {
    {TABLE_ITEM_STRING, TAP_ALIGN_LEFT, "Phase            ", "%-17s"},
    {TABLE_ITEM_STRING, TAP_ALIGN_LEFT, "By    ", "%-6s"},
    {TABLE_ITEM_STRING, TAP_ALIGN_LEFT, "Transaction", "%-11s"},
    {TABLE_ITEM_UINT, TAP_ALIGN_RIGHT, "Streams ", "%8u"},
    {TABLE_ITEM_STRING, TAP_ALIGN_RIGHT, "Share  ", "%7s"},
};

static group *
find_group(const rstdiag_counted *counted)
{
    for (unsigned index = 0; index < counts.groups_len; index++) {
        group *known = &counts.groups[index];
        if (strcmp(known->phase, counted->phase) == 0 && strcmp(known->by, counted->by) == 0 &&
            strcmp(known->transaction, counted->transaction) == 0)
            return known;
    }
    if (counts.groups_len == GROUPS_MAX)
        return NULL;
    group *added = &counts.groups[counts.groups_len++];
    memset(added, 0, sizeof *added);
    g_strlcpy(added->phase, counted->phase, sizeof added->phase);
    g_strlcpy(added->by, counted->by, sizeof added->by);
    g_strlcpy(added->transaction, counted->transaction, sizeof added->transaction);
    return added;
}

/* Resets first, then the most frequent first. */
static int
compare(const void *one, const void *other)
{
    const group *a = *(const group *const *)one;
    const group *b = *(const group *const *)other;
    if ((a->phase[0] == '\0') != (b->phase[0] == '\0'))
        return a->phase[0] == '\0' ? 1 : -1;
    if (a->streams != b->streams)
        return a->streams < b->streams ? 1 : -1;
    int order = strcmp(a->phase, b->phase);
    order = order != 0 ? order : strcmp(a->by, b->by);
    return order != 0 ? order : strcmp(a->transaction, b->transaction);
}

static void
show_row(stat_tap_table *table, unsigned row, group *shown)
{
    static const char none[] = "-";
    stat_tap_table_item_type cells[array_length(columns)];
    memset(cells, 0, sizeof cells);
    for (size_t column = 0; column < array_length(columns); column++)
        cells[column].type = columns[column].type;
    snprintf(shown->share, sizeof shown->share, "%.1f %%",
             100.0 * shown->streams / counts.streams);
    cells[0].value.string_value = shown->phase[0] != '\0' ? shown->phase : "no reset";
    cells[1].value.string_value = shown->by[0] != '\0' ? shown->by : none;
    cells[2].value.string_value = shown->transaction;
    cells[3].value.uint_value = shown->streams;
    cells[4].value.string_value = shown->share;
    stat_tap_init_table_row(table, row, array_length(columns), cells);
}

/* The host only adds rows, and prints an empty one as an empty line. */
static void
cut_table(stat_tap_table *table, unsigned rows)
{
    while (table->num_elements > rows)
        g_free(table->elements[--table->num_elements]);
}

static void
show_table(stat_tap_table *table)
{
    group *sorted[GROUPS_MAX];
    unsigned rows = 0;
    for (unsigned index = 0; index < counts.groups_len; index++)
        if (counts.groups[index].streams > 0)
            sorted[rows++] = &counts.groups[index];
    qsort(sorted, rows, sizeof *sorted, compare);
    for (unsigned row = 0; row < rows; row++)
        show_row(table, row, sorted[row]);
    cut_table(table, rows);
}

static tap_packet_status
count_frame(void *tapdata, packet_info *pinfo _U_, epan_dissect_t *edt _U_, const void *data,
            tap_flags_t flags _U_)
{
    const stat_data_t *stat = tapdata;
    const rstdiag_counted *counted = data;
    group *now = find_group(counted);
    void *stream = GUINT_TO_POINTER(counted->stream);
    unsigned before = GPOINTER_TO_UINT(g_hash_table_lookup(counts.group_of_stream, stream));
    if (now == NULL || before == now - counts.groups + 1)
        return TAP_PACKET_DONT_REDRAW;
    if (before > 0)
        counts.groups[before - 1].streams--;
    else
        counts.streams++;
    now->streams++;
    g_hash_table_insert(counts.group_of_stream, stream,
                        GUINT_TO_POINTER((unsigned)(now - counts.groups + 1)));
    show_table(g_array_index(stat->stat_tap_data->tables, stat_tap_table *, 0));
    return TAP_PACKET_REDRAW;
}

static void
reset_table(stat_tap_table *table)
{
    if (counts.group_of_stream != NULL)
        g_hash_table_remove_all(counts.group_of_stream);
    counts.groups_len = 0;
    counts.streams = 0;
    cut_table(table, 0);
}

static void
init_table(stat_tap_table_ui *ui)
{
    static const char title[] = "TCP streams";
    if (counts.group_of_stream == NULL)
        counts.group_of_stream = g_hash_table_new(g_direct_hash, g_direct_equal);
    if (stat_tap_find_table(ui, title) != NULL)
        return;
    stat_tap_table *table = stat_tap_init_table(title, array_length(columns), 0, NULL);
    /* What was counted for a table that is gone is none of its. */
    reset_table(table);
    stat_tap_add_table(ui, table);
}

static void
register_table(void)
{
    static tap_param parameters[] = {
        {PARAM_FILTER, "filter", "Filter", NULL, true},
    };
    static stat_tap_table_ui table = {
        .group = REGISTER_PACKET_STAT_GROUP_UNSORTED,
        .title = "Reset Diagnosis",
        .tap_name = "rstdiag",
        .cli_string = "rstdiag",
        .stat_tap_init_cb = init_table,
        .packet_func = count_frame,
        .stat_tap_reset_table_cb = reset_table,
        .nfields = array_length(columns),
        .fields = columns,
        .nparams = array_length(parameters),
        .params = parameters,
    };
    register_stat_tap_table_ui(&table);
}

/* ---- The report -------------------------------------------------------------------------- */

typedef void (*write_part)(void *to, const char *text, size_t len);

/* Works the report out and writes it part by part. */
static void
write_report(write_part write, void *to)
{
    rstdiag_session *session = rstdiag_usable_session();
    size_t parts = 0;
    if (session == NULL || rstdiag_session_report(session, &parts) != RSTDIAG_OK)
        return;
    for (size_t index = 0; index < parts; index++) {
        size_t len = 0;
        const char *text = rstdiag_present_report_part(session, index, &len);
        if (text == NULL)
            return;
        write(to, text, len);
    }
}

static void
write_to_file(void *to, const char *text, size_t len)
{
    fwrite(text, 1, len, to);
}

static void
append_to_string(void *to, const char *text, size_t len)
{
    g_string_append_len(to, text, (gssize)len);
}

static void
print_report(void *tapdata _U_)
{
    write_report(write_to_file, stdout);
}

/* tshark -z rstdiag,report. The tap is never queued: only its end matters. */
#if WS_VERSION(4, 6)
static bool
#else
static void
#endif
begin_report(const char *argument _U_, void *data _U_)
{
    GString *why = register_tap_listener("rstdiag_report", &rstdiag_tap, NULL,
                                         TL_REQUIRES_NOTHING, NULL, NULL, print_report, NULL);
    if (why != NULL) {
        rstdiag_tell(why->str);
        g_string_free(why, TRUE);
    }
#if WS_VERSION(4, 6)
    return why == NULL;
#endif
}

/* Statistics > Reset Diagnosis Report. */
static void
show_report(void *data _U_)
{
    const funnel_ops_t *ops = funnel_get_funnel_ops();
    if (ops == NULL || ops->new_text_window == NULL || ops->set_text == NULL)
        return;
    GString *text = g_string_new(NULL);
    write_report(append_to_string, text);
    funnel_text_window_t *window = ops->new_text_window(ops->ops_id, "Reset Diagnosis Report");
    ops->set_text(window, text->str);
    g_string_free(text, TRUE);
}

static void
register_report(void)
{
    static stat_tap_ui report = {
        .group = REGISTER_PACKET_STAT_GROUP_UNSORTED,
        .cli_string = "rstdiag,report",
        .tap_init_cb = begin_report,
    };
    register_tap("rstdiag_report");
    register_stat_tap_ui(&report, NULL);
    funnel_register_menu("Reset Diagnosis Report", REGISTER_PACKET_STAT_GROUP_UNSORTED,
                         show_report, NULL, NULL, FALSE);
}

void
rstdiag_stats_register(void)
{
    rstdiag_tap = register_tap("rstdiag");
    register_table();
    register_report();
}
