# make demo                trains a small model on Tiny Shakespeare and lets it write: about two minutes after the build
# make test                every test, in debug and in release
# make fuzz SECONDS=600    damaged files and requests of every kind; SEED=2 for others, KIND=… for one, INPUT=… again
# make mpi                 a command that trains over ranks as well: mpirun -n 2 .build/release/feedback train …
# make sanitize            tests with the compiler's checks of addresses, of undefined behaviour and of threads
# make cuda                compiles the devices' kernels for NVIDIA's GPUs; lists their registers; tests all up to the GPU
# make bundle              packs the command and its libraries for a Linux machine without Swift and oneDNN
# make lint, documentation, ranks, browser, notebook, interoperability, aarch64: below
#
# All install what is missing first. What remains to be had beforehand is a Swift toolchain, 6.2 or newer.

SWIFT ?= swift
FEEDBACK = .build/release/feedback

# Homebrew's headers and libraries are not on the compiler's own paths.
ifeq ($(shell uname), Darwin)
BREW := $(shell brew --prefix)
FLAGS = -Xcc -I$(BREW)/include -Xlinker -L$(BREW)/lib
endif

.PHONY: setup build mpi demo test fuzz sanitize browser notebook ranks lint documentation cuda bundle aarch64 \
	interoperability clean

setup:
	@Makefiles/setup.sh

build: setup
	$(SWIFT) build -c release --product feedback $(FLAGS)

# The MPI that is there, Open MPI before others; MPI=mpich chooses, as pkg-config calls it.
WITH_MPI = mpi=$$(Makefiles/mpi.sh $(MPI)) && MPI=$$mpi $(SWIFT) build --product feedback --traits MPI $(FLAGS)
mpi: setup
	@$(WITH_MPI) -c release
	@echo "Start with: mpirun -n 2 $(FEEDBACK) train … (2 ranks; --hostfile FILE names the machines)"

# Without Tiny Shakespeare the demo learns to run programs in its head: see Data/Tasks/VariableAssignment.swift.
demo: build
	@run=runs/demo-$$(date +%Y%m%d-%H%M%S); \
	if $(FEEDBACK) data fetch >/dev/null; then \
		$(FEEDBACK) train --preset demo --output $$run \
		&& echo && echo "What the model writes after \"ROMEO:\" ($(FEEDBACK) generate $$run --prompt ROMEO:)" && echo \
		&& $(FEEDBACK) generate $$run --prompt "ROMEO:" --max-tokens 600 --temperature 0.8 --echo; \
	else \
		echo "Then programs: what does each print? The model's answers, right and wrong, appear below." \
		&& $(FEEDBACK) train --preset programs --lessons 0:2-30 --memory-window 32 --minimum-learning-rate 3e-4 --seconds 110 \
			--sample-interval 1000 --output $$run \
		&& echo && echo "Programs of up to 20 statements ($(FEEDBACK) evaluate $$run --split test --difficulty 1-20):" \
		&& $(FEEDBACK) evaluate $$run --split test --difficulty 1-20 \
		&& echo && echo "Programs of 100, as in the paper ($(FEEDBACK) evaluate $$run --split test):" \
		&& $(FEEDBACK) evaluate $$run --split test; \
	fi

# What is timed runs alone, for the other tests would take its cores; and so do a device's tests: groups that meet inside a kernel wait
# by turning round, and where another test has a core they wait for that too.
RELEASE = -c release -Xswiftc -enable-testing --scratch-path .build-release-tests $(FLAGS)
test: setup
	@Makefiles/pocl.sh
	$(SWIFT) test $(FLAGS) --filter FeedbackDeviceTests
	$(SWIFT) test $(FLAGS) --skip FeedbackDeviceTests
	$(SWIFT) test $(RELEASE) --filter speedHolds
	$(SWIFT) test $(RELEASE) --filter FeedbackDeviceTests
	$(SWIFT) test $(RELEASE) --skip 'speedHolds|FeedbackDeviceTests'

SECONDS ?= 60
fuzz: setup
	FEEDBACK_TEST_FUZZ_SECONDS=$(SECONDS) FEEDBACK_TEST_FUZZ_SEED=$(SEED) FEEDBACK_TEST_FUZZ_KIND=$(KIND) \
		FEEDBACK_TEST_FUZZ_INPUT=$(INPUT) $(SWIFT) test $(RELEASE) --filter hostileInputs

# Each in a build of its own, over what is fast: operations, model, files, worker threads. Of what is undefined C
# alone has much, and Swift's compiler no check on Linux. XCTest itself leaks. Left out is what takes a quarter of an hour so,
# or is timed.
SANITIZED = FeedbackEngineTests|FeedbackTransformerTests|VerificationTests|SettingTests|LoaderTests|FuzzTests
sanitize: sanitize-address sanitize-thread
sanitize-address: CHECKS = --sanitize address $(addprefix -Xcc , -fsanitize=undefined -fno-sanitize-recover=undefined)
sanitize-thread: CHECKS = --sanitize thread
sanitize-%: setup
	ASAN_OPTIONS=detect_leaks=0 TSAN_OPTIONS=halt_on_error=1 $(SWIFT) test $(CHECKS) --scratch-path .build-sanitize-$* $(FLAGS) \
		--filter '$(SANITIZED)' --skip 'PanelLinearTests|GradientTests|longWordsAndRememberedOnes'

# The dashboard in headless Chromium, and the notebook on a small budget, with the command that the tests have built.
TESTED = .build-release-tests/release/feedback
browser: test
	Tests/Browser/check.sh $(TESTED)
notebook: test
	Tests/Interoperability/notebook.sh $(TESTED)

# The command over two and four ranks: the same bytes, and one line for what cannot go on.
ranks: setup
	@$(WITH_MPI)
	Tests/Cluster/ranks.sh .build/debug/feedback

lint:
	$(SWIFT) format lint --strict --recursive Package.swift Sources Tests
	@Makefiles/clang-format.sh --dry-run --Werror $(wildcard Sources/C*/*.[ch] Sources/C*/include/*.h Tests/*/*.[ch] Tests/*/*.cpp)

# The libraries' DocC pages; any warning is an error. SwiftPM makes symbol graphs with every trait: so it takes MPI's headers.
documentation: setup
	@mpi=$$(Makefiles/mpi.sh $(MPI)) && MPI=$$mpi SWIFT="$(SWIFT)" Makefiles/documentation.sh $(FLAGS)

# The kernels for NVIDIA's GPUs; needs PyPI where there is no nvcc.
cuda: setup
	@Makefiles/cuda.sh
	Tests/CUDA/check.sh $(TESTED) $(SWIFT) test $(RELEASE)

bundle: build
	Makefiles/bundle.sh $(FEEDBACK) feedback.tar.gz

# The kernels on arm64, under emulation.
aarch64:
	Tests/Interoperability/aarch64.sh

# Reads our files with the official Python packages; needs Python and PyPI.
interoperability: build
	Tests/Interoperability/check.sh $(FEEDBACK)

clean:
	rm -rf .build .build-*
