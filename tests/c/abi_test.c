/* SPDX-License-Identifier: GPL-2.0-or-later */
const char *abi_dummy(void);
const char *abi_dummy(void) { return 0; }
