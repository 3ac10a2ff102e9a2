//! The stack tier: Debian's unmodified programs, and `mana testpmd` over the same libraries, on the
//! preloaded device model (`mana model exec`).
//!
//! [`Stack::or_skip`] begins every test. [`Stack::exec`] runs a program of a [`Tree`] by that tree's
//! own dynamic loader, as an ordinary user even where root runs the tests, for a limited time.
//! [`Session`] is a testpmd, Debian's or ours ([`Column`]), that the test watches from the device's
//! side and ends; [`Stats`] are what it counted; [`cell`] is its place in the table of the report.
//! [`tcpdump`] judges frames that left.
//! [`Ethdev`] is a program of this house on Debian's DPDK, for what testpmd has no words for.

mod column;
mod dialogue;
mod difference;
mod ethdev;
mod machine;
mod maps;
pub mod parsers;
mod session;
mod stats;
mod table;
mod tcpdump;
mod tree;

pub use column::Column;
pub use dialogue::{By, Dialogue, Reply, shape};
pub use difference::{Comparison, Difference};
pub use ethdev::{Answer, Ethdev};
pub use machine::Stack;
pub(crate) use maps::are_of;
pub use maps::{mapped, only_child};
pub use session::{Outcome, Session, is_known_of_the_driver_in_c};
pub use stats::{Stats, Stream};
pub use table::cell;
pub use tcpdump::tcpdump;
pub use tree::Tree;

/// Runs the same situations over each stack: a module a column, a test a situation, and a cell of
/// the table for each. A situation is a function from [`Stack`] and [`Column`] to the text of the
/// cell, or has one behind its name: `forwards_on_two_queues = |stack, column| forwards(stack, column, 2);`.
#[macro_export]
macro_rules! situations {
    ($($situation:ident $(= $run:expr;)?)*) => {
        $($(
            fn $situation(stack: &$crate::stack::Stack, column: $crate::stack::Column) -> String {
                let run: fn(&$crate::stack::Stack, $crate::stack::Column) -> String = $run;
                run(stack, column)
            }
        )?)*
        $crate::situations! { @column dpdks_testpmd_over_rdma_core_56 DpdkRdmaCore56 $($situation)* }
        $crate::situations! { @column ours_over_uverbs OursUverbs $($situation)* }
        $crate::situations! { @column ours_over_rdma_core_56 OursRdmaCore56 $($situation)* }
        $crate::situations! { @column ours_over_rdma_core_44 OursRdmaCore44 $($situation)* }
    };
    (@column $module:ident $column:ident $($situation:ident)*) => {
        mod $module {
            $(
                #[test]
                fn $situation() {
                    $crate::stack::situation(
                        concat!(stringify!($module), "::", stringify!($situation)),
                        stringify!($situation),
                        $crate::stack::Column::$column,
                        super::$situation,
                    );
                }
            )*
        }
    };
}

/// Runs one situation, unless `test` is skipped, and writes its cell.
pub fn situation(test: &str, row: &str, column: Column, run: fn(&Stack, Column) -> String) {
    let row = row.replace('_', " ");
    let Some(stack) = Stack::or_skip(test) else {
        cell(&row, column.name(), "skipped");
        return;
    };
    cell(&row, column.name(), "FAILED");
    let text = run(&stack, column);
    cell(&row, column.name(), &text);
}
