# Evento. `make` alone lists the targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help

BIN := bin/evento

# Two compilers and two test programs at a time: each of them uses several processors itself.
GOFLAGS_P := -p 2
PACKAGES := ./...

##@ Run

.PHONY: run
run: build ## build evento and run everything on this machine (broker, Redis, gateway, the bank's functions)
	./$(BIN) dev $(ARGS)

.PHONY: demo
demo: build ## a tour of what make run has started, in another terminal; ARGS="--plain"
	@./$(BIN) demo $(ARGS)

.PHONY: build
build: tools ## build bin/evento
	@[ -e $(BIN) ] || echo "building $(BIN); the first time takes some minutes"
	@go build -o $(BIN) ./cmd/evento

##@ Test

.PHONY: test
test: tools ## all tests that need no server: embedded broker and Redis, race detector
	go test -race $(GOFLAGS_P) -timeout 30m $(PACKAGES)

.PHONY: test-real
test-real: tools ## the same suite on a real Apache Kafka and redis-server, which are fetched and started
	scripts/with-real go test $(GOFLAGS_P) -count=1 -timeout 40m $(PACKAGES)

.PHONY: simulate
simulate: tools ## whole installations played in virtual time, each from its seed; SEEDS=5000 FROM=1, or SEED=7 for the history of one
	go test -count=1 -timeout 60m -v -run 'TestSimulation$$' ./internal/simulate/ $(if $(SEED),-seed $(SEED),-seeds $(or $(SEEDS),5000) -from $(or $(FROM),1))

.PHONY: proof
proof: tools ## the promises proved from the outside on real Kafka, 20,000 commands; ARGS="-proof.seed 7"
	scripts/with-real go test -count=1 -timeout 30m -v ./internal/proof/ -proof.commands 20000 -proof.copyage 1m $(ARGS)

.PHONY: faults
faults: tools ## the fault campaign on three real brokers, hours of it, a table in build/faults.md; ARGS="-faults.repeat 3"
	@rm -f build/faults.md build/faults.json
	go test -count=1 -timeout 12h -v -run '^TestFaults$$' ./internal/proof/ -faults -faults.all -faults.report build/faults.md $(ARGS)

.PHONY: faults-ci
faults-ci: tools ## the faults of the campaign that fit ten minutes
	go test -count=1 -timeout 20m -v -run '^TestFaults$$' ./internal/proof/ -faults -faults.report build/faults-ci.md $(ARGS)

TIME := 30s

.PHONY: fuzz
fuzz: tools ## every fuzz target one after the other, each for TIME=30s; what is found becomes a test
	scripts/fuzz $(TIME)

.PHONY: lint
lint: tools ## gofmt and go vet
	@unformatted=$$(git ls-files -z --cached --others --exclude-standard -- '*.go' | xargs -0 -r gofmt -l); \
	if [ -n "$$unformatted" ]; then echo "not formatted, run gofmt -w:"; echo "$$unformatted"; exit 1; fi
	go vet $(GOFLAGS_P) $(PACKAGES)
	go -C examples/consumers vet $(PACKAGES)

.PHONY: check
check: lint test ## what must be green before a commit

##@ Measure

.PHONY: bench
bench: build ## evento bench on everything embedded; ARGS="all -c 128 -d 30s"
	./$(BIN) bench --dev $(ARGS)

.PHONY: bench-real
bench-real: build ## evento bench on a real Kafka and Redis
	scripts/with-real ./$(BIN) bench --real $(ARGS)

##@ Other

.PHONY: clean
clean: ## remove what was built (data in .evento/ stay)
	rm -rf bin

.PHONY: tools
tools: # what everything needs; said in words, because the compiler's own words are hard to read
	@command -v go >/dev/null || { echo "go is missing: install Go 1.26 or newer from https://go.dev/dl"; exit 1; }
	@command -v "$$(go env CC)" >/dev/null || { echo "a C compiler ($$(go env CC)) is missing: the Kafka client librdkafka is linked with it; on Debian: apt install gcc libc6-dev"; exit 1; }

.PHONY: help
help: ## this list
	@awk 'BEGIN {FS = ":.*## "} \
	  /^##@/ {printf "\n%s\n", substr($$0, 5)} \
	  /^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
