# make demo            see a real video being resized by the daemon
# make test            every check there is
# make bench           the figures, each beside its yardstick
# make bench-gpu       what a GPU does beside the bus and the cores
# make bench-kernels   the kernels beside other resizers: zimg, swscale, OpenCV and more
#
# Each installs the system packages that are missing (apt, with sudo when not root).

# make demo VIDEO=path N=2 M=1 SIZE=640x360 OUT=/tmp
# make bench CLIPS="a.mp4 b.mp4"
# make bench-kernels PEERS_PYTHON=venv/bin/python   (one that has numpy, cv2, PIL; others are left out)
# make bench-kernels WORKS=F32                      (those with that in their names: here the tensors)
VIDEO ?=
N     ?= 2
M     ?= 1
SIZE  ?= 640x360
OUT   ?= /tmp
CLIPS ?=
WORKS ?=

CARGO  ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)
SAMPLE := $(TARGET)/sample.mp4
# No member of the workspace: its own Cargo.toml says why.
PEERS  := --manifest-path daemon/benches/peers/Cargo.toml

# gcc, cmake, nasm: libjpeg-turbo, built by its crate. libclang: the bindings to FFmpeg.
# ffmpeg: sample clips, and the yardstick of tests and benchmarks.
# libvulkan1 to glslc: for tests alone, a GPU made of the CPU, who looks on, and who compiles its shaders.
PACKAGES := gcc g++ libc6-dev make cmake nasm pkg-config libclang-dev \
            libavcodec-dev libavformat-dev libavutil-dev libswscale-dev ffmpeg \
            libvulkan1 mesa-vulkan-drivers vulkan-validationlayers glslc

# A sample that ffmpeg did not finish is no sample.
.DELETE_ON_ERROR:
.PHONY: demo test bench bench-gpu bench-kernels build deps deny shaders clean

build: deps
	$(CARGO) build --release --workspace --locked

deps:
	@examples/install-packages.sh $(PACKAGES)

demo: build $(if $(VIDEO),,$(SAMPLE))
	@examples/demo.sh "$(TARGET)/release" "$(or $(VIDEO),$(SAMPLE))" -n "$(N)" -m "$(M)" -s "$(SIZE)" -o "$(OUT)"

$(SAMPLE): | deps
	@mkdir -p $(@D)
	ffmpeg -v error -y -f lavfi -i testsrc2=size=1280x720:rate=30:duration=20 -c:v libx264 -preset fast -pix_fmt yuv420p $@

test: deps deny
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	$(CARGO) fmt $(PEERS) --check
	$(CARGO) clippy $(PEERS) --target-dir $(TARGET) --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --locked
	$(CARGO) test --workspace --locked

# Licences, sources and doubled crates; advisories need the network: cargo deny check advisories.
DENY := $(shell command -v cargo-deny || echo $(TARGET)/tools/bin/cargo-deny)
deny: $(DENY)
	$(DENY) --locked check bans licenses sources

# Unoptimized: it runs for a second, and builds in a third of the time.
$(TARGET)/tools/bin/cargo-deny: | deps
	CARGO_PROFILE_RELEASE_OPT_LEVEL=0 CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
	$(CARGO) install cargo-deny --version 0.20.2 --locked --root $(TARGET)/tools --target-dir $(TARGET)/tools/build
	rm -rf $(TARGET)/tools/build

bench: build
	$(CARGO) bench --locked -p resized --bench levels --bench ipc
	$(CARGO) bench --locked -p resized-examples --bench whole_job -- $(abspath $(CLIPS))

bench-gpu: build
	$(CARGO) bench --locked -p resized --bench gpu

bench-kernels: deps
	@examples/install-packages.sh libzimg-dev
	$(CARGO) run --release $(PEERS) --target-dir $(TARGET) --locked -- "$(WORKS)"

# The code of the shaders, committed beside their sources; a test compares.
SHADERS := daemon/src/device/vulkan/shaders
shaders: deps
	for source in $(SHADERS)/*.comp; do \
		glslc --target-env=vulkan1.2 -O "$$source" -o "$${source%.comp}.spv" || exit 1; done

clean:
	$(CARGO) clean
