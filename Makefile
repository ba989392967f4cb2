# SPDX-License-Identifier: GPL-2.0-or-later
#
# Commands for people. CI calls the same ones: .ci/run does what `make test` does.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c

CARGO ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)
PLUGIN := $(TARGET)/release/librstdiag.so
SAMPLE := tests/data/sample

# The folder that Wireshark's version names, and the folders that it searches: as root only the
# global ones.
SERIES = $(shell pkg-config --modversion wireshark | cut -d. -f1,2)
ROOT := $(filter 0,$(shell id -u))
GLOBAL_PLUGINS = $(dir $(shell pkg-config --variable=plugindir wireshark))
PERSONAL_PLUGINS = $(HOME)/.local/lib/wireshark/plugins
PLUGIN_DIR ?= $(if $(ROOT),$(GLOBAL_PLUGINS),$(PERSONAL_PLUGINS))
INSTALLED = $(DESTDIR)$(patsubst %/,%,$(PLUGIN_DIR))/$(SERIES)/epan/rstdiag.so
CONFIG_DIR = $(or $(XDG_CONFIG_HOME),$(HOME)/.config)/wireshark
PROFILE_DIR ?= $(if $(ROOT),/usr/share/wireshark,$(CONFIG_DIR))/profiles
PROFILE = $(DESTDIR)$(PROFILE_DIR)/rstdiag

.PHONY: help build demo test install uninstall bench storm package gui screenshot deps deps-test

help:
	@echo 'make demo        install what is missing, build, install, explain the bundled capture'
	@echo 'make test        install what the tests need, and run all of them'
	@echo 'make install     build and install [PLUGIN_DIR=DIR] [PROFILE_DIR=DIR] [DESTDIR=DIR]'
	@echo 'make uninstall   remove what install installed'
	@echo 'make gui         open the bundled capture in Wireshark'
	@echo 'make bench       what the plugin costs, as ratios'
	@echo 'make storm       a storm of resets through a real nginx: how many entries find their stream'
	@echo 'make package     an archive with the built plugin, its profile and its manual'
	@echo 'make screenshot  take the README picture again'

build: deps
	$(CARGO) build --release --locked

deps:
	@tests/deps.sh build

deps-test:
	@tests/deps.sh build test gui

demo: install
	@tests/demo.sh $(SAMPLE)

test: deps-test
	tests/check.sh

install: build
	install -D -m 644 $(PLUGIN) $(INSTALLED)
	install -d $(PROFILE)
	install -m 644 wireshark/profile/* $(PROFILE)
	@echo 'installed $(INSTALLED)'
	@echo 'installed the profile $(PROFILE)'

uninstall:
	rm -f $(INSTALLED)
	rm -rf $(PROFILE)

bench: deps-test
	$(CARGO) build --release --locked
	$(CARGO) bench --locked --bench cost

storm: deps-test
	RSTDIAG_STORM=24000 $(CARGO) test --locked --release --no-default-features --test storm -- --nocapture

package: build
	tests/package.sh $(PLUGIN) $(SERIES)

gui: install
	wireshark -C rstdiag -o rstdiag.error_log:$(abspath $(SAMPLE))/error.log \
	  -o rstdiag.time_zone:UTC $(SAMPLE)/sample.pcap

screenshot: build
	@tests/deps.sh gui
	tests/gui/screenshot.sh $(PLUGIN) $(SERIES) docs/wireshark.png
