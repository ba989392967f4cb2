/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * register.c - protocol, fields and preferences of rstdiag, and the life of its session.
 */
#include <stdio.h>
#include <string.h>

#include "rstdiag_ws.h"

int rstdiag_proto = -1;
int rstdiag_hf[RSTDIAG_FIELD_COUNT];
int rstdiag_ett = -1;
int rstdiag_ett_log = -1;
expert_field rstdiag_ei_harmless = EI_INIT;
expert_field rstdiag_ei_warning = EI_INIT;
expert_field rstdiag_ei_failure = EI_INIT;
expert_field rstdiag_ei_notice = EI_INIT;
expert_field rstdiag_ei_defect = EI_INIT;

static const char *pref_error_log = "";
static const char *pref_access_log = "";
static const char *pref_access_log_format = "combined";
static const char *pref_time_zone = "auto";
static const char *pref_clock_offset = "auto";
static unsigned pref_window = 2;
static const char *pref_nginx_addresses = "";

/* The analysis of the capture that is open. */
static struct {
    rstdiag_session *session;
    uint32_t first_frame;  /* the first one that was fed, which bears the notices; 0 for none */
    size_t notices_told;   /* how many notices went to the log */
    uint32_t failed_frame; /* where a call failed that should not have; 0 for nowhere */
    char failure[256];     /* why */
    bool quiet;            /* the session is of no use any more */
} state;

rstdiag_session *
rstdiag_usable_session(void)
{
    return state.quiet ? NULL : state.session;
}

/* Keeps the first failure that is no fault of the capture; it is shown on its frame alone. */
static void
note_failure(int32_t status, uint32_t frame)
{
    if (status == RSTDIAG_E_PANIC || status == RSTDIAG_E_POISONED || status == RSTDIAG_E_THREAD)
        state.quiet = true;
    if (state.failed_frame != 0)
        return;
    state.failed_frame = frame;
    uint8_t why[sizeof state.failure / 2];
    size_t why_len = 0;
    if (rstdiag_session_error(state.session, why, sizeof why, &why_len) == RSTDIAG_OK)
        snprintf(state.failure, sizeof state.failure, "the analysis is not complete: %.*s",
                 (int)why_len, (const char *)why);
    else
        snprintf(state.failure, sizeof state.failure,
                 "the analysis ended here, by a defect of rstdiag %s (%s); please report it",
                 rstdiag_version(), rstdiag_status_name(status));
    rstdiag_tell(state.failure);
}

/* Feeds the segments of a frame that is dissected for the first time; returns their number, and
 * whether one of them is a RST. */
static uint32_t
collect(packet_info *pinfo, proto_tree *tree, bool *has_reset)
{
    rstdiag_layers layers;
    if (!rstdiag_extract_layers(pinfo, tree, &layers))
        return 0;
    uint32_t fed = 0;
    for (unsigned index = 0; index < layers.streams->len && !state.quiet; index++) {
        rstdiag_segment segment;
        if (!rstdiag_extract(&layers, index, pinfo, &segment))
            continue;
        if (layers.has_tls && index + 1 == layers.streams->len)
            rstdiag_extract_decrypted(pinfo, &segment);
        /* Numbered as they are taken, so that they can be asked for until one is missing. */
        segment.layer = fed;
        int32_t status = rstdiag_session_feed(state.session, &segment);
        if (status == RSTDIAG_OK) {
            fed++;
            *has_reset |= rstdiag_is_reset(&segment);
        } else if (status != RSTDIAG_E_ORDER && status != RSTDIAG_E_HEADER)
            /* Those two are the capture's: a read filter restarts frame numbers, and a frame
             * can be cut within its header. */
            note_failure(status, pinfo->num);
    }
    if (fed > 0 && state.first_frame == 0) {
        state.first_frame = pinfo->num;
        state.notices_told =
            rstdiag_tell_notices(state.session, state.notices_told, RSTDIAG_SO_FAR);
    }
    return fed;
}

static int
dissect_rstdiag(tvbuff_t *tvb, packet_info *pinfo, proto_tree *tree, void *data _U_)
{
    if (state.session == NULL)
        return 0;
    /* On a later visit, the session knows how many there are. */
    uint32_t segments = UINT32_MAX;
    if (!state.quiet && !pinfo->fd->visited) {
        bool has_reset = false;
        segments = collect(pinfo, tree, &has_reset);
        /* The session puts off what nobody asks about. A RST counts in any case. */
        if (!has_reset && !rstdiag_is_looked_at(tree) && pinfo->num != state.first_frame)
            segments = 0;
    }
    if (!state.quiet && segments > 0) {
        int32_t status = rstdiag_present(state.session, tvb, pinfo, tree, segments);
        if (status == RSTDIAG_OK && pinfo->num == state.first_frame)
            status = rstdiag_present_notices(state.session, pinfo, tree);
        if (status != RSTDIAG_OK)
            note_failure(status, pinfo->num);
    }
    if (pinfo->num == state.failed_frame)
        expert_add_info_format(pinfo, tree, &rstdiag_ei_defect, "%s", state.failure);
    /* Nothing of the packet is ours: with 0, frame.protocols stays as it is. */
    return 0;
}

static void
end_session(void)
{
    /* Whether a log is of the time of the capture is known only now. */
    if (!state.quiet && state.first_frame != 0)
        (void)rstdiag_tell_notices(state.session, state.notices_told, RSTDIAG_FINAL);
    rstdiag_session_free(state.session);
    memset(&state, 0, sizeof state);
    rstdiag_present_cleanup();
}

static void
set_option(int32_t option, const char *value)
{
    /* What is not understood becomes a notice. */
    (void)rstdiag_session_option(state.session, option, (const uint8_t *)value, strlen(value));
}

static void
begin_session(void)
{
    end_session();
    if (rstdiag_session_new(&state.session) != RSTDIAG_OK)
        return;
    char window[16];
    snprintf(window, sizeof window, "%u", pref_window);
    set_option(RSTDIAG_OPTION_TIME_ZONE, pref_time_zone);
    set_option(RSTDIAG_OPTION_CLOCK_OFFSET, pref_clock_offset);
    set_option(RSTDIAG_OPTION_WINDOW, window);
    set_option(RSTDIAG_OPTION_NGINX_ADDRESSES, pref_nginx_addresses);
    set_option(RSTDIAG_OPTION_ERROR_LOG, pref_error_log);
    set_option(RSTDIAG_OPTION_ACCESS_LOG, pref_access_log);
    set_option(RSTDIAG_OPTION_ACCESS_LOG_FORMAT, pref_access_log_format);
    state.notices_told = rstdiag_tell_notices(state.session, 0, RSTDIAG_SO_FAR);
}

static void
register_preferences(void)
{
    module_t *module = prefs_register_protocol(rstdiag_proto, NULL);
    prefs_register_filename_preference(
        module, "error_log", "nginx error log",
        "Error log of the nginx that is in the capture: a file, a directory, or a pattern such "
        "as /var/log/nginx/*error*; plain, gzip or zstd. Leave it empty to do without.",
        &pref_error_log, false);
    prefs_register_filename_preference(
        module, "access_log", "nginx access log",
        "Access log of the same nginx, in the same ways. Its entries tell the client's port and "
        "the status of requests that the error log is about.",
        &pref_access_log, false);
    prefs_register_string_preference(
        module, "access_log_format", "Format of the access log",
        "The log_format of nginx.conf as it stands there, or combined, main or json. Best with "
        "$connection, $remote_port and $msec.",
        &pref_access_log_format);
    prefs_register_string_preference(
        module, "time_zone", "Time zone of the log",
        "Zone of the log's times: auto, local, UTC, an offset such as +08:00, or a name such "
        "as Asia/Shanghai. With auto, log and capture tell it.",
        &pref_time_zone);
    prefs_register_string_preference(
        module, "clock_offset", "Clock offset (seconds)",
        "Seconds to add to the log's times: a number, or auto, with which log and capture tell "
        "it.",
        &pref_clock_offset);
    prefs_register_uint_preference(
        module, "window", "Window (seconds)",
        "Seconds that a log entry and its packet may lie apart, beyond the log's own "
        "resolution of one second.",
        10, &pref_window);
    prefs_register_string_preference(
        module, "nginx_addresses", "Addresses of nginx",
        "Addresses or networks of the host that nginx runs on, separated by commas or spaces, "
        "such as 10.0.0.1, 192.168.0.0/24. They tell its connections to clients from those to "
        "upstreams. Leave it empty where the capture tells.",
        &pref_nginx_addresses);
}

/* Type, display and strings of a field, by its type in RSTDIAG_FIELDS. */
#define HF_STRING FT_STRING, BASE_NONE, NULL
#define HF_UNSIGNED FT_UINT64, BASE_DEC, NULL
#define HF_BOOLEAN FT_BOOLEAN, BASE_NONE, NULL
#define HF_FRAME FT_FRAMENUM, BASE_NONE, FRAMENUM_TYPE(FT_FRAMENUM_NONE)
#define HF_DURATION FT_RELATIVE_TIME, BASE_NONE, NULL
#define HF_INSTANT FT_ABSOLUTE_TIME, ABSOLUTE_TIME_LOCAL, NULL

#define HF_ROW(id, name, type, title, meaning)                                                 \
    {&rstdiag_hf[RSTDIAG_FIELD_##id], {title, name, HF_##type, 0, meaning, HFILL}},

static void
register_protocol(void)
{
    static hf_register_info hf[] = {RSTDIAG_FIELDS(HF_ROW)};
    static int *ett[] = {&rstdiag_ett, &rstdiag_ett_log};
    static ei_register_info ei[] = {
        {&rstdiag_ei_harmless,
         {"rstdiag.reset.harmless", PI_SEQUENCE, PI_NOTE, "Harmless reset", EXPFILL}},
        {&rstdiag_ei_warning,
         {"rstdiag.reset.warning", PI_SEQUENCE, PI_WARN, "Reset, nothing known to be lost",
          EXPFILL}},
        {&rstdiag_ei_failure,
         {"rstdiag.reset.failure", PI_SEQUENCE, PI_ERROR,
          "Reset that lost a request, a response or other data", EXPFILL}},
        {&rstdiag_ei_notice,
         {"rstdiag.notice", PI_ASSUMPTION, PI_WARN, "A setting or log cannot be used",
          EXPFILL}},
        {&rstdiag_ei_defect,
         {"rstdiag.defect", PI_DEBUG, PI_ERROR, "The analysis is not complete", EXPFILL}},
    };

    rstdiag_proto = proto_register_protocol("Reset Diagnosis", "RSTDIAG", "rstdiag");
    proto_register_field_array(rstdiag_proto, hf, array_length(hf));
    proto_register_subtree_array(ett, array_length(ett));
    expert_register_field_array(expert_register_protocol(rstdiag_proto), ei, array_length(ei));
    register_preferences();
    rstdiag_stats_register();
    register_init_routine(begin_session);
    register_cleanup_routine(end_session);
}

static void
register_handoff(void)
{
    dissector_handle_t handle = create_dissector_handle(dissect_rstdiag, rstdiag_proto);
    register_postdissector(handle);
    rstdiag_extract_want(handle);
}

/* Called by plugin_register, which src/plugin.rs defines. */
void rstdiag_register(void);

void
rstdiag_register(void)
{
    static const proto_plugin plugin = {register_protocol, register_handoff};
    proto_register_plugin(&plugin);
}
