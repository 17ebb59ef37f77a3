# Everything a developer or CI runs. `make help` lists the targets.

GO      ?= go
# go.mod names the oldest toolchain without a known hole; an older one fetches it.
export GOTOOLCHAIN := auto
BIN     := bin/fhir-introspection-sidecar
MAIN    := ./cmd/fhir-introspection-sidecar
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
COMMIT  ?= $(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT)

# Tools are pinned here and run by version, so none has to be installed and
# none of their dependencies enters go.mod.
GOLANGCI_LINT ?= $(GO) run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

FUZZTIME  ?= 10s
TESTFLAGS ?=
# Tests that run the program mostly wait for it.
PARALLEL  ?= 4
ARGS      ?=

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help build quick test properties check bench bench-go bench-nginx bench-smoke fuzz demo docs docs-check lint fmt vet cover clean
.PHONY: image image-test release-test sbom protocols upstreams definitions differential clients manifests chart-test dashboards dashboards-pictures e2e-kubernetes guides guards guards-check suites list-suites
.PHONY: faults interop shared-cache soak soak-short standard vulncheck

# Show this list.
help:
	@awk '/^# /      { text = substr($$0, 3); next } \
	      /^[a-z0-9-]+:/ { if (text != "") printf "%-19s %s\n", substr($$1, 1, index($$1, ":") - 1), text } \
	                  { text = "" }' Makefile

# Build the static binary into bin/.
build:
	CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -ldflags '$(LDFLAGS)' -o $(BIN) $(MAIN)

# Scan for known vulnerabilities; where the database can't be reached, say so and fail.
vulncheck:
	deploy/tests/vulncheck.sh

# Build the container image into bin/image.tar; IMAGE names it.
image:
	deploy/image/build.sh bin/image.tar

# Test the image: its content, reproducibility, a run of it, the SBOM.
image-test:
	deploy/tests/image/run.sh

# Publish a release to a registry of its own, verify it, and try to forge it (two minutes).
release-test:
	deploy/tests/release/run.sh

SBOM ?= bin/sbom.spdx.json

# Write the SPDX bill of materials of the binary.
sbom:
	@test -x $(BIN) || $(MAKE) build
	SYFT_CHECK_FOR_APP_UPDATE=false $$(deploy/tests/tool.sh syft) scan -q file:$(BIN) -o spdx-json=$(SBOM)

# Write what is made from the chart's values and the dashboard's panels.
manifests:
	cd deploy/tests/charts && $(GO) test -count=1 -run '^TestDocs' . -update
	deploy/kubernetes/generate.sh
	cd deploy/tests/dashboards && $(GO) run . >../../grafana/dashboard.json

# Test the chart: lint, schemas, Pod Security, settings against the binary, units.
chart-test:
	deploy/tests/charts/run.sh

# Test dashboard and alerts against the binary and a real Prometheus.
dashboards: build
	deploy/tests/dashboards/run.sh

# Draw the dashboard's pictures for docs/, from a live run.
dashboards-pictures: build
	deploy/tests/dashboards/run.sh -screenshots docs/images

# Install the sidecar in a real Kubernetes, in every way, and try to break it.
e2e-kubernetes:
	deploy/tests/kubernetes/run.sh

# Follow what README and guides give to paste, as far as it needs no cluster (half a minute).
guides:
	deploy/tests/guides/run.sh

# Take each guard out of a copy of the tree and show that a test notices.
guards:
	deploy/tests/guards/run.sh

# Look whether every guard, and every test that notices its loss, is still there.
guards-check:
	deploy/tests/guards/run.sh -stale

SUITES := standard image-test release-test chart-test dashboards protocols bench-smoke upstreams definitions differential clients faults shared-cache interop soak-short guides guards e2e-kubernetes

# Run the long suites, as CI does after check.
suites: $(SUITES)

# Print the names of the long suites.
list-suites:
	@echo $(SUITES)

# Turn h2spec, testssl.sh and slowhttptest on the binary (a minute).
protocols: build
	deploy/tests/protocols/run.sh

# Send every path trick through the binary to nginx, Jetty and Tomcat (half a minute).
upstreams: build
	deploy/tests/upstreams/run.sh

# Hold the patient guard against a FHIR server: 100,000 URLs; FHIR_SERVER names another one.
differential:
	deploy/tests/differential/run.sh

# Have fhirclient, fhir-kit-client and pages in Chromium ask through the binary (a minute).
clients: build
	deploy/tests/clients/run.sh

# Compare the tables made from the definitions of FHIR R4 with them; WRITE=1 writes them.
definitions:
	deploy/tests/definitions/run.sh

# Put the binary between real authorization servers, FHIR servers, proxies and clients.
interop: build
	deploy/tests/interop/run.sh

FAULTFLAGS ?= -rolling 1m -flood 15s
SOAK_TIME  ?= 20m

# Break the network, flood, restart, rotate under load; FAULTFLAGS= for the full length.
faults: build
	deploy/tests/faults/run.sh -skip '^TestSoak$$' $(FAULTFLAGS)

# Share verdicts between replicas through real stores, and break those (three minutes).
shared-cache: build
	deploy/tests/sharedcache/run.sh

# Load and random faults for SOAK_TIME (default 20m): nothing may grow.
soak: build
	deploy/tests/faults/run.sh -run '^TestSoak$$' -soak $(SOAK_TIME) -timeout 0

# Soak for two minutes.
soak-short: SOAK_TIME = 2m
soak-short: soak

# Run the tests that take less than two seconds each, without the race detector.
quick: guards-check
	$(GO) test -short -parallel $(PARALLEL) $(TESTFLAGS) ./...

# Run all tests with the race detector, the proxy's without fast path too; TESTFLAGS adds flags.
test:
	CGO_ENABLED=1 $(GO) test -race -parallel $(PARALLEL) $(TESTFLAGS) ./...
	CGO_ENABLED=1 $(GO) test -race -short -parallel $(PARALLEL) $(TESTFLAGS) ./proxy -standard

# Run the black-box tests and the catalogue without the fast path (a minute and a half).
standard:
	$(GO) test -count=1 -parallel $(PARALLEL) $(MAIN) -standard

# Hold what must be true of every request against forty times as many made-up ones.
properties:
	$(GO) test -count=1 -timeout 60m -v -run '^TestProperty' ./proxy $(MAIN) -properties 40

# Run what CI runs: build, vet, lint, guards found, tests, docs drift, short fuzz, demo.
check: build vet lint guards-check test docs-check fuzz demo
check: FUZZTIME = 2000x
check: ARGS = -once

# Run the Go benchmarks, then measure the sidecar beside other proxies.
bench: bench-go bench-nginx

# Run the Go benchmarks, the cache hit path among them.
bench-go:
	$(GO) test -run '^$$' -bench . -benchmem ./...

# Measure the sidecar beside nginx, nginx+Lua and HAProxy+Lua; ARGS are passed on (-h).
bench-nginx: build
	deploy/bench/run.sh $(ARGS)

# Prove that every proxy of bench-nginx still serves every case (ten seconds).
bench-smoke: build
	deploy/bench/run.sh -smoke

# Without a bound on minimising, a short run does little else. `make check` counts
# executions: at the end of a time Go's fuzzer now and then reports its own
# deadline as a failure, which tells nothing about the target.
FUZZFLAGS = -run '^$$' -fuzztime $(FUZZTIME) -fuzzminimizetime 100x

# Run every fuzz target in the tree for FUZZTIME each (default 10s, or 2000x).
fuzz:
	@set -e; \
	for file in $$(grep -rl --include='*_test.go' '^func Fuzz' . | sort); do \
		for name in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' "$$file"); do \
			echo "fuzz $$(dirname "$$file") $$name $(FUZZTIME)"; \
			$(GO) test $(FUZZFLAGS) -fuzz "^$$name\$$" "$$(dirname "$$file")"; \
		done; \
	done

# Build, then show the sidecar at work against fakes; ARGS: -v, -step, -once.
demo: build
	$(GO) build -o bin/demo ./cmd/demo
	@# In a process group of its own, so that Ctrl-C is the demo's and not make's.
	@if [ -t 0 ]; then set -m; COLUMNS=$$(stty size | cut -d' ' -f2); export COLUMNS; fi; \
		bin/demo -sidecar $(BIN) $(ARGS)

# Rewrite the generated parts of README.md and docs/.
docs:
	$(GO) test -count=1 -run '^TestDocs' ./cmd/internal/app ./proxy -update
	deploy/tests/guards/run.sh -update

# Fail when the generated parts of README.md or docs/ are stale.
docs-check:
	$(GO) test -count=1 -run '^TestDocs' ./cmd/internal/app ./proxy

# Run golangci-lint, gofumpt's format check included.
lint:
	$(GOLANGCI_LINT) run

# Format the Go code with gofumpt.
fmt:
	$(GOLANGCI_LINT) fmt

# Run go vet, and look whether the suites' modules require what they import.
vet:
	$(GO) vet ./...
	@for module in $$(git ls-files 'deploy/**/go.mod'); do \
		(cd "$$(dirname "$$module")" && $(GO) list -deps -test ./... >/dev/null) || exit 1; \
	done

# Write coverage.out and print the total.
cover:
	$(GO) test -coverprofile coverage.out -coverpkg ./... ./...
	$(GO) tool cover -func coverage.out | tail -n 1

# Remove what the other targets made.
clean:
	rm -rf bin coverage.out
