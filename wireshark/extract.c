/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * extract.c - from the host's tree to rstdiag_segment.
 *
 * The host charges for each field that a post-dissector wants, on every frame: about as much
 * as the whole analysis of a segment. So we want one. tcp.stream also tells where the TCP
 * header starts; the rest is read from the frame's bytes.
 */
#include <string.h>

#include "rstdiag_ws.h"

#define TCP_HEADER_MIN 20
#define TCP_FLAGS 13
#define TCP_FLAG_RST 0x04
#define IPV4_HEADER_MIN 20
#define IPV4_HEADER_MAX 60
#define IPV6_HEADER 40
#define IP_PROTOCOL_TCP 6
#define IP_PROTOCOL_FRAGMENT 44
#define IP_PROTOCOL_AH 51

/* Bytes before a TCP header that are looked through for its IP header: more than the longest
 * routing headers in use take. */
#define LOOK_BACK 512

static int hf_tcp_stream = -1;
static int proto_tcp = -1;
static int proto_tls = -1;

/* Protocols that quote headers of other packets. A TCP header behind one is no segment. */
static const char *const quoting_names[] = {"icmp", "icmpv6", "clnp", "sflow"};
static int quoting[array_length(quoting_names)];

void
rstdiag_extract_want(dissector_handle_t postdissector)
{
    hf_tcp_stream = proto_registrar_get_id_byname("tcp.stream");
    proto_tcp = proto_get_id_by_filter_name("tcp");
    proto_tls = proto_get_id_by_filter_name("tls");
    for (size_t index = 0; index < array_length(quoting); index++)
        quoting[index] = proto_get_id_by_filter_name(quoting_names[index]);
    if (hf_tcp_stream == -1)
        return;
    GArray *wanted = g_array_sized_new(FALSE, FALSE, sizeof(int), 1);
    g_array_append_val(wanted, hf_tcp_stream);
    set_postdissector_wanted_hfids(postdissector, wanted);
}

static bool
is_quoting(int proto)
{
    for (size_t index = 0; index < array_length(quoting); index++)
        if (proto == quoting[index])
            return true;
    return false;
}

bool
rstdiag_extract_layers(packet_info *pinfo, proto_tree *tree, rstdiag_layers *layers)
{
    if (tree == NULL || hf_tcp_stream == -1)
        return false;
    layers->streams = proto_get_finfo_ptr_array(tree, hf_tcp_stream);
    if (layers->streams == NULL)
        return false;
    layers->segments = 0;
    layers->has_tls = false;
    for (wmem_list_frame_t *layer = wmem_list_head(pinfo->layers); layer != NULL;
         layer = wmem_list_frame_next(layer)) {
        int proto = GPOINTER_TO_INT(wmem_list_frame_data(layer));
        if (proto == proto_tcp)
            layers->segments++;
        else if (proto == proto_tls)
            layers->has_tls = true;
        else if (is_quoting(proto))
            break;
    }
    return layers->segments > 0;
}

static uint32_t
be16(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] << 8 | bytes[1];
}

/* A TCP header within its frame. */
typedef struct place {
    const uint8_t *tcp;
    uint32_t before;     /* bytes at hand before it */
    uint32_t remaining;  /* bytes of the frame from it on, captured or not */
    const address *from; /* its network source, or NULL where the host does not tell */
} place;

/* The IP header of a TCP header. */
typedef struct network {
    const uint8_t *header; /* NULL where it is not at hand */
    uint32_t header_len;   /* without the extension headers of IPv6 */
    uint32_t tcp_len;      /* TCP header and payload */
} network;

/*
 * Takes the length that an IP header gives to its TCP segment; false where it cannot be. A
 * length of 0 is left by cards that cut or join segments themselves. One that is longer than
 * the frame was cut on the way to the capture, if this is the header that the host has read.
 */
static bool
take_length(const place *place, uint32_t given, uint32_t before_tcp, network *network)
{
    network->tcp_len = given == 0 ? place->remaining : given - before_tcp;
    bool is_read = place->from != NULL;
    return given == 0 || (given >= before_tcp + TCP_HEADER_MIN &&
                          (is_read || network->tcp_len <= place->remaining));
}

static bool
is_from(const place *place, int type, const uint8_t *source, size_t len)
{
    return place->from == NULL || (place->from->type == type && place->from->len == (int)len &&
                                   memcmp(place->from->data, source, len) == 0);
}

/*
 * Whether the headers between an IP header, which names the first of them, and a TCP header
 * lead from the one to the other: extension headers of IPv6, or an authentication header.
 */
static bool
lead_to_tcp(const uint8_t *headers, uint32_t len, uint8_t next)
{
    uint32_t at = 0;
    while (at < len) {
        const uint8_t *header = headers + at; /* all lengths are multiples of 4 */
        if (next == IP_PROTOCOL_AH)
            at += (header[1] + 2u) * 4;
        else if (next == IP_PROTOCOL_FRAGMENT)
            at += 8;
        else
            at += (header[1] + 1u) * 8;
        next = header[0];
    }
    return at == len && next == IP_PROTOCOL_TCP;
}

static bool
take_ipv4(const place *place, uint32_t header_len, uint32_t between, network *network)
{
    if (place->before < header_len + between)
        return false;
    const uint8_t *ip = place->tcp - between - header_len;
    network->header = ip;
    network->header_len = header_len;
    return ip[0] == (0x40 | header_len / 4) &&
           (between == 0 ? ip[9] == IP_PROTOCOL_TCP : ip[9] == IP_PROTOCOL_AH) &&
           lead_to_tcp(place->tcp - between, between, ip[9]) &&
           is_from(place, AT_IPv4, ip + 12, 4) &&
           take_length(place, be16(ip + 2), header_len + between, network);
}

static bool
take_ipv6(const place *place, uint32_t between, network *network)
{
    if (place->before < IPV6_HEADER + between)
        return false;
    const uint8_t *ip = place->tcp - between - IPV6_HEADER;
    network->header = ip;
    network->header_len = IPV6_HEADER;
    return ip[0] >> 4 == 6 && lead_to_tcp(place->tcp - between, between, ip[6]) &&
           is_from(place, AT_IPv6, ip + 8, 16) &&
           take_length(place, be16(ip + 4), between, network);
}

/* Looks for the IP header, the common ones first. */
static network
find_network(const place *place)
{
    network found;
    if (take_ipv4(place, IPV4_HEADER_MIN, 0, &found) || take_ipv6(place, 0, &found))
        return found;
    for (uint32_t len = IPV4_HEADER_MIN + 4; len <= IPV4_HEADER_MAX; len += 4)
        if (take_ipv4(place, len, 0, &found))
            return found;
    for (uint32_t between = 8; between <= place->before; between += 4) {
        if (between % 8 == 0 && take_ipv6(place, between, &found))
            return found;
        for (uint32_t len = IPV4_HEADER_MIN; len <= IPV4_HEADER_MAX; len += 4)
            if (take_ipv4(place, len, between, &found))
                return found;
    }
    /* As when it was put together from fragments: then nothing follows it. */
    return (network){.header = NULL, .tcp_len = place->remaining};
}

static void
take_address(rstdiag_address *to, const address *from)
{
    if (from->type == AT_IPv4 && from->len == 4)
        to->family = 4;
    else if (from->type == AT_IPv6 && from->len == 16)
        to->family = 6;
    else
        return;
    memcpy(to->bytes, from->data, (size_t)from->len);
}

static int64_t
nanoseconds(const nstime_t *time)
{
    /* A damaged capture can hold any number; the year 2262 is as far as nanoseconds reach. */
    const int64_t limit = INT64_MAX / 1000000000 - 1;
    return CLAMP((int64_t)time->secs, -limit, limit) * 1000000000 +
           CLAMP(time->nsecs, -999999999, 999999999);
}

bool
rstdiag_extract(const rstdiag_layers *layers, unsigned index, packet_info *pinfo,
                rstdiag_segment *segment)
{
    const field_info *stream = g_ptr_array_index(layers->streams, index);
    if (stream->ds_tvb == NULL || stream->start < 0 ||
        stream->proto_layer_num > (int)layers->segments)
        return false;
    int held = tvb_captured_length_remaining(stream->ds_tvb, stream->start);
    if (held < TCP_HEADER_MIN)
        return false;

    /* The host tells the innermost addresses only: with one TCP header, those are its. */
    bool addressed = layers->streams->len == 1;
    place place = {
        .before = MIN((uint32_t)stream->start, LOOK_BACK),
        .remaining = (uint32_t)tvb_reported_length_remaining(stream->ds_tvb, stream->start),
        .from = addressed ? &pinfo->net_src : NULL,
    };
    /* Within what was captured, so this does not throw. */
    place.tcp = tvb_get_ptr(stream->ds_tvb, stream->start - (int)place.before,
                            (int)place.before + held) +
                place.before;
    network network = find_network(&place);
    uint32_t header_len = (uint32_t)(place.tcp[12] >> 4) * 4;

    memset(segment, 0, sizeof *segment);
    segment->frame = pinfo->num;
    /* Not const in 4.0, which only reads it too. */
    segment->stream = fvalue_get_uinteger((fvalue_t *)FI_VALUE(stream));
    segment->payload_len = network.tcp_len - MIN(network.tcp_len, header_len);
    segment->time_ns = nanoseconds(&pinfo->abs_ts);
    segment->bytes = place.tcp;
    segment->bytes_len = MIN((uint32_t)held, network.tcp_len);
    if (network.header != NULL) {
        segment->ip = network.header;
        segment->ip_len = network.header_len;
    } else if (addressed) {
        take_address(&segment->src, &pinfo->net_src);
        take_address(&segment->dst, &pinfo->net_dst);
    }
    return true;
}

bool
rstdiag_is_reset(const rstdiag_segment *segment)
{
    return segment->bytes_len >= TCP_HEADER_MIN &&
           (segment->bytes[TCP_FLAGS] & TCP_FLAG_RST) != 0;
}

/* TLS records of one frame that are taken; the largest frame that cards join holds four full
 * ones. */
#define RECORDS_MAX 64

void
rstdiag_extract_decrypted(packet_info *pinfo, rstdiag_segment *segment)
{
    static rstdiag_bytes records[RECORDS_MAX];
    segment->decrypted = records;
    segment->decrypted_len = 0;
    /* The first one is the frame; most frames have no other. */
    for (GSList *item = g_slist_next(pinfo->data_src);
         item != NULL && segment->decrypted_len < RECORDS_MAX; item = g_slist_next(item)) {
        const struct data_source *source = item->data;
        if (!g_str_has_prefix(DATA_SOURCE_NAME(source), "Decrypted TLS"))
            continue;
        tvbuff_t *tvb = get_data_source_tvb(source);
        int len = tvb_captured_length_remaining(tvb, 0);
        if (len <= 0)
            continue;
        rstdiag_bytes *record = &records[segment->decrypted_len++];
        /* All of it is at hand, so this does not throw. */
        record->data = tvb_get_ptr(tvb, 0, len);
        record->len = (uint64_t)len;
    }
}
