//! Which indirection tables the kernel can be brought to make (reference/mana-hardware.md §4.6).

use crate::Error;

/// Entries of the hardware's indirection table (reference/mana-hardware.md §3.8).
pub const RSS_TABLE: usize = 64;

/// The receive queues, out of `queues`, that the kernel must be given in this order, so that by repeating
/// them it fills the hardware's table so.
pub(crate) fn order(table: &[u16; RSS_TABLE], queues: usize) -> Result<Vec<u16>, Error> {
    for (entry, queue) in table.iter().copied().enumerate() {
        if usize::from(queue) >= queues {
            return Err(Error::RssTableQueue {
                entry,
                queue,
                queues,
            });
        }
    }
    // The kernel takes each queue once: what is repeated ends where its first queue comes again.
    let again = table.iter().skip(1).position(|queue| *queue == table[0]);
    let period = again.map_or(RSS_TABLE, |at| at + 1);
    let order = &table[..period];
    let twice = (1..period).find(|at| order[..*at].contains(&order[*at]));
    let other = (period..RSS_TABLE).find(|at| table[*at] != order[at % period]);
    match twice.or(other) {
        Some(entry) => Err(Error::RssTable { entry }),
        None if !period.is_power_of_two() => Err(Error::RssTable { entry: period }),
        None => Ok(order.to_vec()),
    }
}

/// The hardware's table where the kernel repeats `order`.
pub(crate) fn table(order: &[u16]) -> [u16; RSS_TABLE] {
    std::array::from_fn(|entry| order[entry % order.len()])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repeated(order: &[u16]) -> [u16; RSS_TABLE] {
        std::array::from_fn(|entry| order[entry % order.len()])
    }

    #[test]
    fn what_a_power_of_two_of_queues_gives_in_any_order_by_repetition_can_be_had() {
        let all: Vec<u16> = (0..64).rev().collect();
        let half: Vec<u16> = (0..64).step_by(2).collect();
        for order_given in [&[3][..], &[0, 1], &[2, 0], &[3, 1, 0, 2], &half, &all] {
            let found = order(&repeated(order_given), 64).unwrap();
            assert_eq!(found, order_given);
            assert_eq!(table(&found), repeated(order_given));
        }
    }

    #[test]
    fn other_tables_are_refused_with_the_first_entry_that_makes_them_so() {
        let refused = |table| match order(&table, 4) {
            Err(Error::RssTable { entry }) => entry,
            other => panic!("{other:?}"),
        };
        assert_eq!(refused(repeated(&[0, 1, 2])), 3);
        assert_eq!(refused(repeated(&[0, 1, 1, 2])), 2);
        assert_eq!(refused(repeated(&[0, 0, 1, 1])), 2);
        let mut table = repeated(&[0, 1, 2, 3]);
        table[63] = 0;
        assert_eq!(refused(table), 63);
        let mut table = repeated(&[2]);
        table[40] = 1;
        assert_eq!(refused(table), 40);
    }

    #[test]
    fn a_queue_that_the_port_does_not_have_is_named_with_its_entry() {
        let mut table = repeated(&[0, 1]);
        table[7] = 2;
        let error = order(&table, 2).unwrap_err().to_string();
        assert!(
            error.contains("entry 7") && error.contains("queue 2"),
            "{error}"
        );
        assert!(order(&table, 0).is_err());
    }
}
