EXTENSION = ringfence
EXTVERSION := $(shell sed -n "s/^default_version *= *'\(.*\)'/\1/p" $(EXTENSION).control)
MODULE_big = $(EXTENSION)
OBJS = $(patsubst %.c,%.o,$(sort $(wildcard src/*.c)))
PG_CPPFLAGS = -DRINGFENCE_VERSION='"$(EXTVERSION)"'
PG_CFLAGS = -Wall -Wextra -Wshadow -Wno-unused-parameter -Wno-sign-compare \
	-Wno-missing-field-initializers
SHLIB_LINK = -lcrypto

# Install order: a file may use only what stands before it.
SQL_FILES = $(addprefix sql/, header.sql context.sql jwt.sql isolation.sql \
	audit.sql seal.sql idempotency.sql ledger.sql ledger_books.sql ledger_seal.sql ledger_verify.sql \
	guard.sql foreign_keys.sql geo.sql adopt.sql csv_read.sql \
	retention_rules.sql retention.sql retention_statement.sql holds.sql retention_run.sql jobs.sql partitions.sql tombstones.sql erasure.sql consents.sql \
	org_end.sql csv.sql export.sql export_job.sql \
	verify_tables.sql verify_reach.sql verify_keys.sql verify_audit.sql verify_ledger.sql \
	verify_retention.sql require_foreign_keys.sql \
	verify_references.sql verify.sql \
	prove.sql apps.sql)

# Apps, and the files of each in install order; header.sql names the app and
# makes its schemas. Each becomes ringfence-APP--VERSION.sql.
APPS = core cleaning merchant
APP_core = header.sql orgs.sql audit.sql audit_access.sql seal.sql \
	idempotency.sql ledger.sql ledger_access.sql ledger_api.sql access.sql members.sql \
	retention.sql jobs.sql partitions.sql tombstones.sql erasure.sql consents.sql org_end.sql exports.sql formats.sql
APP_cleaning = header.sql money.sql clients.sql teams.sql bookings.sql \
	invoices.sql payments.sql leads.sql photos.sql work.sql access.sql labels.sql api.sql actions.sql \
	subjects.sql imports.sql retention.sql reports.sql exports.sql
APP_merchant = header.sql settings.sql places.sql merchants.sql drivers.sql intents.sql \
	sessions.sql visits.sql nova.sql access.sql labels.sql api.sql nearby.sql exclusives.sql \
	redemption.sql office.sql claim_links.sql subjects.sql retention.sql exports.sql

APP_SCRIPTS = $(foreach app,$(APPS),apps/$(EXTENSION)-$(app)--$(EXTVERSION).sql)

DATA = $(wildcard sql/updates/*.sql)
DATA_built = sql/$(EXTENSION)--$(EXTVERSION).sql $(APP_SCRIPTS)

REGRESS = $(patsubst test/sql/%.sql,%,$(sort $(wildcard test/sql/*.sql)))
REGRESS_OPTS = --inputdir=test --outputdir=test/out
ISOLATION = isolation_setup $(filter-out isolation_%, \
	$(patsubst test/specs/%.spec,%,$(sort $(wildcard test/specs/*.spec)))) isolation_teardown
ISOLATION_OPTS = --inputdir=test --outputdir=test/out
EXTRA_CLEAN = test/out

# Warnings are errors in CI and on request, not for users.
ifneq ($(filter 1 true,$(CI) $(WERROR)),)
PG_CFLAGS += -Werror
endif

# Goals below that bring what they need themselves, PostgreSQL included: alone,
# they need no PGXS.
OWN_GOALS = check lint indent indent-check bench coverage fuzz demo demo-stop

PG_CONFIG ?= pg_config
ifneq ($(filter-out $(OWN_GOALS),$(or $(MAKECMDGOALS),all)),)
PGXS := $(shell $(PG_CONFIG) --pgxs)
# A server built with LLVM wants bitcode too; without its clang we do without.
SERVER_CLANG := $(shell sed -n 's/^CLANG *= *//p' $(dir $(PGXS))../Makefile.global)
ifeq ($(shell command -v $(or $(CLANG),$(SERVER_CLANG),clang)),)
override with_llvm = no
endif
include $(PGXS)
endif

$(OBJS) $(OBJS:.o=.bc): $(wildcard src/*.h) $(EXTENSION).control

sql/$(EXTENSION)--$(EXTVERSION).sql: $(SQL_FILES)
	cat $^ > $@

define app_script
apps/$$(EXTENSION)-$(1)--$$(EXTVERSION).sql: $$(addprefix apps/$(1)/,$$(APP_$(1)))
	cat $$^ > $$@
endef
$(foreach app,$(APPS),$(eval $(call app_script,$(app))))

.PHONY: $(OWN_GOALS)

export PG_CONFIG

# Every test in a private cluster; closes with "N passed, M failed". PGXS has
# a target of this name, which ours replaces where it is asked for.
ifneq ($(filter check,$(MAKECMDGOALS)),)
check:
	@test/run
endif

# Formatting, static analysis, plpgsql_check, the conventions.
lint:
	@test/run lint

# Rewrites src/ in the project's layout; indent-check only compares.
indent:
	@test/lint/indent.sh --write

indent-check:
	@test/lint/indent.sh

# Measurements of test/bench/, on a cluster of their own.
bench:
	@test/run bench

# Line coverage of src/ by the tests, as HTML in coverage/.
coverage:
	@test/run coverage

# FUZZ_SECONDS shared by the harnesses of test/fuzz/.
fuzz:
	@test/run fuzz

# A private cluster with three organizations, and requests to it.
demo:
	@demo/demo.sh

demo-stop:
	@demo/stop.sh
