# make demo            see a real video being resized by the daemon
# make demo-cluster    the same on three nodes, of which one is killed on the way
# make test            every check there is; of what it installs nothing may be missing (RESIZED_TESTS_NEED, see there)
# make sanitize        the kernels' tests under AddressSanitizer
# make test-arm        the kernels' tests for aarch64, under qemu
# make fuzz            what peers may send, made up: FUZZ=600 seconds for each kind
# make bench           the figures, each beside its yardstick
# make bench-gpu       what a GPU does beside the bus and the cores
# make chaos           all that clients do by mistake or malice, for long; make soak SOAK=1800: streams that come and go
# make bench-ipc       what the daemon costs beside its kernels: the part of make bench that is the service's
# make bench-stills    resizectl resize beside vipsthumbnail and mogrify
# make wheel           the Python package, in target/wheels; make test-wheel, in an environment of its own
# make test-python     its tests, with Debian's Python: a part of make test
# make bench-python    it beside OpenCV and Pillow
# make gstreamer       the GStreamer plugin; make install-gstreamer, as root, below prefix=/usr/local
# make test-gstreamer  its tests, with Debian's GStreamer: a part of make test
# make bench-remote    what it costs to be on another machine
# make install         the service, below prefix=/usr/local; uninstall takes it away again. DESTDIR=... for packages
# make install-library only the library for C of it, for who needs no service: docs/c.md
# make deb             the same as two Debian packages: that of resize-videos takes FFmpeg's libraries
# make test-deb        installs these on a clean Debian in a container, with the service running there; as root, or by sudo
# make bench-kernels   the kernels beside other resizers: zimg, swscale, OpenCV and more
#
# Each installs the system packages that are missing (apt, with sudo when not root).

# make demo VIDEO=path N=2 M=1 SIZE=640x360 OUT=/tmp
# make bench CLIPS="a.mp4 b.mp4"
# make bench-kernels PEERS_PYTHON=venv/bin/python   (one that has numpy, cv2, PIL; others are left out)
# make bench-kernels WORKS=F32                      (those with that in their names: here the tensors)
# make bench-ipc ROWS=tax                           (likewise; and make bench-remote ROWS=jpegs)
# make bench-remote SHARP=folder                    (one where npm installed sharp, which node runs; else left out)
VIDEO ?=
N     ?= 2
M     ?= 1
SIZE  ?= 640x360
OUT   ?= /tmp
CLIPS ?=
WORKS ?=
ROWS  ?=
SHARP ?=

CARGO  ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)
SAMPLE := $(TARGET)/sample.mp4
NATS   := $(TARGET)/tools/nats/usr/sbin
export PATH := $(PATH):$(abspath $(NATS))
# No members of the workspace: their own Cargo.toml say why.
PEERS   := --manifest-path daemon/benches/peers/Cargo.toml
FUZZING := daemon/fuzz bridge/fuzz
PLUGIN  := --manifest-path bindings/gstreamer/Cargo.toml

# gcc, cmake, nasm: libjpeg-turbo, built by its crate. libclang: the bindings to FFmpeg.
# ffmpeg: sample clips, and the yardstick of tests and benchmarks.
PACKAGES := gcc g++ libc6-dev make cmake nasm pkg-config libclang-dev \
            libavcodec-dev libavformat-dev libavutil-dev libswscale-dev ffmpeg
# A GPU made of the CPU, who looks on, and who compiles its shaders; a balancer; a browser; who looks
# on at programs in C; networks of hosts; what the guides' commands need beside; who judges units and
# passes sockets, of a package that starts nothing.
TESTING  := libvulkan1 mesa-vulkan-drivers vulkan-validationlayers glslc haproxy chromium valgrind \
            iproute2 curl openssl systemd
# The plugin's; its tests put it beside GStreamer's own elements.
GSTREAMER := pkg-config libgstreamer1.0-dev libgstreamer-plugins-base1.0-dev
STREAMING := gstreamer1.0-tools gstreamer1.0-plugins-base

SHELL := /bin/bash

# A sample that ffmpeg did not finish is no sample.
.DELETE_ON_ERROR:
.PHONY: installed-wheel demo demo-cluster test seeds test-python test-gstreamer gstreamer install-gstreamer test-wheel test-arm sanitize fuzz chaos soak bench bench-gpu bench-ipc bench-remote bench-stills bench-kernels bench-python build wheel deps test-deps deny shaders pages install install-library writable-settings uninstall deb test-deb

# But for the Python package, which few need: make wheel.
build: deps
	$(CARGO) build --release --workspace --exclude resized-python --locked

deps:
	@examples/install-packages.sh $(PACKAGES)

test-deps: deps $(if $(shell command -v nats-server),,$(NATS)/nats-server)
	@examples/install-packages.sh $(TESTING)

# Not installed: its package would have a server run from now on.
$(NATS)/nats-server: | deps
	@examples/install-packages.sh --unpack $(TARGET)/tools/nats nats-server

demo: build $(if $(VIDEO),,$(SAMPLE))
	@examples/demo.sh "$(TARGET)/release" "$(or $(VIDEO),$(SAMPLE))" -n "$(N)" -m "$(M)" -s "$(SIZE)" -o "$(OUT)"

demo-cluster: N := 4
demo-cluster: build test-deps $(if $(VIDEO),,$(SAMPLE))
	@examples/demo-cluster.sh "$(TARGET)/release" "$(or $(VIDEO),$(SAMPLE))" -n "$(N)" -m "$(M)" -s "$(SIZE)" -o "$(OUT)"

$(SAMPLE): | deps
	@mkdir -p $(@D)
	ffmpeg -v error -y -f lavfi -i testsrc2=size=1280x720:rate=30:duration=20 -c:v libx264 -preset fast -pix_fmt yuv420p $@

# Tests that find no GPU, or whatever it is, say SKIPPED and pass, but fail over what is named here: all of
# that was just installed, so that it was not found is a fault of ours (daemon/tests/common/skip.rs). What not
# every user may do is for who knows that they may: make test NEED="networks mounts cgroup users".
NEED ?=
test: export RESIZED_TESTS_NEED := vulkan import validation glslc systemd-analyze systemd-socket-activate $(NEED)
test: test-deps deny
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	$(CARGO) fmt $(PEERS) --check
	$(CARGO) clippy $(PEERS) --target-dir $(TARGET) --locked -- -D warnings
	@set -ex; for dir in $(FUZZING); do \
		$(CARGO) fmt --manifest-path $$dir/Cargo.toml --check; \
		$(CARGO) clippy --manifest-path $$dir/Cargo.toml --target-dir $(TARGET) --locked -- -D warnings; done
	$(MAKE) --no-print-directory seeds
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --locked
	$(CARGO) test --workspace --locked -- $(TEST_FLAGS)
	$(MAKE) --no-print-directory test-python
	$(MAKE) --no-print-directory test-gstreamer

# The files that fuzzing starts from are what the programs say today, and each is taken by its target: built
# without the fuzzer's switches, that runs what it is given and ends.
seeds: deps
	@set -e; was=$$(mktemp -d); trap 'rm -rf "$$was"' EXIT; for dir in $(FUZZING); do \
		built="--manifest-path $$dir/Cargo.toml --target-dir $(TARGET) --locked"; \
		mkdir -p "$$was/$$dir"; cp -r $$dir/seeds "$$was/$$dir"; \
		(set -x; $(CARGO) build $$built; $(CARGO) run $$built --bin seeds); \
		diff -r "$$was/$$dir/seeds" $$dir/seeds || { echo "seeds are others now: commit them" >&2; exit 1; }; \
		for seeds in $$dir/seeds/*; do \
			(set -x; $(TARGET)/debug/$${seeds##*/} -timeout=60 $$seeds/*) >"$$was/said" 2>&1 \
			|| { cat "$$was/said" >&2; exit 1; }; done; done

# With Debian's packages alone: nothing is fetched from Python's. A module is a library by another name.
PYTHON        ?= $(or $(wildcard /usr/bin/python3),python3)
PYTHON_MODULE := $(TARGET)/python/module
test-python: deps
	@examples/install-packages.sh python3 python3-numpy python3-pytest
	$(CARGO) build --locked -p resized -p resized-python
	@mkdir -p $(PYTHON_MODULE)
	cp $(TARGET)/debug/libresized_python.so $(PYTHON_MODULE)/resized.abi3.so
	RESIZED_PROGRAM=$(abspath $(TARGET))/debug/resized PYTHONPATH=$(abspath $(PYTHON_MODULE)) PYTHONDONTWRITEBYTECODE=1 \
	    $(PYTHON) -m pytest -p no:cacheprovider -rs bindings/python/tests

test-gstreamer: deps
	@examples/install-packages.sh $(GSTREAMER) $(STREAMING)
	$(CARGO) fmt $(PLUGIN) --check
	$(CARGO) clippy $(PLUGIN) --target-dir $(TARGET) --all-targets --locked -- -D warnings
	$(CARGO) test $(PLUGIN) --target-dir $(TARGET) --locked

gstreamer: deps
	@examples/install-packages.sh $(GSTREAMER)
	$(CARGO) build --release $(PLUGIN) --target-dir $(TARGET) --locked

# As it is installed, with what its users have beside it, from PyPI.
VENV   := $(TARGET)/python/venv
WHEELS := $(TARGET)/wheels
wheel: deps $(VENV)/bin/maturin
	rm -f $(WHEELS)/resized-*.whl
	$(VENV)/bin/maturin build --release --locked --manifest-path bindings/python/Cargo.toml --target-dir $(TARGET) --out $(WHEELS)

$(VENV)/bin/maturin:
	@examples/install-packages.sh python3 python3-venv
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet 'maturin>=1.9,<2'

installed-wheel: wheel
	$(VENV)/bin/pip install --quiet --force-reinstall --no-deps $(WHEELS)/resized-*.whl
	$(VENV)/bin/pip install --quiet numpy pytest opencv-python-headless pillow
	$(CARGO) build --release --locked -p resized --bin resized

test-wheel: installed-wheel
	RESIZED_PROGRAM=$(abspath $(TARGET))/release/resized $(VENV)/bin/python -m pytest -p no:cacheprovider -rs bindings/python/tests

bench-python: installed-wheel
	RESIZED_PROGRAM=$(abspath $(TARGET))/release/resized $(VENV)/bin/python bindings/python/bench.py

# One row at a time, optimized: what a neighbour notices is measured. About half an hour.
SOAK ?= 1800
chaos: test-deps
	RESIZED_CHAOS=1 $(CARGO) test --release --locked -p resized --test process -- --test-threads=1 --nocapture \
	    chaos:: restarts:: hostile:: greed:: quotas::

soak: test-deps
	RESIZED_SOAK=$(SOAK) $(CARGO) test --release --locked -p resized --test process -- --nocapture a_soak_of

# AddressSanitizer over the kernels: its library comes with the compiler, its switch is not stable yet.
# Without GPUs: what llvmpipe compiles as it goes is not ours.
sanitize: test-deps
	VK_ICD_FILENAMES=/nowhere VK_DRIVER_FILES=/nowhere RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address $(CARGO) test --target x86_64-unknown-linux-gnu \
	    --target-dir $(TARGET)/sanitize --config profile.dev.package.resized.opt-level=2 \
	    --config profile.dev.package.resized-protocol.opt-level=2 --locked -p resized --lib --test kernels

# Under AddressSanitizer too. What is found lies in target/fuzz/artifacts. Some of the targets: FUZZED=daemon/session. No
# limit of theirs lets a peer have so much allocated at once as FUZZ_MALLOC, in MiB. Leaks are looked for in the end: in between
# threads that are about to end look like some.
FUZZ   ?= 600
FUZZED ?= daemon/codec daemon/session bridge/wire bridge/frames bridge/pictures
FUZZER := $(shell command -v cargo-fuzz || echo $(TARGET)/tools/bin/cargo-fuzz)
FUZZ_MALLOC := 64
fuzz: deps $(FUZZER)
	@set -e; for dir in $(FUZZING); do \
		$(CARGO) run --manifest-path $$dir/Cargo.toml --target-dir $(TARGET) --locked --bin seeds; done
	@set -e; for target in $(FUZZED); do \
		dir=$${target%/*}/fuzz name=$${target#*/}; \
		mkdir -p $(TARGET)/fuzz/{corpus,artifacts}/$$target; \
		RUSTC_BOOTSTRAP=1 $(FUZZER) run --fuzz-dir $$dir --target-dir $(TARGET)/fuzz $$name \
		    $(TARGET)/fuzz/corpus/$$target $$dir/seeds/$$name \
		    -- -max_total_time=$(FUZZ) -timeout=60 -rss_limit_mb=4096 -malloc_limit_mb=$(FUZZ_MALLOC) -detect_leaks=0 -print_final_stats=1 \
		    -artifact_prefix=$(abspath $(TARGET))/fuzz/artifacts/$$target/; done

# Cross-compiled by Debian's newer compiler, whose standard library there is for both architectures; where
# rustup has the target: make test-arm ARM_RUSTC=rustc ARM_CLIPPY=clippy-driver ARM_STD=libc6:arm64
ARM_RUSTC  ?= /usr/bin/rustc
ARM_CLIPPY ?= /usr/bin/clippy-driver
ARM_STD    ?= rustc-web rust-web-clippy libstd-rust-web-dev:arm64
# Optimized, as emulating is slow, but with all checks. A target of their own: compilers differ.
ARM_CARGO   = CARGO_TARGET_DIR=$(TARGET)/arm RUSTC=$(ARM_RUSTC) CARGO_BUILD_TARGET=aarch64-unknown-linux-gnu \
              CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
              CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER=qemu-aarch64 \
              CARGO_PROFILE_DEV_DEBUG=line-tables-only $(CARGO)
ARM_FAST    = --config profile.dev.package.resized.opt-level=2 \
              --config profile.dev.package.resized-protocol.opt-level=2
# qemu leaves pages where they are that it is asked to take back (MADV_REMOVE).
ARM_SKIP    = --skip frames_are_kept_for_who_is_told_nothing_of_the_end
ifeq ($(shell uname -m),aarch64)
test-arm: test
else
test-arm:
	@examples/install-packages.sh gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user $(ARM_STD)
	CLIPPY_ARGS=-Dwarnings RUSTC_WORKSPACE_WRAPPER=$(ARM_CLIPPY) \
	$(ARM_CARGO) check -p resized -p resized-protocol --all-targets --locked
	$(ARM_CARGO) test $(ARM_FAST) -p resized --lib --test kernels --locked -- $(ARM_SKIP)
	$(ARM_CARGO) test $(ARM_FAST) -p resized-protocol --test golden --locked
endif

# Licences, sources and doubled crates; advisories need the network: cargo deny check advisories.
DENY := $(shell command -v cargo-deny || echo $(TARGET)/tools/bin/cargo-deny)
deny: $(DENY)
	$(DENY) --locked check bans licenses sources
	$(DENY) $(PLUGIN) --locked check bans licenses sources

# Unoptimized: they run for a second, and build in a third of the time.
$(TARGET)/tools/bin/cargo-deny: TOOL := cargo-deny --version 0.20.2
$(TARGET)/tools/bin/cargo-fuzz: TOOL := cargo-fuzz --version 0.13.2
$(TARGET)/tools/bin/cargo-deb: TOOL := cargo-deb --version 3.8.0
$(TARGET)/tools/bin/%: | deps
	CARGO_PROFILE_RELEASE_OPT_LEVEL=0 CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
	$(CARGO) install $(TOOL) --locked --root $(TARGET)/tools --target-dir $(TARGET)/tools/build-$(@F)
	rm -rf $(TARGET)/tools/build-$(@F)

bench: build
	$(CARGO) bench --locked -p resized --bench levels --bench ipc
	$(CARGO) bench --locked -p resized-examples --bench whole_job -- $(abspath $(CLIPS))

bench-gpu: build test-deps
	$(CARGO) bench --locked -p resized --bench gpu -- "$(WORKS)"

bench-ipc: deps
	$(CARGO) bench --locked -p resized --bench ipc -- "$(ROWS)"

bench-remote: test-deps
	SHARP="$(abspath $(SHARP))" $(CARGO) bench --locked -p resized-bridge --bench remote -- "$(ROWS)"

bench-stills: deps
	@examples/install-packages.sh libvips-tools imagemagick
	$(CARGO) bench --locked -p resizectl --bench stills

bench-kernels: deps
	@examples/install-packages.sh libzimg-dev
	$(CARGO) run --release $(PEERS) --target-dir $(TARGET) --locked -- "$(WORKS)"

# The code of the shaders, committed beside their sources; a test compares.
SHADERS := daemon/src/device/vulkan/shaders
shaders: test-deps
	for source in $(SHADERS)/*.comp; do \
		glslc --target-env=vulkan1.2 -O "$$source" -o "$${source%.comp}.spv" || exit 1; done

prefix     ?= /usr/local
# What is installed: tests install what they were built with.
BUILT     := $(TARGET)/release
LIBRARIES := $(BUILT)
PAGES     := $(TARGET)/release/pages

pages: deps
	$(CARGO) run --release --locked -p resized --example resized-pages -- "$(PAGES)"
	$(CARGO) run --release --locked -p resized-bridge --example resized-bridge-pages -- "$(PAGES)"
	$(CARGO) run --release --locked -p resizectl --example resizectl-pages -- "$(PAGES)"
	$(CARGO) run --release --locked -p resized-examples --example resize-videos-pages -- "$(PAGES)"

PROGRAMS := resized resized-bridge resizectl resize-videos
MANUAL   := $(PROGRAMS) $(addprefix resizectl-,resize video top status doctor bench)
# What goes where, but for the settings: mode:from:to.
INSTALLED := \
    $(foreach program,$(PROGRAMS),755:$(BUILT)/$(program):$(prefix)/bin/$(program)) \
    644:systemd/resized-bridge.service:$(prefix)/lib/systemd/system/resized-bridge.service \
    644:systemd/resized.service:$(prefix)/lib/systemd/system/resized.service \
    644:systemd/resized.socket:$(prefix)/lib/systemd/system/resized.socket \
    644:systemd/user/resized.service:$(prefix)/lib/systemd/user/resized.service \
    644:systemd/user/resized.socket:$(prefix)/lib/systemd/user/resized.socket \
    644:systemd/resized.sysusers.conf:$(prefix)/lib/sysusers.d/resized.conf \
    644:systemd/resized.tmpfiles.conf:$(prefix)/lib/tmpfiles.d/resized.conf \
    $(foreach page,$(MANUAL),644:$(PAGES)/$(page).1:$(prefix)/share/man/man1/$(page).1) \
    $(foreach program,$(PROGRAMS), \
        644:$(PAGES)/$(program).bash:$(prefix)/share/bash-completion/completions/$(program) \
        644:$(PAGES)/$(program).fish:$(prefix)/share/fish/vendor_completions.d/$(program).fish \
        644:$(PAGES)/_$(program):$(prefix)/share/zsh/site-functions/_$(program))
# Whatever the prefix: there the programs and units look for them.
SETTINGS := $(DESTDIR)/etc/resized

# For programs in C.
INSTALLED_LIBRARY := \
    644:bindings/c/include/resized.h:$(prefix)/include/resized.h \
    644:$(LIBRARIES)/libresized_c.a:$(prefix)/lib/libresized.a \
    755:$(LIBRARIES)/libresized_c.so:$(prefix)/lib/libresized.so.0
VERSION = $(shell sed -n '/^\[workspace.package\]/,/^$$/s/^version = "\(.*\)"/\1/p' Cargo.toml)
PC := $(prefix)/lib/pkgconfig/resized.pc

# Without what only debuggers read: four fifths of a program.
define put
@for file in $(1); do \
    IFS=: read -r mode from to <<< "$$file"; \
    install -D -m "$$mode" "$$from" "$(DESTDIR)$$to" || exit 1; \
    case "$$mode:$$to" in 755:*|*.a) strip --strip-unneeded "$(DESTDIR)$$to" || exit 1 ;; esac; \
done
endef

install-library:
	@test -f "$(LIBRARIES)/libresized_c.so" || { echo "first: make build" >&2; exit 1; }
	$(call put,$(INSTALLED_LIBRARY))
	ln -sf libresized.so.0 "$(DESTDIR)$(prefix)/lib/libresized.so"
	@install -d "$(DESTDIR)$(dir $(PC))"
	sed 's|@prefix@|$(prefix)|; s|@version@|$(VERSION)|' bindings/c/resized.pc.in > "$(DESTDIR)$(PC)"

# First of all, so that nothing is left half done.
writable-settings:
	@install -d "$(SETTINGS)" 2>/dev/null && test -w "$(SETTINGS)" || { \
	    echo "can't write $(SETTINGS), the settings' folder whatever the prefix: be root, or give DESTDIR=folder;" \
	        "make install-library installs the library alone" >&2; exit 1; }

# Builds nothing, so that it can be run as root: make build pages, then sudo make install.
install: writable-settings install-library
	@test -x "$(BUILT)/resized" && test -d "$(PAGES)" || { echo "first: make build pages" >&2; exit 1; }
	$(call put,$(INSTALLED))
	sed -i 's|/usr/bin/resized|$(prefix)/bin/resized|' $(DESTDIR)$(prefix)/lib/systemd/{system,user}/resized*.service
	@for file in resized.toml bridge.env; do \
	    test -e "$(SETTINGS)/$$file" || install -D -m 644 systemd/$$file "$(SETTINGS)/$$file" || exit 1; \
	done
	install -d -m 700 "$(SETTINGS)/bridge"
	@echo "Next: ldconfig; systemd-sysusers; systemd-tmpfiles --create; systemctl daemon-reload; systemctl enable --now resized.socket"

# GStreamer looks for plugins below its own prefix alone: elsewhere set GST_PLUGIN_PATH.
GSTREAMER_PLUGINS ?= $(shell pkg-config --define-variable=prefix=$(prefix) --variable=pluginsdir gstreamer-1.0 2>/dev/null)
install-gstreamer:
	@test -f "$(BUILT)/libgstresized.so" || { echo "first: make gstreamer" >&2; exit 1; }
	@test -n "$(GSTREAMER_PLUGINS)" || { echo "where? GSTREAMER_PLUGINS=folder" >&2; exit 1; }
	$(call put,755:$(BUILT)/libgstresized.so:$(GSTREAMER_PLUGINS)/libgstresized.so)

# Settings stay.
uninstall:
	rm -f $(foreach file,$(INSTALLED) $(INSTALLED_LIBRARY),"$(DESTDIR)$(lastword $(subst :, ,$(file)))") \
	    "$(DESTDIR)$(prefix)/lib/libresized.so" "$(DESTDIR)$(PC)" \
	    $(if $(GSTREAMER_PLUGINS),"$(DESTDIR)$(GSTREAMER_PLUGINS)/libgstresized.so")

DEB := $(shell command -v cargo-deb || echo $(TARGET)/tools/bin/cargo-deb)
# Who builds a package answers for it: make deb MAINTAINER="Name <address>"; see also debchange(1), git-config(1).
MAINTAINER ?= $(if $(DEBEMAIL),$(DEBFULLNAME) <$(DEBEMAIL)>,$(shell git config user.name) <$(shell git config user.email)>)
# dpkg-dev tells which libraries a package depends on: cargo-deb goes on without, and names none.
deb: build pages $(DEB)
	@examples/install-packages.sh dpkg-dev
	@[[ "$(MAINTAINER)" == ?*" <"?*@?*">" ]] || { echo "whose package is it? MAINTAINER='Name <address>'" >&2; exit 1; }
	@$(MAKE) -s install-library prefix=/usr DESTDIR="$(TARGET)/release/library"
	$(DEB) -p resized --no-build --strip --locked --maintainer "$(MAINTAINER)"
	$(DEB) -p resized-examples --no-build --strip --locked --maintainer "$(MAINTAINER)"

# Nobody is to install these: nobody in particular is their maintainer.
test-deb: MAINTAINER := nobody in particular <nobody@packages.invalid>
test-deb: deb
	@systemd/debian/test.sh "$(TARGET)/test-deb" "$(TARGET)"/debian/{resized,resize-videos}_*.deb
