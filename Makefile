# Everything that a contributor runs. It needs Go, make and git; all tools are built from the Go module proxy,
# at the versions that test/harness/tools/go.mod and test/harness/tools/lint/go.mod pin. One test wants Debian's Python as well.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# Nothing here needs C. With one setting everywhere, what one target compiles serves the next; only the race
# detector wants it otherwise.
export CGO_ENABLED := 0

# VERSION is what the binaries report as theirs.
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)

# PLATFORMS are those of the image that `make dist` makes.
PLATFORMS ?= linux/amd64,linux/arm64

# TOOLS is where the tools are built to.
TOOLS := $(CURDIR)/bin/tools
CODE_GENERATORS := $(TOOLS)/generate-proto $(TOOLS)/protoc-gen-go $(TOOLS)/protoc-gen-go-grpc $(TOOLS)/controller-gen

# GENERATED are the directories that `make generate` writes to. What it writes is called *.pb.go, zz_generated.*.go
# and, in manifests/crd, GROUP_PLURAL.yaml; all else there is written by hand.
GENERATED := api proto manifests/crd

# TEST_FLAGS are more flags for `make test`, for example TEST_FLAGS='-run TestGrow -v'; PACKAGES narrows what
# `make test` and `make bench` run.
TEST_FLAGS ?=
PACKAGES ?= ./...

# BENCH_FLAGS are flags of the benchmark of the provider, for example BENCH_FLAGS=-quick.
BENCH_FLAGS ?=

# GROWTHS_FLAGS are flags of the benchmark of growths: without any three rounds of 50, 200 and 500 pods, some 25 minutes. -check tells of
# targets that are missed, -sizes 50,200 -rounds 1 takes three minutes.
GROWTHS_FLAGS ?=

# SEEDS is the number of worlds that `make sim` simulates, with each of its two simulations; KARPENTER_SEEDS and CLUSTER_API_SEEDS
# are those of stories in which `make soak` kills Karpenter and Cluster API. CSV is the trace that
# `make trace` replays; TRACE_FLAGS are more flags for it, for example TRACE_FLAGS='-nodes 32 -boot 3m'.
SEEDS ?= 10000
KARPENTER_SEEDS ?= 100
CLUSTER_API_SEEDS ?= 100
CSV ?= test/whole/simulation/testdata/trace.csv
TRACE_FLAGS ?=

# The cluster that `make deploy` and `make undeploy` are about is that of KUBECTL, for example
# KUBECTL='kubectl --context=test'. MANIFESTS is what is applied: manifests, or an overlay of it; where it is not said, deploy looks at
# the version of the cluster. IMAGE is the image of both programs. KEEP_NODES=1 lets undeploy leave the nodes of NodePools with the pods
# on them.
KUBECTL ?= kubectl
MANIFESTS ?=
IMAGE ?=
KEEP_NODES ?=

# The demo's settings: how long a machine takes to boot; HOLD=1 leaves everything running at the end; paths of
# real programs that are to take the place of the stand-ins; MACHINES=karpenter has the real Karpenter make the machines, and
# MACHINES=cluster-api the real core controllers of Cluster API, which are built for that (three or four minutes the first time);
# KIND=jobset has a JobSet in the place of the MiniCluster, with its real controller.
BOOT_DELAY ?= 5s
MACHINES ?=
KIND ?=
CLUSTER_API ?=
HOLD ?=
CLUSTER_AUTOSCALER ?=
FLUX_OPERATOR ?=

.PHONY: help
help: ## Say what can be made.
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: build
build: ## Build bin/provider, bin/controller, bin/kubectl-ensemble and bin/agent.
	@mkdir -p bin
	@for program in provider controller kubectl-ensemble agent; do \
		echo "building bin/$$program $(VERSION)"; \
		go build -trimpath -buildvcs=false -ldflags "-s -w -X main.version=$(VERSION)" \
			-o bin/$$program ./cmd/$$program || exit; \
	done

# What a release consists of is made by test/harness/tools/dist. The time in its files is that of the commit.
.PHONY: dist
dist: export SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct)
dist: ## Make what a release consists of in dist/: one-file installs, the chart, the image as an OCI layout, an SBOM, checksums. Settings: VERSION=v0.1.0 PLATFORMS
	@cd test/harness/tools/dist && GOWORK=off go run -trimpath -buildvcs=false . -root=$(CURDIR) -output=$(CURDIR)/dist \
		-version='$(VERSION)' -revision="$$(git rev-parse HEAD)" -platforms='$(PLATFORMS)'

# Where the archives of the plugin are downloaded from, and for which systems they are built.
KREW_URI ?= https://github.com/ensemble-autoscaler/ensemble-autoscaler/releases/download/$(VERSION)
KREW_PLATFORMS ?= linux-amd64 linux-arm64 darwin-amd64 darwin-arm64

# The archives have no times and no owners: built twice they are the same.
.PHONY: krew
krew: ## Build archives of kubectl ensemble for each system, and the Krew manifest that names them, in bin/krew. Settings: VERSION=v0.1.0
	@expr '$(VERSION)' : 'v[0-9][0-9]*\.[0-9][0-9]*\.[0-9][0-9]*$$' >/dev/null || \
		{ echo "VERSION is '$(VERSION)'; Krew takes vMAJOR.MINOR.PATCH, as in: make krew VERSION=v0.1.0" >&2; exit 1; }
	@mkdir -p bin/krew
	@cp manifests/krew.yaml bin/krew/ensemble.yaml
	@for platform in $(KREW_PLATFORMS); do \
		echo "building bin/krew/kubectl-ensemble-$$platform.tar.gz"; \
		archive=bin/krew/kubectl-ensemble-$$platform.tar.gz; directory=bin/krew/$$platform; mkdir -p $$directory; \
		GOOS=$${platform%-*} GOARCH=$${platform#*-} go build -trimpath -buildvcs=false -ldflags "-s -w -X main.version=$(VERSION)" \
			-o $$directory/kubectl-ensemble ./cmd/kubectl-ensemble || exit; \
		cp LICENSE $$directory || exit; \
		tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX -C $$directory \
			-cf $$directory/archive.tar LICENSE kubectl-ensemble || exit; \
		gzip -n <$$directory/archive.tar >$$archive || exit; \
		sum=$$(sha256sum $$archive | cut -d ' ' -f 1); \
		sed -i "s/SHA256-$$platform/$$sum/" bin/krew/ensemble.yaml; rm -r $$directory; \
	done
	@sed -i -e '/^#/d' -e 's|version: VERSION|version: $(VERSION)|' -e 's|uri: URI|uri: $(KREW_URI)|' bin/krew/ensemble.yaml

.PHONY: generate
generate: generate-code generate-docs ## Generate Go from the .proto files, deep copies and CRDs from the API types, docs/metrics.md.

.PHONY: generate-code
generate-code: $(CODE_GENERATORS)
	@echo "generating Go from proto/"
	@PATH="$(TOOLS):$$PATH" $(TOOLS)/generate-proto proto
	@echo "generating deep copies and CRDs from api/"
	@$(TOOLS)/controller-gen object paths=./api/...
	@$(TOOLS)/controller-gen crd paths=./api/... output:crd:dir=manifests/crd

.PHONY: generate-docs
generate-docs: generate-code
	@echo "generating docs/metrics.md from the metrics"
	@go run ./cmd/internal/metricsdoc

.PHONY: verify
verify: verify-generated verify-docs verify-tidy verify-vet ## Check that generated files and go.mod are up to date; go vet.

# The copy loses its generated files first, so that one which nothing generates any more shows too.
.PHONY: verify-generated
verify-generated: $(CODE_GENERATORS)
	@echo "verifying generated files"
	@copy=$$(mktemp -d) && trap 'rm -rf "$$copy"' EXIT && trap 'exit 1' INT TERM && \
	mkdir "$$copy/manifests" && cp -R go.mod go.sum Makefile api proto "$$copy" && cp -R manifests/crd "$$copy/manifests" && \
	find "$$copy" \( -name 'zz_generated.*.go' -o -name '*.pb.go' -o -path '*/manifests/crd/*_*.yaml' \) -exec rm {} + && \
	$(MAKE) --no-print-directory -C "$$copy" -o $(subst $() ,$() -o ,$(CODE_GENERATORS)) TOOLS=$(TOOLS) generate-code >/dev/null && \
	for directory in $(GENERATED); do \
		git --no-pager diff --no-index --exit-code "$$directory" "$$copy/$$directory" || \
			{ echo "$$directory is not what its sources generate; run: make generate (and delete what nothing generates)" >&2; exit 1; }; \
	done

.PHONY: verify-docs
verify-docs:
	@echo "verifying docs/metrics.md"
	@go run ./cmd/internal/metricsdoc -check

.PHONY: verify-tidy
verify-tidy:
	@echo "verifying that go.mod and go.sum are tidy"
	@go mod tidy -diff || { echo "go.mod or go.sum is not tidy; run: go mod tidy" >&2; exit 1; }

.PHONY: verify-vet
verify-vet:
	@echo "go vet ./..."
	@go vet ./...

.PHONY: lint
lint: $(TOOLS)/golangci-lint ## Run golangci-lint as .golangci.yml says.
	@echo "golangci-lint run"
	@$(TOOLS)/golangci-lint run --timeout 20m

.PHONY: install-python
install-python: ## Install what is missing of the Debian packages that one test speaks Python with; make test does so first.
	@test/parts/interop/install-python.sh

# No result is taken from a cache: many tests run programs that they build, whose sources the go command does not count
# among what a test depends on.
# The race detector needs cgo, and cgo a C compiler. Without Python's packages one test is skipped; CI goes without none.
.PHONY: test
test: ## Run all tests, those on the embedded control plane included (its first build takes about seven minutes).
	@test/parts/interop/install-python.sh || test -z "$$CI"
	@echo "building the control plane that the tests run on, unless it is there"
	@go run -trimpath ./test/harness/controlplane/cmd/build >/dev/null
	@if command -v "$$(go env CC | cut -d ' ' -f 1)" >/dev/null; then \
		race=-race; export CGO_ENABLED=1; \
	else \
		race=; echo "no C compiler ($$(go env CC)) found, and the race detector needs one: testing without -race" >&2; \
	fi; \
	echo "compiling and running the tests (with a cold cache the first result takes some minutes)"; \
	echo go test $$race -count=1 -timeout 80m -p 2 $(TEST_FLAGS) $(PACKAGES); \
	go test $$race -count=1 -timeout 80m -p 2 $(TEST_FLAGS) $(PACKAGES)

.PHONY: demo
demo: export BOOT_DELAY := $(BOOT_DELAY)
demo: export MACHINES := $(MACHINES)
demo: export KIND := $(KIND)
demo: export CLUSTER_API := $(CLUSTER_API)
demo: export HOLD := $(HOLD)
demo: export CLUSTER_AUTOSCALER := $(CLUSTER_AUTOSCALER)
demo: export FLUX_OPERATOR := $(FLUX_OPERATOR)
demo: ## Watch an ensemble grow and shrink. Settings: BOOT_DELAY=5s MACHINES=karpenter|cluster-api KIND=jobset HOLD=1 CLUSTER_AUTOSCALER=path FLUX_OPERATOR=path
	@echo "compiling the demo"
	@go run -trimpath ./test/whole/demo

.PHONY: sandbox
sandbox: ## Try an installation with Helm and kubectl in a cluster on this machine, which says what to type.
	@echo "compiling kubectl ensemble and the sandbox"
	@mkdir -p bin
	@go build -trimpath -buildvcs=false -o bin/kubectl-ensemble ./cmd/kubectl-ensemble
	@go run -trimpath ./test/whole/sandbox

.PHONY: deploy
deploy: export KUBECTL := $(KUBECTL)
deploy: export MANIFESTS := $(MANIFESTS)
deploy: export IMAGE := $(IMAGE)
deploy: ## Install into the cluster of KUBECTL=kubectl, or upgrade what is there. Settings: IMAGE=name:version MANIFESTS=manifests/overlays/files
	@manifests/deploy.sh

.PHONY: undeploy
undeploy: export KUBECTL := $(KUBECTL)
undeploy: export MANIFESTS := $(MANIFESTS)
undeploy: export KEEP_NODES := $(KEEP_NODES)
undeploy: ## Take everything out of the cluster again, no pod is lost or left waiting. Settings: KUBECTL MANIFESTS KEEP_NODES=1
	@manifests/undeploy.sh

.PHONY: sim
sim: ## Simulate SEEDS=10000 random worlds around the planners and check every promise after every event (five minutes).
	@echo "simulating $(SEEDS) worlds step by step; a seed that breaks a promise is printed with its story"
	@go test ./controller/plan -run '^TestSimulation$$' -count=1 -timeout 30m -args -plan.seeds=$(SEEDS)
	@echo "simulating $(SEEDS) worlds of events, in which caches are late and processes are killed between their writes"
	@go test ./test/whole/simulation -run '^Test(Simulation|Stories)$$' -count=1 -timeout 60m -args -simulation.seeds=$(SEEDS)

# What make test takes a sample of, because the whole does not fit into CI.
.PHONY: soak
soak: sim ## Run whole what make test runs a sample of: SEEDS=10000 worlds of each simulation, ten minutes of attacks on every port, a kill before every write of the provider with each launcher, and of both programs with a Job (an hour and a half), 100 stories each with Karpenter and with Cluster API (three hours).
	@echo "simulating $(SEEDS) worlds of node groups"
	@go test ./provider/nodegroup -run '^TestSimulation$$' -count=1 -timeout 60m -args -nodegroup.seeds=$(SEEDS)
	@echo "attacking every port of both programs for ten minutes"
	@go test ./test/parts/attack -count=1 -timeout 60m -args -attack.for=2m
	@echo "killing the provider before each write of a story, with each launcher, and both programs with a Job"
	@TEST_KILLS=all go test -p 1 ./test/parts/machine ./test/parts/karpenter ./test/parts/clusterapi ./test/parts/kinds -run '^TestKillsAtWrites$$' -count=1 -timeout 60m
	@echo "killing the provider and Karpenter at random moments of $(KARPENTER_SEEDS) stories"
	@go test ./test/parts/karpenter -run '^TestKills$$' -count=1 -timeout 6h -args -karpenter.seeds=$(KARPENTER_SEEDS)
	@echo "killing the provider and Cluster API at random moments of $(CLUSTER_API_SEEDS) stories"
	@go test ./test/parts/clusterapi -run '^TestKills$$' -count=1 -timeout 6h -args -clusterapi.seeds=$(CLUSTER_API_SEEDS)

.PHONY: trace
trace: ## Replay a trace of requests, CSV=path, and compare nodes first with patch first and with nodes that are always on.
	@go run ./test/whole/simulation/cmd/trace -csv '$(CSV)' $(TRACE_FLAGS)

.PHONY: bench
bench: ## Run the benchmarks: the parts' own, then what Cluster Autoscaler, members and all pods see, what a node costs in writes, what a large cluster costs in memory, and where the time of a growth goes (forty minutes).
	@echo "compiling and running the benchmarks of the packages"
	@go test -run '^$$' -bench . $(TEST_FLAGS) $(PACKAGES)
	@echo "compiling and running the benchmark of the provider"
	@go run ./test/whole/bench $(BENCH_FLAGS)
	@echo "compiling and running the benchmark of members"
	@go run ./test/whole/bench/members
	@echo "compiling and running the benchmark of pods"
	@go run ./test/whole/bench/pods
	@echo "compiling and running the benchmark of writes"
	@go run ./test/whole/bench/writes
	@echo "compiling and running the benchmark of memory and processor time"
	@go run ./test/whole/bench/memory
	@echo "compiling and running the benchmark of growths"
	@go run ./test/whole/bench/growths $(GROWTHS_FLAGS)

.PHONY: presubmit
presubmit: ## What has to pass before a change goes in: build, verify, lint, test.
	@whole=$$(date +%s); \
	for stage in build verify lint test; do \
		echo "==== make $$stage"; start=$$(date +%s); \
		$(MAKE) --no-print-directory $$stage || { echo "==== make $$stage failed after $$(($$(date +%s) - start)) s" >&2; exit 1; }; \
		echo "==== make $$stage took $$(($$(date +%s) - start)) s"; \
	done; \
	echo "==== all passed in $$(($$(date +%s) - whole)) s"

# The tools. Each is built again when its module changes.

$(TOOLS)/generate-proto: test/harness/tools/go.mod test/harness/tools/go.sum $(wildcard test/harness/tools/generate-proto/*.go)
	$(call build-tool,test/harness/tools,./generate-proto)

$(TOOLS)/protoc-gen-go: test/harness/tools/go.mod test/harness/tools/go.sum
	$(call build-tool,test/harness/tools,google.golang.org/protobuf/cmd/protoc-gen-go)

$(TOOLS)/protoc-gen-go-grpc: test/harness/tools/go.mod test/harness/tools/go.sum
	$(call build-tool,test/harness/tools,google.golang.org/grpc/cmd/protoc-gen-go-grpc)

$(TOOLS)/controller-gen: test/harness/tools/go.mod test/harness/tools/go.sum
	$(call build-tool,test/harness/tools,sigs.k8s.io/controller-tools/cmd/controller-gen)

$(TOOLS)/golangci-lint: test/harness/tools/lint/go.mod test/harness/tools/lint/go.sum
	$(call build-tool,test/harness/tools/lint,github.com/golangci/golangci-lint/v2/cmd/golangci-lint)

# $(call build-tool,module's directory,package). go build leaves an unchanged binary as old as it was, hence
# the touch.
define build-tool
@echo "building $(@:$(CURDIR)/%=%) from $(1)/go.mod (first time only)"
@mkdir -p $(@D)
@cd $(1) && GOWORK=off go build -trimpath -buildvcs=false -ldflags '-s -w' -o $@ $(2)
@touch $@
endef
