//! The tables of docs/FORMAT.md, and how each kind of them is held against what the code says.

use std::collections::BTreeMap;

use crate::layout::queue::Geometry;

const FORMAT: &str = include_str!("../../../docs/FORMAT.md");

/// The rows of each table, by the heading above it; the head of the table is the first row.
pub(super) fn tables() -> BTreeMap<&'static str, Vec<Vec<&'static str>>> {
    let mut tables: BTreeMap<&str, Vec<Vec<&str>>> = BTreeMap::new();
    let mut heading = "";
    for line in FORMAT.lines() {
        if let Some(text) = line.strip_prefix("## ") {
            heading = text;
        } else if let Some(row) = line.strip_prefix('|') {
            let cells: Vec<_> = row.trim_end_matches('|').split('|').map(str::trim).collect();
            if !cells[0].starts_with("---") {
                tables.entry(heading).or_default().push(cells);
            }
        }
    }
    tables
}

/// The rows of the table under a heading, whose head must be as stated.
#[track_caller]
fn rows(heading: &str, head: &[&str]) -> Vec<Vec<&'static str>> {
    let mut table = tables().remove(heading).unwrap_or_else(|| panic!("no table under {heading:?}"));
    assert_eq!(table.remove(0), head, "{heading}");
    table
}

#[track_caller]
fn number(cell: &str) -> u64 {
    cell.parse().unwrap_or_else(|_| panic!("{cell:?} is no number"))
}

/// A table of fields: name, offset and size of each; what is unused is in none. `size`: of the whole.
#[track_caller]
pub(crate) fn check_fields(heading: &str, size: Option<usize>, expected: &[(&str, usize, usize)]) {
    let mut end = 0;
    let mut found = Vec::new();
    let full = size.map_or(heading.to_owned(), |size| format!("{heading} ({size} bytes)"));
    for row in rows(&full, &["Offset", "Size", "Name", "What"]) {
        let (offset, size) = (number(row[0]), number(row[1]));
        assert_eq!(offset, end, "{heading}, {}: there is a gap or an overlap before it", row[2]);
        end = offset + size;
        if row[2] != "unused" {
            found.push((row[2], offset as usize, size as usize));
        }
    }
    assert_eq!(found, expected, "{heading}");
    if let Some(size) = size {
        assert_eq!(end, size as u64, "{heading}: its end");
    }
}

/// A table of bits: for each field its name and how the code reads it out of a word. It must read all bits of
/// the field, and no other.
#[track_caller]
pub(super) fn check_bits(heading: &str, expected: &[(&str, &dyn Fn(u64) -> u64)]) {
    let mut next = 63_i64;
    let mut found = Vec::new();
    for row in rows(heading, &["Bits", "Name", "What"]) {
        let (high, low) = row[0].split_once('-').unwrap_or((row[0], row[0]));
        let (high, low) = (number(high), number(low));
        assert_eq!(high as i64, next, "{heading}, {}: there is a gap or an overlap before it", row[1]);
        next = low as i64 - 1;
        if row[1] != "unused" {
            found.push((row[1], high, low));
        }
    }
    assert_eq!(next, -1, "{heading}: its end");
    assert_eq!(found.len(), expected.len(), "{heading}");
    for ((name, high, low), (expected, read)) in found.into_iter().zip(expected) {
        assert_eq!(name, *expected, "{heading}");
        let ones = u64::MAX >> (63 - (high - low));
        for bit in low..=high {
            assert_eq!(read(1 << bit), 1 << (bit - low), "{heading}, {name}: bit {bit}");
        }
        assert_eq!(read(ones << low), ones, "{heading}, {name}: all bits");
        assert_eq!(read(!(ones << low)), 0, "{heading}, {name}: none of the others");
    }
}

/// A table of numbers and their names.
#[track_caller]
pub(crate) fn check_values(heading: &str, expected: &[(u64, &str)]) {
    let rows = rows(heading, &["Value", "Name", "What"]);
    let found: Vec<_> = rows.iter().map(|row| (number(row[0]), row[1])).collect();
    assert_eq!(found, expected, "{heading}");
}

/// The two geometries of the tables of areas.
const GEOMETRIES: [Geometry; 2] = [
    Geometry { capacity: 16_384, slot_size: 128, max_message: 1 << 20, max_groups: 8, durable: false },
    Geometry { capacity: 1024, slot_size: 64, max_message: 48, max_groups: 2, durable: true },
];

/// A table of areas: name, offset and size of each, in both geometries.
#[track_caller]
pub(super) fn check_areas(heading: &str, areas_of: impl Fn(&Geometry) -> Vec<(&'static str, u64, u64)>) {
    let expected = GEOMETRIES.map(|geometry| areas_of(&geometry));
    let head = ["Area", "What", "Offset, default", "Size, default", "Offset, smallest", "Size, smallest"];
    let rows = rows(heading, &head);
    for (example, expected) in expected.into_iter().enumerate() {
        let column = 2 + 2 * example;
        let area = |row: &Vec<&'static str>| (row[0], number(row[column]), number(row[column + 1]));
        assert_eq!(rows.iter().map(area).collect::<Vec<_>>(), expected, "{heading}, example {example}");
    }
}
