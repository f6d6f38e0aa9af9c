//! The orders: from a file, or made up.

use std::collections::HashMap;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::exit::{Code, Failure};

/// The id of the order that this line is.
pub(super) fn id_of(line: &[u8]) -> Result<String, String> {
    let expected = "expected a JSON object with an \"id\", a string or a number";
    let mut order: Map<String, Value> = serde_json::from_slice(line).map_err(|e| {
        let what = e.to_string();
        // It is one line, whatever its number: what is said of that is cut off.
        format!("not an order: {}; {expected}", what.split(" at line ").next().unwrap_or_default())
    })?;
    match order.remove("id") {
        Some(Value::String(id)) => Ok(id),
        Some(Value::Number(id)) => Ok(id.to_string()),
        _ => Err(format!("not an order: {expected}")),
    }
}

/// Reads orders, one JSON object a line.
pub(super) fn read(path: &Path) -> Result<Vec<String>, Failure> {
    let shown = path.display();
    let bytes = std::fs::read(path).map_err(|e| Failure::io(&format!("reading {shown}"), &e))?;
    let mut lines_of_ids: HashMap<String, usize> = HashMap::new();
    let mut orders = Vec::new();
    for (number, line) in (1..).zip(lines(&bytes)) {
        let bad = |what: String| Failure::new(Code::Failed, format!("{shown}, line {number}: {what}"));
        let text = std::str::from_utf8(line)
            .map_err(|e| bad(format!("byte {} is not UTF-8", e.valid_up_to() + 1)))?;
        let id = id_of(line).map_err(bad)?;
        if let Some(earlier) = lines_of_ids.insert(id.clone(), number) {
            return Err(bad(format!("the id {id:?} is that of line {earlier}; expected each id once")));
        }
        orders.push(text.to_string());
    }
    if orders.len() < 2 {
        let message = format!("{shown} has {} orders: expected at least 2, one for each fault", orders.len());
        return Err(Failure::new(Code::Failed, message));
    }
    Ok(orders)
}

/// The lines, without what follows a last newline.
fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let body = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    body.split(|byte| *byte == b'\n').filter(|_| !bytes.is_empty())
}

/// Makes up this many orders, the same each time.
pub(super) fn make(count: u32) -> Vec<String> {
    const DISHES: [(&str, u64); 8] = [
        ("margherita", 890),
        ("pad thai", 1_150),
        ("ramen", 1_290),
        ("falafel plate", 980),
        ("bibimbap", 1_240),
        ("lentil soup", 620),
        ("burrito", 1_050),
        ("mango lassi", 390),
    ];
    const RESTAURANTS: [&str; 5] = ["Da Enzo", "Bangkok Corner", "Noodle Bar 9", "Levante", "Casa Verde"];
    (1..=u64::from(count))
        .map(|number| {
            let (dish, price_cents) = DISHES[(number * 5 % 8) as usize];
            let quantity = 1 + number * 7 % 3;
            json!({
                "id": format!("order-{number:04}"),
                "customer": format!("customer-{:03}", number * 37 % 271),
                "restaurant": RESTAURANTS[(number * 3 % 5) as usize],
                "items": [{"name": dish, "qty": quantity, "price_cents": price_cents}],
                "total_cents": quantity * price_cents,
            })
            .to_string()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_strings_or_numbers() {
        assert_eq!(id_of(br#"{"id": "a", "total": 1}"#), Ok("a".to_string()));
        assert_eq!(id_of(br#"{"id": 17}"#), Ok("17".to_string()));
        for bad in [r#"{"name": "a"}"#, r#"{"id": null}"#, "[1]", "", "{"] {
            assert!(id_of(bad.as_bytes()).is_err(), "{bad:?} was taken for an order");
        }
    }

    #[test]
    fn lines_are_counted_as_editors_do() {
        let count = |text: &str| lines(text.as_bytes()).count();
        assert_eq!([count(""), count("a"), count("a\n"), count("a\n\nb\n"), count("\n")], [0, 1, 1, 3, 1]);
    }

    #[test]
    fn made_up_orders_have_ids_of_their_own() {
        let ids: std::collections::HashSet<_> = make(3_000).iter().map(|o| id_of(o.as_bytes())).collect();
        assert_eq!(ids.len(), 3_000);
        assert!(ids.iter().all(Result::is_ok));
    }
}
