/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rstdiag_ws.h - what the files of the glue share. Private to this directory.
 *
 * register.c  protocol, fields, preferences, the session's life
 * extract.c   the host's tree -> rstdiag_segment
 * present.c   verdicts and notices -> tree items and expert infos
 * stats.c     the statistics and the report
 *
 * Any call of the host may longjmp past us unless its manual says otherwise. So each step ends
 * its reading from the host before it calls Rust, and each call has returned before anything
 * is written to the host.
 */
#ifndef RSTDIAG_WS_H
#define RSTDIAG_WS_H

/* Plugins import the symbols that the host's libraries export. */
#define WS_BUILD_DLL
#define WS_LOG_DOMAIN "rstdiag"

#include <ws_version.h>

#define WS_VERSION(major, minor)                                                               \
    (WIRESHARK_VERSION_MAJOR * 100 + WIRESHARK_VERSION_MINOR >= (major)*100 + (minor))

#if WIRESHARK_VERSION_MAJOR != RSTDIAG_WIRESHARK_MAJOR ||                                      \
    WIRESHARK_VERSION_MINOR != RSTDIAG_WIRESHARK_MINOR
#error "wireshark.pc and the headers are of different versions of Wireshark"
#endif

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <glib.h>

#include <epan/expert.h>
#include <epan/packet.h>
#include <epan/prefs.h>
#include <epan/tap.h>
#include <wsutil/wslog.h>

#include "rstdiag.h"

/* Since 4.2 a field_info points to its value; before, it holds it. */
#if WS_VERSION(4, 2)
#define FI_VALUE(fi) ((fi)->value)
#else
#define FI_VALUE(fi) (&(fi)->value)
#endif

/* Since 4.6 what a data source is called has another name. */
#if WS_VERSION(4, 6)
#define DATA_SOURCE_NAME(source) get_data_source_description(source)
#else
#define DATA_SOURCE_NAME(source) get_data_source_name(source)
#endif

/* ---- register.c -------------------------------------------------------------------------- */

extern int rstdiag_proto;
extern int rstdiag_hf[RSTDIAG_FIELD_COUNT];
extern int rstdiag_ett;
extern int rstdiag_ett_log;
extern expert_field rstdiag_ei_harmless;
extern expert_field rstdiag_ei_warning;
extern expert_field rstdiag_ei_failure;
extern expert_field rstdiag_ei_notice;
extern expert_field rstdiag_ei_defect;

/* The session of the capture that is open; NULL if there is none or it is of no use. */
rstdiag_session *rstdiag_usable_session(void);

/* ---- extract.c --------------------------------------------------------------------------- */

/* The TCP headers of one frame, as the host shows them. */
typedef struct rstdiag_layers {
    const GPtrArray *streams; /* items of tcp.stream */
    unsigned segments;        /* how many of the frame's TCP headers are segments; the others
                                 are quoted, as in ICMP errors */
    bool has_tls;
} rstdiag_layers;

/* Asks the host to keep the field that is read here for the post-dissector. */
void rstdiag_extract_want(dissector_handle_t postdissector);

/* Finds the TCP headers of a frame that is dissected for the first time; false for none. */
bool rstdiag_extract_layers(packet_info *pinfo, proto_tree *tree, rstdiag_layers *layers);

/*
 * Makes a segment of the TCP header at an index of layers->streams; false where it is none.
 * segment->layer is left 0. What it points to belongs to the frame.
 */
bool rstdiag_extract(const rstdiag_layers *layers, unsigned index, packet_info *pinfo,
                     rstdiag_segment *segment);

/* Whether a segment is a RST. */
bool rstdiag_is_reset(const rstdiag_segment *segment);

/* Gives the last segment of a frame the TLS records that the host decrypted in it. */
void rstdiag_extract_decrypted(packet_info *pinfo, rstdiag_segment *segment);

/* ---- present.c --------------------------------------------------------------------------- */

/* Whether anybody looks at more of the plugin than its expert infos. */
bool rstdiag_is_looked_at(proto_tree *tree);

/*
 * Shows what the session knows of a frame's first segments, of all where there are fewer. The
 * same call gives the same items, in any order and however often. Returns RSTDIAG_OK or what
 * failed.
 */
int32_t rstdiag_present(rstdiag_session *session, tvbuff_t *tvb, packet_info *pinfo,
                        proto_tree *tree, uint32_t segments);

/* Adds the session's notices to a frame. Returns RSTDIAG_OK or what failed. */
int32_t rstdiag_present_notices(rstdiag_session *session, packet_info *pinfo, proto_tree *tree);

/* Tells the notices from the index on where there is no frame, and returns their number. when
 * is RSTDIAG_FINAL once the capture has ended. */
size_t rstdiag_tell_notices(rstdiag_session *session, size_t from, int32_t when);

/* Tells a sentence once in the life of the host, however often a capture is dissected. */
void rstdiag_tell(const char *text);

/*
 * Writes one part of the report; valid until the next call of this file, NULL past the last.
 */
const char *rstdiag_present_report_part(rstdiag_session *session, size_t index, size_t *len);

/* Frees what is kept from call to call. */
void rstdiag_present_cleanup(void);

/* ---- stats.c ----------------------------------------------------------------------------- */

/* What the statistics learn of a stream from one of its frames: words of the public interface,
 * empty where there is none. */
typedef struct rstdiag_counted {
    uint32_t stream; /* tcp.stream */
    const char *phase;
    const char *by;
    const char *transaction;
} rstdiag_counted;

/* The tap that gets an rstdiag_counted for each TCP header of each frame. */
extern int rstdiag_tap;

/* Registers tap, statistics and report. */
void rstdiag_stats_register(void);

#endif
