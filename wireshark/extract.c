/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * extract.c - from the host's tree to rstdiag_segment.
 *
 * The host charges for each field that a post-dissector wants, on every frame. So we want two:
 * tcp.stream, whose item also tells where the TCP header starts, and tcp.len, which only real
 * segments have. The rest is read from the frame's bytes.
 */
#include <string.h>

#include "rstdiag_ws.h"

#define TCP_HEADER_MIN 20
#define IPV4_HEADER_MIN 20
#define IPV4_HEADER_MAX 60
#define IPV6_HEADER 40
#define IP_PROTOCOL_TCP 6

static int hf_tcp_stream = -1;
static int hf_tcp_len = -1;

void
rstdiag_extract_want(dissector_handle_t postdissector)
{
    hf_tcp_stream = proto_registrar_get_id_byname("tcp.stream");
    hf_tcp_len = proto_registrar_get_id_byname("tcp.len");
    if (hf_tcp_stream == -1 || hf_tcp_len == -1)
        return;
    GArray *wanted = g_array_sized_new(FALSE, FALSE, sizeof(int), 2);
    g_array_append_val(wanted, hf_tcp_stream);
    g_array_append_val(wanted, hf_tcp_len);
    set_postdissector_wanted_hfids(postdissector, wanted);
}

bool
rstdiag_extract_layers(proto_tree *tree, rstdiag_layers *layers)
{
    if (tree == NULL || hf_tcp_stream == -1 || hf_tcp_len == -1)
        return false;
    layers->streams = proto_get_finfo_ptr_array(tree, hf_tcp_stream);
    if (layers->streams == NULL)
        return false;
    layers->lengths = proto_get_finfo_ptr_array(tree, hf_tcp_len);
    return layers->lengths != NULL;
}

/*
 * The item of tcp.len that belongs to the same TCP header as an item of tcp.stream. A header
 * that an ICMP error or a sampling protocol quotes has none, so the two arrays can differ.
 */
static const field_info *
length_of(const GPtrArray *lengths, const field_info *stream)
{
    for (unsigned index = 0; index < lengths->len; index++) {
        const field_info *length = g_ptr_array_index(lengths, index);
        if (length->proto_layer_num == stream->proto_layer_num)
            return length;
    }
    return NULL;
}

static uint32_t
number_of(const field_info *fi)
{
    /* Not const in 4.0, which only reads it too. */
    return fvalue_get_uinteger((fvalue_t *)FI_VALUE(fi));
}

static uint32_t
be16(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] << 8 | bytes[1];
}

/* Whether an IPv4 header of this length, which carries this many bytes of TCP, is at ip. */
static bool
is_ipv4(const uint8_t *ip, uint32_t len, uint32_t tcp_len)
{
    /* Cards that cut or join segments leave the length 0. */
    uint32_t total = be16(ip + 2);
    return ip[0] == (0x40 | len / 4) && ip[9] == IP_PROTOCOL_TCP &&
           (total == 0 || total == len + tcp_len);
}

static bool
is_ipv6(const uint8_t *ip, uint32_t tcp_len)
{
    uint32_t payload = be16(ip + 4);
    return ip[0] >> 4 == 6 && ip[6] == IP_PROTOCOL_TCP && (payload == 0 || payload == tcp_len);
}

/*
 * Length of the IP header that ends at tcp, or 0 where none does: after extension headers, or
 * when the TCP header was put together from fragments. before is how many bytes precede it.
 */
static uint32_t
ip_header_before(const uint8_t *tcp, uint32_t before, uint32_t tcp_len)
{
    if (before >= IPV4_HEADER_MIN && is_ipv4(tcp - IPV4_HEADER_MIN, IPV4_HEADER_MIN, tcp_len))
        return IPV4_HEADER_MIN;
    if (before >= IPV6_HEADER && is_ipv6(tcp - IPV6_HEADER, tcp_len))
        return IPV6_HEADER;
    for (uint32_t len = IPV4_HEADER_MIN + 4; len <= MIN(before, IPV4_HEADER_MAX); len += 4)
        if (is_ipv4(tcp - len, len, tcp_len))
            return len;
    return 0;
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
    return CLAMP((int64_t)time->secs, -limit, limit) * 1000000000 + time->nsecs;
}

bool
rstdiag_extract(const rstdiag_layers *layers, unsigned index, packet_info *pinfo,
                rstdiag_segment *segment)
{
    const field_info *stream = g_ptr_array_index(layers->streams, index);
    const field_info *length = length_of(layers->lengths, stream);
    if (length == NULL || stream->ds_tvb == NULL)
        return false;

    /* The item's own length is of no use: on a tree that nobody sees, versions differ. */
    int held = tvb_captured_length_remaining(stream->ds_tvb, stream->start);
    if (stream->start < 0 || held < TCP_HEADER_MIN)
        return false;

    /* Within what was captured, so this does not throw. */
    uint32_t before = MIN((uint32_t)stream->start, IPV4_HEADER_MAX);
    const uint8_t *tcp =
        tvb_get_ptr(stream->ds_tvb, stream->start - (int)before, (int)before + held) + before;
    uint32_t payload_len = number_of(length);
    uint32_t tcp_len = (uint32_t)(tcp[12] >> 4) * 4 + payload_len;
    uint32_t ip_len = ip_header_before(tcp, before, tcp_len);

    memset(segment, 0, sizeof *segment);
    segment->frame = pinfo->num;
    segment->stream = number_of(stream);
    segment->payload_len = payload_len;
    segment->time_ns = nanoseconds(&pinfo->abs_ts);
    segment->bytes = tcp;
    segment->bytes_len = MIN((uint32_t)held, tcp_len);
    if (ip_len > 0) {
        segment->ip = tcp - ip_len;
        segment->ip_len = ip_len;
    } else if (layers->streams->len == 1) {
        /* The host knows the innermost addresses only: with one TCP header, those are its. */
        take_address(&segment->src, &pinfo->net_src);
        take_address(&segment->dst, &pinfo->net_dst);
    }
    return true;
}
