# What a developer runs. `make test` installs or finds all that it needs.
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null)
LDFLAGS := -s -w -X main.stamped=$(VERSION)
GOTOOL  := go tool -modfile=tools/go.mod

.PHONY: build schema test soak guards lint fmt cross bench microbench demo

build:
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/ ./cmd/parkbridge

demo:
	go run ./cmd/parkbridge demo

test:
	bash scripts/test

# The generator with its oracle, for as long as SOAK says an engine, and 200
# kills at random moments.
SOAK ?= 10m
soak:
	PARKBRIDGE_SOAK=$(SOAK) PARKBRIDGE_TEST_KILLS=200 PARKBRIDGE_TEST_TIMEOUT=24h \
		bash scripts/test -count=1 -v -run 'TestSoak|TestRandomKills' ./internal/soak ./cmd/parkbridge

# Takes each guard against loss away in turn and looks that a test fails.
guards:
	bash scripts/test -- go run ./scripts/guards

# What editors know of config.yaml, from the Go types that it is read into.
schema:
	go test ./internal/config -run TestSchemaIsFresh -update

lint:
	$(GOTOOL) golangci-lint run ./...

fmt:
	$(GOTOOL) golangci-lint fmt ./...

# The program beside a plain loop on the same rows; docs/performance.md. BENCH
# takes its flags: make bench BENCH='-engines postgres -concurrency 32'.
bench:
	bash scripts/test -- go run ./bench $(BENCH)

microbench:
	bash scripts/test -- go test -run '^$$' -bench . -benchmem ./...

cross:
	for target in linux/amd64 linux/arm64 windows/amd64 windows/arm64; do \
		os=$${target%/*} arch=$${target#*/} ext=; [ $$os = windows ] && ext=.exe; \
		echo "building $$target"; \
		CGO_ENABLED=0 GOOS=$$os GOARCH=$$arch go build -trimpath -ldflags '$(LDFLAGS)' -o bin/$$os-$$arch/parkbridge$$ext ./cmd/parkbridge || exit 1; \
	done
