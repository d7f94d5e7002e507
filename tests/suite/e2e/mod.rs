//! The whole product from outside: the real binary on either store, with a ledger of its own.

mod actors;
mod admission;
mod alerts;
mod boundaries;
mod breakers;
mod clocks;
mod crashes;
mod definitions;
mod disk;
mod events;
mod history;
mod interventions;
mod load;
mod logs;
mod main_job;
mod nodes;
mod outages;
mod policies;
mod processes;
mod readme;
mod server;

/// Waits between two looks, or until a moment that is not waited for (a crash).
#[expect(clippy::disallowed_methods, reason = "these tests are no actors and block nobody")]
fn pause(for_so_long: std::time::Duration) {
    std::thread::sleep(for_so_long);
}

/// Makes each law a test on either store.
macro_rules! on_both_stores {
    ($($law:ident,)+) => {
        mod sqlite {
            $(#[test]
            fn $law() {
                super::$law(super::Backend::Sqlite);
            })+
        }
        mod postgres {
            $(#[test]
            fn $law() {
                super::$law(super::Backend::Postgres);
            })+
        }
    };
}
use on_both_stores;
