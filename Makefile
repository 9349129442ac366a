# Try it
#   make build             all programs, with optimization, in target/release; make alone does the same
#   make demo              shows a real video being resized by the daemon: VIDEO=path N=2 M=1 SIZE=640x360 OUT=/tmp
#   make demo-cluster      the same on three nodes, of which one is killed on the way
#
# Check it
#   make test              every check but the long ones; of what it installs nothing may be missing (NEED). A part of it:
#   make deny              licences and sources of all crates
#   make test-python       the Python package, with Debian's Python; make test-wheel: in an environment of its own
#   make test-gstreamer    the GStreamer plugin, with Debian's GStreamer
#
# Prove it for long
#   make sanitize          the kernels' tests under AddressSanitizer
#   make test-arm          the kernels' tests for aarch64, under qemu
#   make fuzz              what peers may send, made up: FUZZ=600 seconds for each kind; make seeds writes what it starts from
#   make chaos             all that clients do by mistake or malice, for long
#   make soak              streams that come and go: SOAK=1800 seconds
#   make test-deb          installs the packages on a clean Debian in a container, with the service running there
#
# Measure it: each figure beside its yardstick
#   make bench             kernels, the service and the whole job: CLIPS="a.mp4 b.mp4"
#   make bench-ipc         what the daemon costs beside its kernels: ROWS=tax for rows with that in their names
#   make bench-gpu         what a GPU does beside the bus and the cores: WORKS=F32 likewise
#   make bench-kernels     zimg, swscale, OpenCV and more: WORKS=F32; PEERS_PYTHON=venv/bin/python with numpy, cv2, PIL
#   make bench-remote      what it costs to be on another machine: ROWS=jpegs; SHARP=folder where npm installed sharp
#   make bench-stills      resizectl resize beside vipsthumbnail and mogrify
#   make bench-python      the Python package beside OpenCV and Pillow
#
# Ship it
#   make pages             manual pages, completions, and the notices of others' work, which make install takes
#   make notices           these notices alone, which make install-library takes
#   make install           the service, below prefix=/usr/local, as root; DESTDIR=folder for packages
#   make install-library   only the library for C, for who needs no service
#   make uninstall         takes all of it away again but the settings
#   make wheel             the Python package, in target/wheels
#   make gstreamer         the GStreamer plugin; make install-gstreamer, as root, installs it
#   make deb               Debian packages, that of resize-videos apart: MAINTAINER="Name <address>"
#   make shaders           compiles the shaders for GPUs after a change
#
# All but install* and uninstall install system packages that are missing: by apt, with sudo when not root.

CARGO  ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)
SAMPLE := $(TARGET)/sample.mp4
NATS   := $(TARGET)/tools/nats/usr/sbin
export PATH := $(PATH):$(abspath $(NATS))
# No members of the workspace: their own Cargo.toml say why.
PEERS  := --manifest-path daemon/benches/peers/Cargo.toml
PLUGIN := --manifest-path bindings/gstreamer/Cargo.toml

# gcc, cmake, nasm: libjpeg-turbo, built by its crate. libclang: the bindings to FFmpeg.
# ffmpeg: sample clips, and the yardstick of tests and benchmarks.
PACKAGES := gcc g++ libc6-dev make cmake nasm pkg-config libclang-dev \
            libavcodec-dev libavformat-dev libavutil-dev libswscale-dev ffmpeg
# A GPU made of the CPU, who looks on, and who compiles its shaders; a balancer; who looks on at programs
# in C; networks of hosts; what the guides' commands need beside; who judges units and passes sockets, of a
# package that starts nothing.
TESTING  := libvulkan1 mesa-vulkan-drivers vulkan-validationlayers glslc haproxy valgrind \
            iproute2 curl openssl systemd
# One of these looks at pages. Ubuntu has no package of any, but a snap.
BROWSERS  = $(shell command -v chromium chromium-browser google-chrome google-chrome-stable)
# The plugin's; its tests put it beside GStreamer's own elements.
GSTREAMER := pkg-config libgstreamer1.0-dev libgstreamer-plugins-base1.0-dev
STREAMING := gstreamer1.0-tools gstreamer1.0-plugins-base

SHELL := /bin/bash

# A sample that ffmpeg did not finish is no sample.
.DELETE_ON_ERROR:

# Try it
# ------

.PHONY: build deps test-deps demo demo-cluster

VIDEO ?=
N     ?= 2
M     ?= 1
SIZE  ?= 640x360
OUT   ?= /tmp

build: deps
	$(CARGO) build --release --locked

deps:
	@examples/install-packages.sh $(PACKAGES)

test-deps: deps $(if $(shell command -v nats-server),,$(NATS)/nats-server)
	@examples/install-packages.sh $(TESTING)
	@$(if $(BROWSERS),,examples/install-packages.sh chromium || echo "without a browser its tests are skipped" >&2)

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

# Check it
# --------

.PHONY: test deny test-python test-wheel test-gstreamer

# Tests that find no GPU, or whatever it is, say SKIPPED and pass, but fail over what is named here: all of
# that was just installed, so that it was not found is a fault of ours (daemon/tests/common/skip.rs). What not
# every user may do is for who knows that they may: make test NEED="networks mounts cgroup users".
NEED ?=
test chaos soak: export RESIZED_TESTS_NEED = $(LEVELS) vulkan import validation glslc systemd-analyze \
    systemd-socket-activate $(if $(BROWSERS),browser) $(NEED)
# There are no GPUs.
sanitize: export RESIZED_TESTS_NEED = $(LEVELS) $(NEED)

# What the kernel says that this CPU has: another witness than the code that is tested.
FLAGS  = $(shell grep -m1 '^flags' /proc/cpuinfo)
LEVELS = $(if $(filter-out $(FLAGS),avx2 fma),,avx2) \
    $(if $(filter-out $(FLAGS),avx2 fma avx512f avx512bw avx512vl avx512vbmi avx512_vnni),,avx512) \
    $(if $(filter aarch64,$(shell uname -m)),neon)

test: test-deps deny
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	@# Elsewhere it has all of its features, since some crate of the workspace asks for them.
	$(CARGO) clippy -p resized-client --no-default-features --all-targets --locked -- -D warnings
	$(CARGO) fmt $(PEERS) --check
	$(CARGO) clippy $(PEERS) --target-dir $(TARGET) --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --locked
	$(CARGO) test --workspace --locked
	@# What the workspace's tests were just built with, or all of it would be built once more.
	$(MAKE) --no-print-directory test-python MODULE="--workspace --lib --bins --tests"
	$(MAKE) --no-print-directory test-gstreamer

# Licences, sources and doubled crates; advisories need the network: cargo deny check advisories.
DENY := $(TARGET)/tools/bin/cargo-deny
deny: $(DENY)
	$(DENY) --locked check bans licenses sources
	$(DENY) $(PLUGIN) --locked check bans licenses sources

# With Debian's packages alone: nothing is fetched from Python's. A module is a library by another name.
PYTHON        ?= $(or $(wildcard /usr/bin/python3),python3)
PYTHON_MODULE := $(TARGET)/python/module
MODULE        ?= -p resized -p resized-bridge -p resized-python
test-python: deps
	@examples/install-packages.sh python3 python3-numpy python3-pytest
	$(CARGO) build --locked $(MODULE)
	@mkdir -p $(PYTHON_MODULE)
	cp $(TARGET)/debug/libresized_python.so $(PYTHON_MODULE)/resized.abi3.so
	RESIZED_PROGRAM=$(abspath $(TARGET))/debug/resized PYTHONPATH=$(abspath $(PYTHON_MODULE)) PYTHONDONTWRITEBYTECODE=1 \
	    $(PYTHON) -m pytest -p no:cacheprovider -rs bindings/python/tests

test-wheel: installed-wheel
	$(CARGO) build --release --locked -p resized-bridge --bin resized-bridge
	RESIZED_PROGRAM=$(abspath $(TARGET))/release/resized PYTHONDONTWRITEBYTECODE=1 \
	    $(VENV)/bin/python -m pytest -p no:cacheprovider -rs bindings/python/tests

test-gstreamer: deps
	@examples/install-packages.sh $(GSTREAMER) $(STREAMING)
	$(CARGO) fmt $(PLUGIN) --check
	$(CARGO) clippy $(PLUGIN) --target-dir $(TARGET) --all-targets --locked -- -D warnings
	$(CARGO) test $(PLUGIN) --target-dir $(TARGET) --locked

# Prove it for long
# -----------------

.PHONY: sanitize test-arm fuzz seeds chaos soak

# AddressSanitizer over the kernels: its library comes with the compiler, its switch is not stable yet.
# Without GPUs: what llvmpipe compiles as it goes is not ours.
sanitize: test-deps
	VK_ICD_FILENAMES=/nowhere VK_DRIVER_FILES=/nowhere RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address $(CARGO) test --target x86_64-unknown-linux-gnu \
	    --target-dir $(TARGET)/sanitize --config profile.dev.package.resized.opt-level=2 \
	    --config profile.dev.package.resized-protocol.opt-level=2 --locked -p resized --lib --test kernels

# Cross-compiled by Debian's newer compiler, whose standard library there is for both architectures; where
# rustup has the target: make test-arm ARM_RUSTC=rustc ARM_CLIPPY=clippy-driver ARM_STD=libc6:arm64
ARM_RUSTC  ?= /usr/bin/rustc
ARM_CLIPPY ?= /usr/bin/clippy-driver
ARM_STD    ?= rustc-web rust-web-clippy libstd-rust-web-dev:arm64
# Optimized, as emulating is slow, but with all checks. A target of their own: compilers differ.
ARM_CARGO   = CARGO_TARGET_DIR=$(TARGET)/arm RUSTC=$(ARM_RUSTC) CARGO_BUILD_TARGET=aarch64-unknown-linux-gnu \
              CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
              CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER=qemu-aarch64 $(CARGO)
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

# Under AddressSanitizer too. What is found lies in target/fuzz/artifacts. Some of the targets: FUZZED=session. No
# limit of theirs lets a peer have so much allocated at once as FUZZ_MALLOC, in MiB. Leaks are looked for once, in the end:
# threads that just begin or end look like some, and not all of these are known (fuzz/leaks.supp).
FUZZ   ?= 600
FUZZED ?= codec session wire frames pictures answers
FUZZER := $(TARGET)/tools/bin/cargo-fuzz
FUZZ_MALLOC := 64
fuzz: deps $(FUZZER)
	@set -e; for target in $(FUZZED); do \
		mkdir -p $(TARGET)/fuzz/{corpus,artifacts}/$$target; \
		RUSTC_BOOTSTRAP=1 LSAN_OPTIONS=suppressions=$(abspath fuzz/leaks.supp) $(FUZZER) run --fuzz-dir fuzz --target-dir $(TARGET)/fuzz $$target \
		    $(TARGET)/fuzz/corpus/$$target fuzz/seeds/$$target \
		    -- -max_total_time=$(FUZZ) -timeout=60 -rss_limit_mb=4096 -malloc_limit_mb=$(FUZZ_MALLOC) -detect_leaks=0 -print_final_stats=1 \
		    -artifact_prefix=$(abspath $(TARGET))/fuzz/artifacts/$$target/; done

# What fuzzing starts from, after a change of the protocol; a test holds it against what the programs say.
seeds: deps
	$(CARGO) build --locked -p resized-fuzz --bin seeds
	rm -rf fuzz/seeds
	$(CARGO) run --locked -p resized-fuzz --bin seeds -- fuzz/seeds

# One row at a time, optimized: what a neighbour notices is measured. About half an hour.
SOAK ?= 1800
chaos: test-deps
	RESIZED_CHAOS=1 $(CARGO) test --release --locked -p resized --test process -- --test-threads=1 --nocapture \
	    chaos:: restarts:: hostile:: greed:: quotas::

soak: test-deps
	RESIZED_SOAK=$(SOAK) $(CARGO) test --release --locked -p resized --test process -- --nocapture a_soak_of

# Measure it
# ----------

.PHONY: bench bench-gpu bench-ipc bench-kernels bench-python bench-remote bench-stills

CLIPS ?=
WORKS ?=
ROWS  ?=
SHARP ?=

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

bench-python: installed-wheel
	RESIZED_PROGRAM=$(abspath $(TARGET))/release/resized $(VENV)/bin/python bindings/python/bench.py

# Ship it
# -------

.PHONY: pages notices install install-library writable-settings uninstall wheel installed-wheel gstreamer install-gstreamer deb test-deb shaders

prefix ?= /usr/local
# Where the library goes: libdir=/usr/lib64 where the system looks there.
libdir ?= $(prefix)/lib
# systemd looks for units, groups and folders in these places alone, whatever the prefix.
UNITS := $(if $(filter /usr,$(prefix)),/usr,/usr/local)/lib
# What is installed: tests install what they were built with.
BUILT     := $(TARGET)/release
LIBRARIES := $(BUILT)
PAGES     := $(TARGET)/release/pages

pages: deps notices
	$(CARGO) run --release --locked -p resized --example resized-pages -- "$(PAGES)"
	$(CARGO) run --release --locked -p resized-bridge --example resized-bridge-pages -- "$(PAGES)"
	$(CARGO) run --release --locked -p resizectl --example resizectl-pages -- "$(PAGES)"
	$(CARGO) run --release --locked -p resized-examples --example resize-videos-pages -- "$(PAGES)"

notices: deps
	$(CARGO) run --release --locked -p resized-examples --example third-parties -- "$(PAGES)"

PROGRAMS := resized resized-bridge resizectl resize-videos
MANUAL   := $(PROGRAMS) $(addprefix resizectl-,resize video top status doctor bench)
# What goes where, but for the settings: mode:from:to.
INSTALLED := \
    $(foreach program,$(PROGRAMS),755:$(BUILT)/$(program):$(prefix)/bin/$(program)) \
    644:systemd/resized-bridge.service:$(UNITS)/systemd/system/resized-bridge.service \
    644:systemd/resized.service:$(UNITS)/systemd/system/resized.service \
    644:systemd/resized.socket:$(UNITS)/systemd/system/resized.socket \
    644:systemd/user/resized.service:$(UNITS)/systemd/user/resized.service \
    644:systemd/user/resized.socket:$(UNITS)/systemd/user/resized.socket \
    644:systemd/resized.sysusers.conf:$(UNITS)/sysusers.d/resized.conf \
    644:systemd/resized.tmpfiles.conf:$(UNITS)/tmpfiles.d/resized.conf \
    $(foreach page,$(MANUAL),644:$(PAGES)/$(page).1:$(prefix)/share/man/man1/$(page).1) \
    $(foreach program,$(PROGRAMS), \
        644:$(PAGES)/$(program).bash:$(prefix)/share/bash-completion/completions/$(program) \
        644:$(PAGES)/$(program).fish:$(prefix)/share/fish/vendor_completions.d/$(program).fish \
        644:$(PAGES)/_$(program):$(prefix)/share/zsh/site-functions/_$(program))
# Whatever the prefix: there the programs and units look for them.
SETTINGS := $(DESTDIR)/etc/resized

# Beside whatever has others' work in it.
NOTICES := 644:$(PAGES)/third-parties.txt:$(prefix)/share/doc/resized/third-parties.txt

# For programs in C.
INSTALLED_LIBRARY := $(NOTICES) \
    644:bindings/c/include/resized.h:$(prefix)/include/resized.h \
    644:$(LIBRARIES)/libresized_c.a:$(libdir)/libresized.a \
    644:$(LIBRARIES)/libresized_c.so:$(libdir)/libresized.so.0
VERSION = $(shell sed -n '/^\[workspace.package\]/,/^$$/s/^version = "\(.*\)"/\1/p' Cargo.toml)
PC := $(libdir)/pkgconfig/resized.pc

# Without what only debuggers read: four fifths of a program.
define put
@for file in $(1); do \
    IFS=: read -r mode from to <<< "$$file"; \
    install -D -m "$$mode" "$$from" "$(DESTDIR)$$to" || exit 1; \
    case "$$to" in */bin/*|*.a|*.so|*.so.*) strip --strip-unneeded "$(DESTDIR)$$to" || exit 1 ;; esac; \
done
endef

install-library:
	@test -f "$(LIBRARIES)/libresized_c.so" && test -f "$(PAGES)/third-parties.txt" || \
	    { echo "first: make build notices" >&2; exit 1; }
	$(call put,$(INSTALLED_LIBRARY))
	ln -sf libresized.so.0 "$(DESTDIR)$(libdir)/libresized.so"
	@install -d "$(DESTDIR)$(dir $(PC))"
	sed 's|@prefix@|$(prefix)|; s|@libdir@|$(patsubst $(prefix)/%,$${prefix}/%,$(libdir))|; s|@version@|$(VERSION)|' \
	    bindings/c/resized.pc.in > "$(DESTDIR)$(PC)"

# First of all, so that nothing is left half done.
writable-settings:
	@install -d "$(SETTINGS)" 2>/dev/null && test -w "$(SETTINGS)" || { \
	    echo "can't write $(SETTINGS), the settings' folder whatever the prefix: be root, or give DESTDIR=folder;" \
	        "make install-library installs the library alone" >&2; exit 1; }

# Builds nothing, so that it can be run as root: make build pages, then sudo make install.
install: writable-settings install-library
	@test -x "$(BUILT)/resized" && test -d "$(PAGES)" || { echo "first: make build pages" >&2; exit 1; }
	$(call put,$(INSTALLED))
	sed -i 's|/usr/bin/resized|$(prefix)/bin/resized|' $(DESTDIR)$(UNITS)/systemd/{system,user}/resized*.service
	@for file in resized.toml bridge.env; do \
	    test -e "$(SETTINGS)/$$file" || install -D -m 644 systemd/$$file "$(SETTINGS)/$$file" || exit 1; \
	done
	install -d -m 700 "$(SETTINGS)/bridge"
	@echo "Next: ldconfig; systemd-sysusers; systemd-tmpfiles --create; systemctl daemon-reload; systemctl enable --now resized.socket"

# Settings stay.
uninstall:
	rm -f $(foreach file,$(INSTALLED) $(INSTALLED_LIBRARY),"$(DESTDIR)$(lastword $(subst :, ,$(file)))") \
	    "$(DESTDIR)$(libdir)/libresized.so" "$(DESTDIR)$(PC)" \
	    $(if $(GSTREAMER_PLUGINS),"$(DESTDIR)$(GSTREAMER_PLUGINS)/libgstresized.so")

# As it is installed, with what its users have beside it, from PyPI.
VENV   := $(TARGET)/python/venv
WHEELS := $(TARGET)/wheels
wheel: deps notices $(VENV)/bin/maturin
	rm -f $(WHEELS)/resized-*.whl
	@# A wheel takes what lies beside its manifest.
	install -D -m 644 -t bindings/python/licenses LICENSE-* "$(PAGES)/third-parties.txt"
	$(VENV)/bin/maturin build --release --locked --manifest-path bindings/python/Cargo.toml --target-dir $(TARGET) --out $(WHEELS)

$(VENV)/bin/maturin:
	@examples/install-packages.sh python3 python3-venv
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet 'maturin>=1.9,<2'

installed-wheel: wheel
	$(VENV)/bin/pip install --quiet --force-reinstall --no-deps $(WHEELS)/resized-*.whl
	$(VENV)/bin/pip install --quiet numpy pytest opencv-python-headless pillow
	$(CARGO) build --release --locked -p resized --bin resized

gstreamer: deps notices
	@examples/install-packages.sh $(GSTREAMER)
	$(CARGO) build --release $(PLUGIN) --target-dir $(TARGET) --locked

# GStreamer looks for plugins below its own prefix alone: elsewhere set GST_PLUGIN_PATH.
GSTREAMER_PLUGINS ?= $(shell pkg-config --define-variable=prefix=$(prefix) --variable=pluginsdir gstreamer-1.0 2>/dev/null)
install-gstreamer:
	@test -f "$(BUILT)/libgstresized.so" && test -f "$(PAGES)/third-parties.txt" || \
	    { echo "first: make gstreamer" >&2; exit 1; }
	@test -n "$(GSTREAMER_PLUGINS)" || { echo "where? GSTREAMER_PLUGINS=folder" >&2; exit 1; }
	$(call put,$(NOTICES) 644:$(BUILT)/libgstresized.so:$(GSTREAMER_PLUGINS)/libgstresized.so)

DEB := $(TARGET)/tools/bin/cargo-deb
# Who builds a package answers for it: make deb MAINTAINER="Name <address>"; see also debchange(1), git-config(1).
MAINTAINER ?= $(if $(DEBEMAIL),$(DEBFULLNAME) <$(DEBEMAIL)>,$(shell git config user.name) <$(shell git config user.email)>)
# A later commit makes a later package, which apt takes for one, and so does what is not committed yet. Other sources
# than git's make the revision 1.
REVISION = $(shell if git diff --quiet HEAD 2>/dev/null; \
    then TZ=UTC git log -1 --format=%cd --date=format-local:%Y%m%d%H%M%S; \
    else git rev-parse HEAD >/dev/null 2>&1 && date -u +%Y%m%d%H%M%S; fi)
# What make install installs is what the packages have: their assets are folders of this.
STAGE := $(TARGET)/release/root
# dpkg-dev tells which libraries a package depends on: cargo-deb goes on without, and names none.
deb: build pages $(DEB)
	@examples/install-packages.sh dpkg-dev
	@[[ "$(MAINTAINER)" == ?*" <"?*@?*">" ]] || { echo "whose package is it? MAINTAINER='Name <address>'" >&2; exit 1; }
	@rm -rf "$(STAGE)"
	@$(MAKE) -s install prefix=/usr libdir=/usr/lib DESTDIR="$(STAGE)" >/dev/null
	@set -ex; for package in resized resized-examples; do \
		$(DEB) -p $$package --no-build --no-strip --locked --maintainer "$(MAINTAINER)" \
		    $(if $(REVISION),--deb-revision $(REVISION)); done

# Nobody is to install these: nobody in particular is their maintainer.
test-deb: MAINTAINER := nobody in particular <nobody@packages.invalid>
test-deb: deb
	$(CARGO) build --release --locked -p resized-examples --bin remote-client
	@systemd/debian/test.sh "$(TARGET)/test-deb" "$(TARGET)/release/remote-client" \
	    "$(TARGET)"/debian/{resized,resize-videos}_*.deb

# The code of the shaders, committed beside their sources with the sums of all; tests compare.
SHADERS := daemon/src/device/vulkan/shaders
shaders: test-deps
	for source in $(SHADERS)/*.comp; do \
		glslc --target-env=vulkan1.2 -O "$$source" -o "$${source%.comp}.spv" || exit 1; done
	cd $(SHADERS) && LC_ALL=C sha256sum *.comp *.glsl *.spv > SHA256SUMS

# Tools, built once
# -----------------

# Of these versions, whatever else there is: others have other flags, and make other packages of the same files.
# Unoptimized: they run for a second, and build in a third of the time.
$(TARGET)/tools/bin/cargo-deny: TOOL := cargo-deny --version 0.20.2
$(TARGET)/tools/bin/cargo-fuzz: TOOL := cargo-fuzz --version 0.13.2
$(TARGET)/tools/bin/cargo-deb: TOOL := cargo-deb --version 3.8.0
$(TARGET)/tools/bin/%: | deps
	CARGO_PROFILE_RELEASE_OPT_LEVEL=0 CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
	$(CARGO) install $(TOOL) --locked --root $(TARGET)/tools --target-dir $(TARGET)/tools/build-$(@F)
	rm -rf $(TARGET)/tools/build-$(@F)
