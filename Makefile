# Everything a person or CI does with this repository. `make help` lists it.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.ONESHELL:
MAKEFLAGS += --no-print-directory

BIN := $(CURDIR)/bin
export PATH := $(BIN):$(PATH)
export CGO_ENABLED := 0
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
GO_FILES = $(shell git ls-files '*.go' go.mod go.sum)

# golangci-lint, controller-gen and the protobuf plugins are pinned in tools/go.mod.
TOOL := go tool -modfile=$(CURDIR)/tools/go.mod
MODULES := . local test/compat test/clients

##@ Use

.PHONY: help
help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: run
run: build ## Start the platform here, deploy examples/hello and call it from zero; Ctrl-C ends it
	@exec $(BIN)/ebb up --try ./examples/hello

.PHONY: demo
demo: build ## The whole main job, checked and timed step by step; ends by itself
	@exec $(BIN)/ebb demo

.PHONY: build
build: ebb kube envoy ## Build all programs into bin/ (the first time takes about six minutes on two cores)

.PHONY: ebb
ebb: ## Build bin/ebb
	@mkdir -p $(BIN)
	@echo "building ebb"
	@go build -trimpath -ldflags "-s -w -X main.version=$(VERSION)" -o $(BIN)/ebb ./cmd/ebb

.PHONY: kube
kube: ## Build the control plane and the node of the embedded default (bin/ebb-kube, ebb-node, ebb-shim)
	@local/build.sh $(BIN)

.PHONY: envoy
envoy: ebb ## Fetch Envoy, unless $$ENVOY or the PATH has one
	@$(BIN)/ebb envoy >/dev/null

##@ On a cluster

IMAGE_REPOSITORY ?=
IMAGE_ARCH ?= amd64,arm64

.PHONY: images
images: ## Build the images ebb and ebb-gateway; IMAGE_REPOSITORY=HOST/PATH pushes them there, else out/images has them (GATEWAY_BASE=IMAGE, IMAGE_ARCH=amd64)
	@mkdir -p $(CURDIR)/out/tools
	@go build -o $(CURDIR)/out/tools/ebb-images ./cmd/ebb-images
	@$(CURDIR)/out/tools/ebb-images --version=$(VERSION) --revision=$$(git rev-parse HEAD 2>/dev/null || true) --created=$$(git log -1 --format=%ct 2>/dev/null || echo 0) \
		--arch=$(IMAGE_ARCH) $(if $(IMAGE_REPOSITORY),--repository=$(IMAGE_REPOSITORY)) $(if $(GATEWAY_BASE),--gateway-base=$(GATEWAY_BASE))

##@ Check

.PHONY: check
check: ## Format, vet, lint, generated files, unit and golden tests
	@test/check.sh

.PHONY: test
test: build ## All tests that need no root: check, real Envoy, end to end on the embedded default
	@test/all.sh

.PHONY: test-cluster
test-cluster: build ## Tests on a real kubelet, as root: a node comes up, Ebb is installed on it, tested and uninstalled, the node goes
	@test/cluster-test.sh

.PHONY: vuln
vuln: ## Known vulnerabilities in what the program uses, by a pinned snapshot of the Go database
	@test/vuln.sh

.PHONY: bench
bench: build ## Benchmarks, beside references measured in the same run (ARGS=-quick: a try; ARGS=-help: more)
	@test/bench.sh $(ARGS)

.PHONY: bench-events
bench-events: ebb ## The way of an event beside bare JetStream in the same run, into out/bench-events.json (ARGS=-help: more)
	@go run ./test/benchevents $(ARGS)

.PHONY: bench-cluster
bench-cluster: build ## Cold starts on a real kubelet beside a plain Deployment, as root (ARGS=-quick: a try)
	@test/bench-cluster.sh $(ARGS)

.PHONY: generate
generate: ## Regenerate what is generated: deepcopy, CRDs, protobuf, golden files
	@test/generate.sh

.PHONY: clean
clean: ## Remove what was built
	@rm -rf $(BIN) out
