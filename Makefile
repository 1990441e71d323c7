# What there is to do with this project. `make` alone lists it.
# Needs Go, GNU make, a C compiler, git and curl. SoftHSM is installed where missing.

DIR      ?= demo
FUZZTIME ?= 30s
BENCH    ?=
FAULTS   ?=
ATTACK   ?=
NOISY    ?=
RELOADS  ?=
VENDORS  ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/xks-proxy-vendors
DECRYPTS ?= 100000
PREFIX   ?= /usr/local
DESTDIR  ?=

# On the command line only: a variable of that name in the environment is often somebody else's.
VERSION =

BIN := bin/xks-proxy
STAMP := -X 'xks-proxy/internal/version.stamped=$(VERSION)'
TARGETS := help build man install install-test demo demo-once check test lint fuzz bench faults chaos reloads attack noisy busy vendors softhsm p11kit promtool faulty clean

.PHONY: $(TARGETS)
.DEFAULT_GOAL := help

help: ## List what there is to do
	@echo 'make TARGET, where TARGET is one of'
	@sed -n 's/^\([a-z0-9-]*\):[^#]*## \(.*\)/  \1\t\2/p' Makefile | expand -t 16
	@echo
	@echo 'Variables: DIR=$(DIR) (of the demo)  FUZZTIME=$(FUZZTIME) (of each fuzz target)  BENCH="-keys 1 -rounds 5" or "-stores 1000" (options)'
	@echo '           FAULTS="-short" or "-fault hang -rate 600 -target hsm-a" or "-for 1m -seed 7" (options of faults and chaos)'
	@echo '           RELOADS="-reloads 500 -reload-rate 200 -reload-strict" (options of reloads)'
	@echo '           ATTACK="-short" or "-attack smuggling -seed 7" (options of attack)'
	@echo '           DECRYPTS=$(DECRYPTS) (of each row of busy)'
	@echo '           PREFIX=$(PREFIX) DESTDIR="" (of install)'
	@echo '           VERSION=v1.2.3 (of build, and of each target that builds; otherwise the tag or commit)'
	@echo '           NOISY="-seconds 60 -quota 200 -noise 2000" (options of noisy)'

build: ## Build bin/xks-proxy
	@mkdir -p bin
	@case '$(VERSION)' in *[!A-Za-z0-9.+_-]*) \
		echo 'VERSION: use letters, digits and . + _ - only, as in v1.2.3' >&2; exit 1;; \
	esac
	go build -trimpath -buildvcs=auto -ldflags "$(STAMP)" -o $(BIN) ./cmd/xks-proxy

man: build ## Write the manual pages to man/
	$(BIN) man man

# What is in the unit follows PREFIX. Nothing below /etc is touched: that is the operator's.
SHARED = $(DESTDIR)$(PREFIX)/share
DOCUMENTS = $(SHARED)/doc/xks-proxy
install: ## Install bin/xks-proxy, its unit, manual pages, completions, documents and examples below PREFIX
	@test -x $(BIN) || { echo 'bin/xks-proxy is missing: run make build first (it needs no root)' >&2; exit 1; }
	install -d '$(DESTDIR)$(PREFIX)/bin' '$(DESTDIR)$(PREFIX)/lib/systemd/system'
	install -m 0755 $(BIN) '$(DESTDIR)$(PREFIX)/bin/xks-proxy'
	sed 's|/usr/local/|$(PREFIX)/|g' configs/xks-proxy.service >'$(DESTDIR)$(PREFIX)/lib/systemd/system/xks-proxy.service'
	chmod 0644 '$(DESTDIR)$(PREFIX)/lib/systemd/system/xks-proxy.service'
	install -d '$(DOCUMENTS)/examples/policies' '$(DOCUMENTS)/examples/key_stores.d'
	install -m 0644 README.md CHANGELOG.md docs/*.md '$(DOCUMENTS)/'
	install -m 0644 configs/*.yaml configs/*.logrotate '$(DOCUMENTS)/examples/'
	install -m 0644 configs/policies/* '$(DOCUMENTS)/examples/policies/'
	install -m 0644 configs/key_stores.d/* '$(DOCUMENTS)/examples/key_stores.d/'
	install -d '$(SHARED)/bash-completion/completions' '$(SHARED)/zsh/site-functions' '$(SHARED)/fish/vendor_completions.d'
	$(BIN) completion bash >'$(SHARED)/bash-completion/completions/xks-proxy'
	$(BIN) completion zsh >'$(SHARED)/zsh/site-functions/_xks-proxy'
	$(BIN) completion fish >'$(SHARED)/fish/vendor_completions.d/xks-proxy.fish'
	install -d '$(SHARED)/man/man1'
	$(BIN) man '$(SHARED)/man/man1'

install-test: build ## Follow docs/install.md on a clean Debian under systemd (root; debootstrap, systemd-nspawn)
	go test ./test -run '^TestInstallDocument$$' -count 1 -v -timeout 20m -args -clean-machine

demo: softhsm build ## Serve two software HSMs at https://127.0.0.1:8443 until Ctrl-C
	@exec $(BIN) demo --dir '$(DIR)'

demo-once: softhsm build ## The same with all checks, then stop: exit code 0 or 1
	@exec $(BIN) demo --dir '$(DIR)' --exit

check: lint ## The inner loop: lint, and unit tests without -race
	go test -p 4 -timeout 10m ./pkg/... ./internal/... ./cmd/... # they mostly wait: side by side

test: softhsm p11kit promtool ## Vet, unit tests with -race, end-to-end tests with the real program
	go vet ./...
	go test -race -timeout 10m ./pkg/... ./internal/... ./cmd/...
	go test -timeout 14m ./test/...
	@if test "$$(id -u)" != 0; then \
		echo 'Not root, so these were not tried; CI tries them:'; \
		grep -rhoE --include='*_test.go' 'asroot\.Needed\(t, "[^"]*"' cmd internal pkg test | cut -d '"' -f 2 | sort | sed 's/^/  - /'; \
	fi

lint: softhsm ## gofmt, vet, staticcheck, import rules, sizes of files and lines, shell syntax
	@unformatted=$$(gofmt -l cmd internal pkg test); test -z "$$unformatted" || { echo "run gofmt -w on: $$unformatted" >&2; exit 1; }
	go vet ./...
	go tool staticcheck ./...
	go test -run '^(TestImport|TestSource)' ./test
	sh -n test/softhsm.sh
	sh -n test/p11kit.sh
	sh -n test/promtool.sh
	sh -n test/vendors/build.sh
	sh -n test/systemd.sh
	sh -n test/logrotate.sh
	for script in test/install/*.sh test/install/stand-in/*; do sh -n "$$script" || exit 1; done
	bash -n .ci/run

fuzz: ## Run every fuzz target in turn, FUZZTIME each
	@grep -rn --include='*_test.go' '^func Fuzz' pkg internal cmd test | \
	sed 's/^\(.*\)\/[^/]*:[0-9]*:func \(Fuzz[A-Za-z0-9_]*\).*/\1 \2/' | sort -u | \
	while read -r package target; do \
		echo "== $$package $$target"; \
		go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) "./$$package" || exit 1; \
	done

bench: softhsm build ## What an operation costs, as a ratio to a bare HTTPS echo (docs/performance.md)
	go run ./test/bench -proxy $(BIN) $(BENCH)

faults: softhsm build ## What becomes of requests while an HSM misbehaves: fault x load (docs/resilience.md)
	go run ./test/faults -proxy $(BIN) $(FAULTS)

chaos: softhsm build ## Random faults under load for ten minutes, then what must not have changed
	go run ./test/faults -proxy $(BIN) -chaos $(FAULTS)

reloads: softhsm ## A hundred reloads of every kind at 1000 requests a second: none fails
	go test ./test -run '^TestReloadsUnderLoad$$' -count 1 -v -timeout 20m -args -reloads 100 -reload-rate 1000 $(RELOADS)

attack: softhsm build ## Attack the running program, a million mutants and more (docs/security.md)
	go run ./test/attack -proxy $(BIN) $(ATTACK)

noisy: softhsm build ## What a quiet key store feels of one that asks for ten times its quota
	go run ./test/noisy -proxy $(BIN) $(NOISY)

busy: softhsm ## Good ciphertexts on HSMs of which a share of all calls fails: none is called invalid
	go test ./test -run '^TestBusyHSMs$$' -count 1 -v -timeout 60m -args -busy-decrypts $(DECRYPTS)

vendors: softhsm build ## Pairs of SoftHSM with kryoptic, p11-kit and FreeHSM, built in VENDORS (docs/hsms.md)
	sh test/vendors/build.sh '$(VENDORS)'
	go run ./test/faults -proxy $(BIN) -vendors '$(VENDORS)' $(FAULTS)

softhsm: ## Install SoftHSM if it is missing
	@sh test/softhsm.sh install >/dev/null

p11kit: softhsm ## Install p11-kit-proxy.so if it is missing (a member of the pair in one test)
	@sh test/p11kit.sh install >/dev/null

promtool: ## Take promtool from Debian's package if it is missing (it tests the alert rules)
	@sh test/promtool.sh install >/dev/null

faulty: softhsm ## Build bin/faulty.so, a PKCS#11 module that fails on command (test/faulty)
	@mkdir -p bin
	gcc -O2 -Wall -Werror -fPIC -shared -pthread -DSOFTHSM="\"$$(sh test/softhsm.sh)\"" -o bin/faulty.so test/faulty/module/*.c -ldl

clean: ## Remove bin/ and the demo's directory (its keys, too)
	rm -rf bin
	@if test -e '$(DIR)/.xks-proxy-demo'; then echo "rm -rf $(DIR)"; rm -rf -- '$(DIR)'; fi
