//! `ringway repair`: what receivers do in passing, done now for the whole store.

use super::Context;
use crate::exit::Failure;
use crate::output;
use crate::units::group_digits;

pub(super) fn run(context: &Context) -> Result<(), Failure> {
    let report = context.store()?.repair()?;
    if context.json {
        return output::json(&report);
    }
    let rows = [
        ("dead processes recovered", u64::from(report.recovered)),
        ("half-published messages of theirs voided", report.voided),
        ("leases of theirs given back", report.returned),
        ("leases of theirs ended as dead letters", report.dead_lettered),
        ("roles and attachments of theirs freed", report.freed),
        ("expired leases given back", report.expired),
        ("left-over files removed", u64::from(report.files)),
    ];
    let rows = rows.map(|(what, count)| vec![what.to_string(), group_digits(count)]);
    output::text(&output::table(&[], rows.to_vec(), 1))
}
