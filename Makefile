# ARGUS. `make help` lists the targets.

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X github.com/useargus/argus.Version=$(VERSION)
GOBUILD := CGO_ENABLED=0 go build -trimpath -ldflags "$(LDFLAGS)"
CONSOLE_SOURCES := testdata/columns.json $(shell find api/console -type f -not -path '*/node_modules/*' -not -path '*/dist/*' -not -path '*/build-*' 2>/dev/null)

# Parts of make test, the longest first.
TESTS := test-go test-replicator test-console test-analytics test-deploy test-interop

.PHONY: help dev build release engines console setup test $(TESTS) race bench crash soak attack lint prose clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

dev: build ## run everything on this machine: engines, API, replicator, console, demonstration data
	@bin/argusd dev

build: engines console ## build bin/argusd and bin/argusctl, the console included
	$(GOBUILD) -o bin/argusd ./argusd
	$(GOBUILD) -o bin/argusctl ./argusctl

# The same bytes wherever and whenever they are built from the same sources by the same Go.
RELEASE ?= bin/release
PLATFORMS ?= linux/amd64 linux/arm64 darwin/amd64 darwin/arm64
release: console ## build both binaries for each platform, with checksums, into bin/release
	rm -rf $(RELEASE) && mkdir -p $(RELEASE)
	@set -e; for platform in $(PLATFORMS); do for name in argusd argusctl; do \
	  echo "$$name $(VERSION) $$platform"; \
	  CGO_ENABLED=0 GOOS=$${platform%/*} GOARCH=$${platform#*/} go build -tags noengines -trimpath -buildvcs=false -ldflags "$(LDFLAGS)" \
	    -o $(RELEASE)/$$name-$(VERSION)-$${platform%/*}-$${platform#*/} ./$$name; \
	done; done
	@cd $(RELEASE) && { command -v sha256sum >/dev/null && sha256sum argus* || shasum -a 256 argus*; } >SHA256SUMS
	@cat $(RELEASE)/SHA256SUMS

engines: internal/engines/node_modules/.package-lock.json ## install PostgreSQL and ClickHouse from npm
internal/engines/node_modules/.package-lock.json: internal/engines/package-lock.json
	cd internal/engines && npm ci --ignore-scripts --no-audit --no-fund
	@touch $@

api/console/node_modules/.package-lock.json: api/console/package-lock.json
	cd api/console && npm ci --ignore-scripts --no-audit --no-fund
	@touch $@

console: api/console/dist/index.html ## build the web console that is embedded in argusd
api/console/dist/index.html: api/console/node_modules/.package-lock.json $(CONSOLE_SOURCES)
	cd api/console && npm run --silent build
	@touch $@

# Two parts run at a time, since each waits for its engines now and then.
test: setup build lint ## everything that must hold, on real engines; about 20 minutes on two cores
	@rm -rf $(UNSTEADY)
	@$(MAKE) --no-print-directory -j 2 $(TESTS)
	@! cat $(UNSTEADY)/* 2>/dev/null | grep . || echo "These tests failed once and passed when they ran again. Find out why, and mend it."

argusctl/testdata/mcp/node_modules/.package-lock.json: argusctl/testdata/mcp/package-lock.json
	cd argusctl/testdata/mcp && npm ci --ignore-scripts --no-audit --no-fund
	@touch $@

setup: argusctl/testdata/mcp/node_modules/.package-lock.json ## provide the programs that tests need: apt, else npm and Go's modules into bin/tools
	@internal/setup/setup.sh test

# The race detector takes analytics and replicator too long as a whole, so here it watches those of their tests in which
# goroutines meet: followers, a store that goes away, the parallel first copy, the lease, the watch over the slot.
RACED := ^(TestClickHouseGoesAwayAndComesBack|TestHedging|TestFollowersSkipAndRepeatNothing|TestFollowAheadOfTheSource|TestFollowFromWhatDoesNotExist|TestSlowFollowerIsToldWhereToResume|TestManyFollowersShareOneSource|TestFirstCopy|TestTwoAtOnce|TestSlotIsWatchedByStandbys)$$

# The engines of the tests keep their data in memory where there is plenty. What Go builds stays on the disk.
$(TESTS): export GOTMPDIR := $(or $(GOTMPDIR),$(TMPDIR),/tmp)
$(TESTS): export TMPDIR := $(shell internal/setup/tmpdir.sh)

# $(call gotest,PACKAGES,FLAGS); lint has vetted what is tested. In CI a test that failed runs once more, so that a busy machine
# refuses no change. What passes then is named when the run ends: it hides a fault of the test or of the product. Nothing runs
# again after a data race, a panic, or more than six failures.
UNSTEADY := $(CURDIR)/bin/unsteady
ifdef CI
gotest = mkdir -p $(UNSTEADY) && go run gotest.tools/gotestsum@v1.13.0 --format pkgname-and-test-fails --format-icons text --hide-summary skipped \
  --rerun-fails=1 --rerun-fails-max-failures 6 --rerun-fails-abort-on-data-race --rerun-fails-report $$(mktemp $(UNSTEADY)/go.XXXXXX) \
  --packages "$(1)" -- -vet=off -timeout 75m $(2)
else
gotest = go test -vet=off -timeout 75m $(2) $(1)
endif

test-go:
	$(call gotest,$$(go list ./... | grep -v -e /analytics$$ -e /replicator$$),-race -p 2)
	cd internal/providers && go vet ./... && $(call gotest,./...) # real OpenID providers; a module of its own
	$(call gotest,./analytics ./replicator,-race -p 1 -run '$(RACED)')

test-replicator test-analytics: test-%:
	$(call gotest,./$*,-skip '$(RACED)')

test-console: build
	cd api/console && npm test --silent

test-deploy: ## check what is in deploy/: a module of its own
	cd deploy/check && go vet ./... && $(call gotest,./...)

test-interop: ## others' programs judge the ledger and what is shipped: modules of their own
	cd ledger/interop && go vet ./... && $(call gotest,./...)
	cd ship/interop && go vet ./... && $(call gotest,./...)

race: build ## all of analytics and replicator under the race detector
	go test -race -timeout 60m -p 1 -count 1 ./analytics ./replicator

crash: build ## the fault tests in full: 100 kills a stage; about an hour
	ARGUS_CRASH_ROUNDS=100 go test -timeout 120m -p 1 -count 1 ./writer ./replicator ./ledger ./api ./argusd

soak: build ## ten minutes of mixed calls with random kills of every process, then the oracle
	ARGUS_SOAK=$${ARGUS_SOAK:-10m} go test -timeout 60m -count 1 -v -run '^TestSoak$$' ./argusd

attack: ## try to break a running make dev, and print tried, held, failed (ARGUS_DEV_DIR names it)
	@test -x bin/argusctl || $(MAKE) --no-print-directory build
	@go run ./internal/attack/cmd

bench: ## measure, and write docs/performance.md; FOCUS=page measures one group, or each that has a figure with the word
	@go run ./internal/figures $(FOCUS)

# Compilers and linters get memory, and give back a seventh of their time.
lint build: export GOGC := 400

lint: api/console/node_modules/.package-lock.json ## gofmt, go vet, staticcheck (staticcheck.conf); the console's formatter and linter (biome.jsonc)
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { gofmt -l $$(git ls-files '*.go'); exit 1; }
	go vet ./...
	go run honnef.co/go/tools/cmd/staticcheck@v0.7.0 ./...
	cd api/console && npm run --silent lint

prose: ## how documents, comments and texts read: words a sentence, the longest, vague words
	@go run ./internal/prose

clean: ## remove what was built; .argus (the data of make dev) stays
	rm -rf bin internal/setup/node_modules api/console/dist/assets api/console/dist/index.html
