// SPDX-License-Identifier: GPL-2.0-or-later
//! What nginx logged: byte parsers without I/O, and the tables of what its messages mean.
