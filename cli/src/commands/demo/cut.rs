//! `ringway demo --durable`: all processes are killed in the middle, and what was in memory is taken away.
//!
//! The order service waits for confirms, and is killed while it places orders and the workers deliver. Then the
//! rings go, as in a power cut, and the store is opened again by its durable directory. Orders that were not
//! confirmed are placed once more, as a real service would, and new workers finish.

use std::collections::HashSet;
use std::time::Instant;

use serde::Serialize;

use super::Narrator;
use super::company::Company;
use super::evidence::Evidence;
use super::orders::id_of;
use super::report::lines;
use super::stage::Stage;
use crate::exit::{Code, Failure};
use crate::signals::Stop;
use crate::units::group_digits;

/// The judgement, from the logs alone but for what was found in the store.
#[derive(Debug, Serialize)]
pub(super) struct CutReport {
    /// Orders that are known to be on the disk, at the end: all of them.
    confirmed: u64,
    confirmed_before_cut: u64,
    delivered_before_cut: u64,
    /// Orders that were in the store when it was opened again.
    there_after_cut: u64,
    /// Confirmed, not through a handler before the cut, and not there after it.
    missing_after_cut: u64,
    /// How long it took to make the rings anew.
    recovery_ms: f64,
    /// Not confirmed when the power went, and so placed once more.
    placed_again: u64,
    /// Orders that were received more than once.
    redelivered: u64,
    delivered: u64,
    /// Confirmed, and missing after the cut or never delivered.
    lost: u64,
}

/// Plays it and tells what happened.
pub(super) fn play(
    stage: &Stage,
    orders: &[String],
    workers: usize,
    stop: &Stop,
    narrator: &Narrator,
) -> Result<CutReport, Failure> {
    let mut company = Company::new(stage, stop, narrator);
    run_until_cut(&mut company, orders.len(), workers)?;
    let killed = company.kill_all()?;
    let evidence = &company.evidence;
    let (confirmed_before_cut, delivered_before_cut) = (evidence.confirmed, evidence.delivered);
    company.say(&format!(
        "power cut: all {killed} processes are killed, with {} orders confirmed and {} of them delivered",
        group_digits(confirmed_before_cut),
        group_digits(delivered_before_cut)
    ))?;
    stage.take_rings_away()?;
    let began = Instant::now();
    let there = orders_there(stage)?;
    let recovery_ms = (began.elapsed().as_secs_f64() * 1e6).round() / 1e3;
    let gone = gone(&company.evidence, &there);
    company.say(&format!(
        "the store is made anew from {} in {recovery_ms:.1} ms: {} orders are there",
        stage.store_path().display(),
        group_digits(there.len() as u64)
    ))?;
    finish(&mut company, stage, orders, workers, gone.in_doubt)?;
    let traces = || company.evidence.orders.values();
    let undelivered = traces().filter(|trace| trace.confirmed && trace.acked == 0).count() as u64;
    Ok(CutReport {
        confirmed: company.evidence.confirmed,
        confirmed_before_cut,
        delivered_before_cut,
        there_after_cut: there.len() as u64,
        missing_after_cut: gone.missing,
        recovery_ms,
        placed_again: traces().filter(|trace| trace.placed > 1).count() as u64,
        redelivered: traces().filter(|trace| trace.received.len() > 1).count() as u64,
        delivered: company.evidence.delivered + gone.in_doubt,
        lost: (undelivered - gone.in_doubt).max(gone.missing),
    })
}

/// Until some orders are delivered, and others are being placed.
fn run_until_cut(company: &mut Company<'_>, orders: usize, workers: usize) -> Result<(), Failure> {
    let service = company.enter(workers, orders)?;
    company
        .say(&format!("{workers} workers are ready; the order service places {orders} orders, confirmed"))?;
    let half = (orders / 2) as u64;
    company.tell(service, &half.to_string())?;
    company.until(|evidence| (evidence.delivered >= half / 2).then_some(()))?;
    company.tell(service, &orders.to_string())?;
    company.until(|evidence| (evidence.confirmed > half).then_some(()))?;
    Ok(())
}

/// The ids of the orders in the store, which this opens.
fn orders_there(stage: &Stage) -> Result<HashSet<String>, Failure> {
    let peeked = stage.open()?.peek("default", usize::MAX)?;
    let ids = peeked.iter().map(|message| id_of(&message.payload));
    ids.collect::<Result<_, String>>().map_err(|what| Failure::new(Code::Failed, what))
}

/// Confirmed orders without an ack in the logs that are not in the store.
struct Gone {
    /// A handler was through with it, and was killed in the middle of the ack.
    in_doubt: u64,
    missing: u64,
}

fn gone(evidence: &Evidence, there: &HashSet<String>) -> Gone {
    let mut gone = Gone { in_doubt: 0, missing: 0 };
    for (id, trace) in &evidence.orders {
        if trace.confirmed && trace.acked == 0 && !there.contains(id) {
            let count = if trace.finished > 0 { &mut gone.in_doubt } else { &mut gone.missing };
            *count += 1;
        }
    }
    gone
}

/// New processes do the rest.
fn finish(
    company: &mut Company<'_>,
    stage: &Stage,
    orders: &[String],
    workers: usize,
    in_doubt: u64,
) -> Result<(), Failure> {
    let is_confirmed = |order: &&str| {
        let trace = id_of(order.as_bytes()).ok().and_then(|id| company.evidence.orders.get(&id));
        trace.is_some_and(|trace| trace.confirmed)
    };
    stage.write_orders(orders.iter().map(String::as_str).filter(|order| !is_confirmed(order)))?;
    let service = company.enter(workers, orders.len())?;
    company.say(&format!("{workers} new workers and a new order service go on"))?;
    company.tell(service, &orders.len().to_string())?;
    let all = orders.len() as u64;
    company.until(|evidence| {
        (evidence.delivered + in_doubt == all && evidence.confirmed == all).then_some(())
    })?;
    company.dismiss()
}

impl CutReport {
    pub(super) fn table(&self) -> String {
        let recovery = format!("opened again in {:.1} ms", self.recovery_ms);
        lines(&[
            ("orders confirmed", self.confirmed, ""),
            ("confirmed before the cut", self.confirmed_before_cut, ""),
            ("delivered before the cut", self.delivered_before_cut, ""),
            ("there after the cut", self.there_after_cut, &recovery),
            ("placed again, not confirmed", self.placed_again, ""),
            ("redelivered", self.redelivered, ""),
            ("delivered", self.delivered, ""),
            ("lost", self.lost, ""),
        ])
    }

    pub(super) fn verdict(&self) -> Result<(), Failure> {
        if self.lost == 0 {
            return Ok(());
        }
        let text = format!("of {} confirmed orders {} are lost", self.confirmed, self.lost);
        Err(Failure::new(Code::Violated, text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::demo::evidence::{Event, Log};

    #[test]
    fn what_is_gone_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        std::fs::File::create(&path).unwrap();
        let mut log = Log::open(&path).unwrap();
        for (event, order) in [
            (Event::Confirmed, "there"),
            (Event::Confirmed, "missing"),
            (Event::Confirmed, "in doubt"),
            (Event::Finished, "in doubt"),
            (Event::Confirmed, "delivered"),
            (Event::Acked, "delivered"),
            (Event::Placed, "never confirmed"),
        ] {
            log.write(event, order).unwrap();
        }
        let mut evidence = Evidence::new();
        evidence.add(&path).unwrap();
        evidence.read().unwrap();
        let gone = gone(&evidence, &HashSet::from(["there".to_string()]));
        assert_eq!((gone.missing, gone.in_doubt), (1, 1));
    }
}
