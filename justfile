# The commands of the project. `just` lists them.

_list:
    @just --list --unsorted

# compile without building
check:
    cargo check --locked --all-targets

# format everything
fmt:
    cargo fmt --all

# what the lints say
lint:
    cargo fmt --all --check
    cargo clippy --locked --workspace --all-targets -- -D warnings

# all tests, or those that match: just test -E 'test(cadence)'
test *arguments:
    scripts/test {{arguments}}

# the house rules alone
tidy:
    cargo nextest run --locked --test suite -E 'test(tidy)'

# run the server from the sources
serve *flags:
    cargo run --locked -- serve {{flags}}

# licences, sources and banned crates (needs cargo-deny)
deny:
    cargo deny --locked check bans licenses sources

# exactly what must pass before a merge
ci:
    .ci/run
