// SPDX-License-Identifier: GPL-2.0-or-later
//! What happened on a TCP connection: segments in, phases and closings out.

pub mod app;
pub mod fastcgi;
pub mod forwarded;
pub mod gateway;
pub mod half;
pub mod hpack;
pub mod http;
pub mod http2;
pub mod order;
pub mod phase;
pub mod proxied;
pub mod segment;
pub mod stream;
pub mod streams;
pub mod talk;
pub mod tls;
pub mod trace;
pub mod waiting;
pub mod websocket;
