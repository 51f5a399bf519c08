//! Two tasks: one that can be rolled back, and one that requires the value that the first provides.

use waft_guest::prelude::*;

/// The number of seats at the largest table.
const MAX_SEATS: u32 = 12;

/// A table that was reserved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Table {
    /// Its number.
    pub number: u32,
    /// The number of its seats.
    pub seats: u32,
}

/// Reserves a table that is large enough.
#[task(provides = "table", rollback = release_table)]
fn reserve_table(
    /// The number of guests.
    guests: u32,
) -> Result<Table, Failure> {
    if guests > MAX_SEATS {
        let message = format!("no table has {guests} seats: the largest has {MAX_SEATS}");
        return Err(Failure::permanent(message));
    }
    let seats = guests.next_multiple_of(4);
    let number = 1 + seats / 4;
    log::info!("reserved table {number}, which has {seats} seats");
    Ok(Table { number, seats })
}

/// Cancels the reservation. The outcome says how `reserve_table` ended.
fn release_table(table: Outcome<Table>) -> Result<(), Failure> {
    match table {
        Outcome::Provided(table) => log::info!("released table {}", table.number),
        Outcome::Failed(_) => log::info!("nothing was reserved"),
        // The result was lost, so check whether there is a reservation.
        Outcome::Unknown => log::info!("there was no reservation"),
    }
    Ok(())
}

/// Writes an invitation to the table.
#[task(provides = "invitation")]
fn invite(
    /// Where the guest will sit.
    table: Table,
    /// Who is invited.
    who: Option<String>,
) -> Result<String, Failure> {
    let who = who.as_deref().unwrap_or("friend");
    if who.is_empty() {
        return Err(Failure::permanent("there is nobody to invite"));
    }
    let number = table.number;
    Ok(format!("Dear {who}, please come to table {number}."))
}

waft_guest::export!(reserve_table, invite);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_a_seat_for_everybody() {
        let table = reserve_table(5).unwrap();
        assert_eq!((table.number, table.seats), (3, 8));
    }

    #[test]
    fn too_many_guests_are_a_failure() {
        let failure = reserve_table(13).unwrap_err().to_string();
        assert_eq!(failure, "no table has 13 seats: the largest has 12");
    }

    #[test]
    fn an_invitation_names_its_guest() {
        let table = reserve_table(5).unwrap();
        let invitation = invite(table, Some("Ada".into())).unwrap();
        assert_eq!(invitation, "Dear Ada, please come to table 3.");
    }
}
