//! Money: what the client sends, how it retries, what it says became of each transfer.

use quorate_client::{
    AccountAddress, AccountChange, AccountSettings, Client, Code, Invalid, Outcome, Transfer,
    TransferId, TransferOutcome, Uid, Verdict,
};

use super::bank::open;
use super::nodes::{Fault, Nodes};

fn at(uid: u64) -> AccountAddress {
    AccountAddress::new(Uid(uid), 840)
}

fn post(id: u128, debit: u64, credit: u64, amount: u64) -> Transfer {
    Transfer::post(TransferId(id), at(debit), at(credit), amount)
}

/// Users 1 and 101 have accounts in one group, user 30 in another.
async fn with_accounts() -> (Nodes, Client) {
    let (nodes, client) = Nodes::with_client().await;
    for uid in [1, 101, 30] {
        let created = client.create_account(at(uid), open()).await.expect("it is new");
        assert!(!created.replayed);
    }
    nodes.world().seen.clear();
    (nodes, client)
}

fn verdict(outcome: &TransferOutcome) -> Verdict {
    match outcome {
        TransferOutcome::Created(_) => Verdict::Created,
        TransferOutcome::AlreadyApplied(_) => Verdict::AlreadyApplied,
        TransferOutcome::Refused(refusal) => refusal.verdict,
        TransferOutcome::Failed(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn every_call_does_what_it_says() {
    // Goal: accounts, transfers and histories end to end.
    let (_nodes, client) = with_accounts().await;
    assert!(client.create_account(at(1), open()).await.unwrap().replayed);
    let error = client.create_account(at(1), AccountSettings::default()).await.unwrap_err();
    assert_eq!((error.code(), error.outcome()), (Code::AccountExists, Outcome::NotApplied));
    let change = AccountChange { floor: Some(Some(-500)), ..AccountChange::default() };
    let set = client.set_account(at(1), change).await.unwrap();
    assert_eq!(set.account.settings.floor, Some(-500));
    let error = client.set_account(at(2), change).await.unwrap_err();
    assert_eq!(error.code(), Code::AccountMissing);
    assert_eq!(client.account(at(2)).await.unwrap(), None);

    let TransferOutcome::Created(first) = client.transfer(post(1, 1, 101, 400)).await else {
        panic!("it takes effect");
    };
    assert_eq!(first.amount, 400);
    let again = client.transfer(post(1, 1, 101, 400)).await;
    assert_eq!(again, TransferOutcome::AlreadyApplied(first));
    let refused = client.transfer(post(2, 1, 101, 101)).await;
    assert_eq!(verdict(&refused), Verdict::FloorReached);
    assert!(!refused.stands());
    assert_eq!(client.account(at(1)).await.unwrap().unwrap().balance, -400);
    let found = client.find_transfer(Uid(1), TransferId(1)).await.unwrap().unwrap();
    assert_eq!((found.transfer, found.slot), (post(1, 1, 101, 400), first.slot));
    assert_eq!(client.find_transfer(Uid(1), TransferId(2)).await.unwrap(), None);

    client.transfer(post(3, 1, 101, 50)).await;
    client.transfer(post(4, 101, 1, 5)).await;
    let mut history = client.account_history(at(101)).page_size(2);
    let page = history.next_page().await.unwrap().unwrap();
    let told: Vec<_> = page.iter().map(|entry| (entry.delta, entry.balance)).collect();
    assert_eq!(told, [(400, 400), (50, 450)]);
    assert_eq!(history.next_page().await.unwrap().map(|page| page.len()), Some(1));
    assert_eq!(history.next_page().await.unwrap(), None);
    let rest = client.account_history(at(101)).page_size(9).start_after(page[0].at);
    assert_eq!(rest.collect_all().await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_batch_is_split_by_groups_and_answered_in_order() {
    // Goal: one outcome for each transfer, in their order, whichever request it was in; one request for
    // each pair of groups.
    let (nodes, client) = with_accounts().await;
    client.create_account(at(31), open()).await.unwrap();
    nodes.world().seen.clear();
    let batch = [
        post(1, 30, 31, 1),
        post(2, 1, 101, 2),
        post(3, 1, 30, 3),
        post(4, 1, 1, 4),
        post(5, 1, 101, 5),
        Transfer { linked: true, ..post(6, 1, 101, 6) },
        post(7, 30, 31, 7),
    ];
    let outcomes = client.transfers(&batch).await;
    let created = |index: usize| outcomes[index].effect().expect("it stands").amount;
    assert_eq!([0, 1, 2, 4].map(created), [1, 2, 3, 5]);
    let TransferOutcome::Refused(refusal) = &outcomes[3] else { panic!("{:?}", outcomes[3]) };
    assert_eq!(refusal.invalid, Some(Invalid::OneAccount));
    let code = |index: usize| match &outcomes[index] {
        TransferOutcome::Failed(error) => {
            assert_eq!(error.outcome(), Outcome::NotApplied);
            error.code()
        }
        other => panic!("{other:?}"),
    };
    assert_eq!([code(5), code(6)], [Code::ChainSpansUnits; 2]);
    assert_eq!(nodes.world().seen.len(), 3, "one request for each pair of groups");
    assert!(nodes.world().seen.iter().all(|seen| seen.id.is_none()), "no session is needed");
    assert_eq!(client.transfers(&[]).await, []);
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_again() {
    // Goal: money moves once, and the caller learns what became of it.
    let (nodes, client) = with_accounts().await;
    let faults = [Fault::BreakBefore, Fault::BreakAfter, Fault::Swallow, Fault::Mute];
    for (number, fault) in (1_u64..).zip(faults) {
        nodes.world().seen.clear();
        nodes.order(1, [fault.clone()]);
        let outcome = client.transfer(post(number.into(), 1, 101, 10)).await;
        assert!(outcome.stands(), "{fault:?}: {outcome:?}");
        let has_applied = matches!(fault, Fault::BreakAfter | Fault::Mute);
        let is_repeat = matches!(outcome, TransferOutcome::AlreadyApplied(_));
        assert_eq!(is_repeat, has_applied, "{fault:?}");
        assert!(1 < nodes.world().seen.len(), "{fault:?}");
        let balance = client.account(at(101)).await.unwrap().expect("it was created").balance;
        assert_eq!(balance, 10 * number as i64, "{fault:?}");
    }
}

#[tokio::test]
async fn a_refusal_after_a_lost_attempt_is_not_certain() {
    // Goal: an attempt that was not answered may still take effect, so nobody is told that it did not.
    let (nodes, client) = with_accounts().await;
    nodes.order(1, [Fault::Swallow]);
    let TransferOutcome::Failed(error) = client.transfer(post(1, 1, 201, 10)).await else {
        panic!("nothing is certain");
    };
    assert_eq!((error.code(), error.outcome()), (Code::OutcomeUnknown, Outcome::Unknown));
    assert!(error.message().contains("credit_account_missing"), "{error}");
    assert_eq!(error.facts()["verdict"], "credit_account_missing");
    // What contradicts itself is refused by every attempt.
    nodes.order(1, [Fault::Swallow]);
    let outcome = client.transfer(post(0, 1, 101, 10)).await;
    assert_eq!(verdict(&outcome), Verdict::Invalid);
    // A refusal of the whole request, with nothing lost before.
    nodes.order(1, [Fault::Refuse(quorate_types::Error::new(Code::BatchTooLarge, "x"))]);
    let TransferOutcome::Failed(error) = client.transfer(post(2, 1, 101, 10)).await else {
        panic!("it was refused");
    };
    assert_eq!((error.code(), error.outcome()), (Code::BatchTooLarge, Outcome::NotApplied));
}

#[tokio::test]
async fn large_batches_are_cut_and_stay_in_order() {
    // Goal: more transfers than a request takes go through, each once.
    let (nodes, client) = with_accounts().await;
    let count = 8190 + 10;
    let batch: Vec<_> = (1..=count).map(|id| post(id, 1, 101, 1)).collect();
    let outcomes = client.transfers(&batch).await;
    assert!(outcomes.iter().all(|outcome| verdict(outcome) == Verdict::Created));
    let slots: Vec<_> = outcomes.iter().map(|it| it.effect().expect("it stands").slot).collect();
    assert!(slots.is_sorted());
    assert_eq!(nodes.world().seen.len(), 2);
    assert_eq!(client.account(at(101)).await.unwrap().unwrap().balance, 8200);
}
