# Two commands: `make run` shows Weir at work on this machine, `make test` checks all of it.
# Everything below works from a fresh clone; what is missing is fetched or named (scripts/prepare).

SHELL := /bin/bash
# Outside of the checkout, so that a fresh clone does not start from nothing.
export CARGO_TARGET_DIR ?= $(HOME)/.cache/weir/target
# Further arguments for `weir up`: make run ARGS='--listen 127.0.0.1:8000'
ARGS ?=

.PHONY: help run build ui test test-rust test-ui test-kubernetes fuzz manifests image e2e fmt lint bench prepare clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## build, start `weir up --demo`, print the login link
	@scripts/run $(ARGS)

build: ## build the release binary with the page in it
	@scripts/build release

ui: ## build ui/dist if its sources changed
	@scripts/ui

test: ## all tests: the page's, the browser's, the workspace's
	@scripts/test

test-rust: ## the workspace's tests only
	@scripts/test rust

test-ui: ## the page's unit tests only
	@scripts/test ui

test-kubernetes: ## build kube-apiserver and helm once (minutes), and test against them; needs Go and etcd
	@scripts/kubernetes

fuzz: ## each parser under a fuzzer for FUZZ_SECONDS (300), all processors
	@scripts/fuzz $(TARGETS)

manifests: ## render deploy/manifests from the chart; needs Go
	@scripts/helm render

image: ## a container image of the release binary, without Docker: deploy/image.tar
	@scripts/image

e2e: ## the page in a real browser against the demo
	@scripts/test e2e

fmt: ## format
	@scripts/cargo fmt --all

lint: ## format check, and clippy with warnings denied
	@scripts/cargo fmt --all --check
	@scripts/cargo clippy --workspace --all-targets --locked -- -D warnings

bench: ## measure and check; one JSON object a benchmark (capture needs root)
	@scripts/bench

prepare: ## fetch what a build and the tests need, without building
	@scripts/prepare test

clean: ## remove build output
	@scripts/cargo clean
