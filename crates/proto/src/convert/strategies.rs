//! Random values of our own types, for the round trips.

use std::time::Duration;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use quorate_types::{
    Account, AccountAddress, AccountChange, AccountSettings, AccountsPage, Ballot, Condition,
    CutId, CutRange, EntryId, FoundRow, FoundRows, FoundTransfers, GroupId, HistoryEntry,
    HistoryPage, HistoryPosition, Hold, LogTime, Mutation, Part, RecordsPage, ReplicaId, ReplyBody,
    RequestBody, RequestId, RowAddress, RowVersion, ScanRange, SessionId, Slot, TableId, Transfer,
    TransferBatch, TransferDetail, TransferId, TransferKind, TransferRecord, TransferResults, Uid,
    Value, Verdict, WantedRow,
};

use crate::convert::LeaderHint;

pub(super) fn bytes() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..24).prop_map(Bytes::from)
}

pub(super) fn value() -> impl Strategy<Value = Value> {
    prop_oneof![bytes().prop_map(Value::Bytes), any::<i64>().prop_map(Value::Integer)]
}

pub(super) fn ballot() -> impl Strategy<Value = Ballot> {
    (any::<u64>(), any::<u64>())
        .prop_map(|(round, replica)| Ballot { round, replica: ReplicaId(replica) })
}

pub(super) fn entry() -> impl Strategy<Value = EntryId> {
    (ballot(), any::<u64>()).prop_map(|(ballot, slot)| EntryId { ballot, slot: Slot(slot) })
}

pub(super) fn group() -> impl Strategy<Value = GroupId> {
    (1..=u32::MAX).prop_map(GroupId)
}

pub(super) fn session() -> impl Strategy<Value = SessionId> {
    (group(), 1..=u64::MAX).prop_map(|(group, slot)| SessionId { group, slot: Slot(slot) })
}

pub(super) fn request_id() -> impl Strategy<Value = RequestId> {
    (session(), 1..=u64::MAX, any::<u64>()).prop_map(|(session, sequence, lowest)| RequestId {
        session,
        sequence,
        lowest_unanswered: lowest % sequence + 1,
    })
}

/// Milliseconds, the precision of the wire.
pub(super) fn millis() -> impl Strategy<Value = Duration> {
    (1..u64::from(u32::MAX)).prop_map(Duration::from_millis)
}

pub(super) fn hint() -> impl Strategy<Value = LeaderHint> {
    (1..=u32::MAX, "[a-z0-9:.]{0,20}")
        .prop_map(|(node, address)| LeaderHint { node: quorate_types::NodeId(node), address })
}

pub(super) fn position() -> impl Strategy<Value = (Uid, Bytes)> {
    (any::<u64>().prop_map(Uid), bytes())
}

fn table() -> impl Strategy<Value = TableId> {
    (1..=u16::MAX).prop_map(TableId)
}

fn address() -> impl Strategy<Value = RowAddress> {
    (table(), any::<u64>(), bytes()).prop_map(|(table, uid, key)| RowAddress {
        table,
        uid: Uid(uid),
        key,
    })
}

fn condition() -> impl Strategy<Value = Condition> {
    prop_oneof![
        address().prop_map(Condition::Exists),
        address().prop_map(Condition::Absent),
        (address(), value()).prop_map(|(at, value)| Condition::Equals(at, value)),
    ]
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let bound = || option::of(any::<i64>());
    prop_oneof![
        (address(), value()).prop_map(|(at, value)| Mutation::Put(at, value)),
        address().prop_map(Mutation::Delete),
        (address(), any::<i64>(), bound(), bound())
            .prop_map(|(at, delta, floor, ceiling)| Mutation::Add { at, delta, floor, ceiling }),
    ]
}

fn scan() -> impl Strategy<Value = ScanRange> {
    let uid = option::of(any::<u64>().prop_map(Uid));
    (table(), uid, any::<u16>(), bytes(), option::of(position()), any::<u32>()).prop_map(
        |(table, uid, slice, prefix, after, limit)| ScanRange {
            table,
            uid,
            slice,
            prefix,
            after,
            limit,
        },
    )
}

pub(super) fn part() -> impl Strategy<Value = Part> {
    (vec(condition(), 0..4), vec(mutation(), 0..4), vec(address(), 0..4)).prop_map(
        |(conditions, mutations, reads)| Part { conditions, mutations, reads, ..Part::default() },
    )
}

pub(super) fn body() -> impl Strategy<Value = RequestBody> {
    prop_oneof![
        Just(RequestBody::OpenSession),
        session().prop_map(RequestBody::CloseSession),
        address().prop_map(RequestBody::Get),
        scan().prop_map(RequestBody::Scan),
        Just(RequestBody::NewCut),
        any::<u64>().prop_map(|cut| RequestBody::PinCut(CutId(cut))),
        any::<u64>().prop_map(|cut| RequestBody::UnpinCut(CutId(cut))),
        (any::<u64>(), cut_range())
            .prop_map(|(cut, range)| RequestBody::ReadCut(CutId(cut), range)),
        money_body(),
        (vec(wanted_row(), 0..4), any::<u64>())
            .prop_map(|(rows, cut)| RequestBody::GetMany { rows, cut: CutId(cut) }),
        part().prop_map(|Part { conditions, mutations, reads, .. }| RequestBody::Transact {
            conditions,
            mutations,
            reads
        }),
    ]
}

fn version() -> impl Strategy<Value = RowVersion> {
    (1..=u32::MAX, any::<u64>())
        .prop_map(|(group, slot)| RowVersion { group: GroupId(group), slot: Slot(slot) })
}

fn wanted_row() -> impl Strategy<Value = WantedRow> {
    (address(), option::of(version())).prop_map(|(at, known)| WantedRow { at, known })
}

pub(super) fn found_rows() -> impl Strategy<Value = FoundRows> {
    let is = (version(), option::of(value()));
    let row = prop_oneof![
        Just(FoundRow::AsKnown),
        is.prop_map(|(version, value)| FoundRow::Is(version, value)),
    ];
    (any::<u64>(), vec(row, 0..4)).prop_map(|(cut, rows)| FoundRows { cut: CutId(cut), rows })
}

pub(super) fn account_address() -> impl Strategy<Value = AccountAddress> {
    (any::<u64>(), any::<u32>(), 1..=u16::MAX).prop_map(|(uid, ledger, code)| AccountAddress {
        uid: Uid(uid),
        ledger,
        code,
    })
}

fn account_settings() -> impl Strategy<Value = AccountSettings> {
    (option::of(any::<i64>()), any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(floor, no_debits, no_credits, history)| AccountSettings {
            floor,
            no_debits,
            no_credits,
            history,
        },
    )
}

fn account_change() -> impl Strategy<Value = AccountChange> {
    let flag = || option::of(any::<bool>());
    (option::of(option::of(any::<i64>())), flag(), flag(), flag()).prop_map(
        |(floor, no_debits, no_credits, history)| AccountChange {
            floor,
            no_debits,
            no_credits,
            history,
        },
    )
}

fn transfer_id() -> impl Strategy<Value = TransferId> {
    any::<u128>().prop_map(TransferId)
}

pub(super) fn transfer() -> impl Strategy<Value = Transfer> {
    let kind = prop_oneof![
        Just(TransferKind::Post),
        any::<u32>().prop_map(|timeout_ms| TransferKind::Pending { timeout_ms }),
        transfer_id().prop_map(TransferKind::PostPending),
        transfer_id().prop_map(TransferKind::VoidPending),
    ];
    let user_data = prop_oneof![Just(0), any::<u128>()];
    let sides = (account_address(), account_address());
    (transfer_id(), kind, sides, any::<u64>(), user_data, any::<bool>()).prop_map(
        |(id, kind, (debit, credit), amount, user_data, linked)| Transfer {
            id,
            kind,
            debit,
            credit,
            amount,
            user_data,
            linked,
        },
    )
}

fn history_position() -> impl Strategy<Value = HistoryPosition> {
    (any::<u64>(), any::<u16>())
        .prop_map(|(slot, index)| HistoryPosition { slot: Slot(slot), index })
}

pub(super) fn batch() -> impl Strategy<Value = TransferBatch> {
    vec(transfer(), 0..4).prop_map(|transfers| TransferBatch::new(&transfers))
}

pub(super) fn money_body() -> impl Strategy<Value = RequestBody> {
    let history = (account_address(), option::of(history_position()), any::<u32>());
    prop_oneof![
        (account_address(), account_settings())
            .prop_map(|(at, settings)| RequestBody::CreateAccount(at, settings)),
        (account_address(), account_change())
            .prop_map(|(at, change)| RequestBody::SetAccount(at, change)),
        account_address().prop_map(RequestBody::GetAccount),
        batch().prop_map(RequestBody::Transfers),
        (any::<u64>(), transfer_id()).prop_map(|(uid, id)| RequestBody::GetTransfer(Uid(uid), id)),
        history.prop_map(|(account, after, limit)| RequestBody::History { account, after, limit }),
    ]
}

fn account() -> impl Strategy<Value = Account> {
    (account_address(), account_settings(), any::<i64>(), any::<u64>(), any::<u64>()).prop_map(
        |(address, settings, balance, reserved, created)| Account {
            address,
            settings,
            balance,
            reserved,
            created: LogTime(created),
        },
    )
}

fn results() -> impl Strategy<Value = TransferResults> {
    let one = (0..Verdict::ALL.len(), any::<bool>(), any::<u64>(), any::<u64>());
    vec(one, 0..6).prop_map(|all| {
        let mut results = TransferResults::default();
        for (index, (verdict, has_detail, slot, amount)) in (0..).zip(all) {
            results.verdicts.push(Verdict::ALL[verdict]);
            if has_detail {
                results.details.push(TransferDetail { index, slot: Slot(slot), amount });
            }
        }
        results
    })
}

fn record() -> impl Strategy<Value = TransferRecord> {
    let hold = prop_oneof![
        option::of(any::<u64>()).prop_map(|expires| Hold::Open { expires: expires.map(LogTime) }),
        (any::<u64>(), transfer_id()).prop_map(|(amount, by)| Hold::Posted { amount, by }),
        transfer_id().prop_map(|by| Hold::Voided { by }),
        Just(Hold::Expired),
    ];
    (transfer(), any::<u64>(), any::<u64>(), any::<u64>(), option::of(hold)).prop_map(
        |(transfer, amount, slot, created, hold)| TransferRecord {
            transfer,
            amount,
            slot: Slot(slot),
            created: LogTime(created),
            hold,
        },
    )
}

fn history_page() -> impl Strategy<Value = HistoryPage> {
    let entry = (history_position(), any::<i64>(), any::<i64>(), transfer_id(), any::<u64>());
    let entry = entry.prop_map(|(at, delta, balance, transfer, debit)| HistoryEntry {
        at,
        delta,
        balance,
        transfer,
        debit: Uid(debit),
    });
    (vec(entry, 0..4), option::of(history_position()))
        .prop_map(|(entries, next)| HistoryPage { entries, next })
}

pub(super) fn money_reply() -> impl Strategy<Value = ReplyBody> {
    prop_oneof![
        option::of(account()).prop_map(ReplyBody::Account),
        results().prop_map(ReplyBody::Transfers),
        option::of(record().prop_map(Box::new)).prop_map(ReplyBody::Transfer),
        history_page().prop_map(ReplyBody::History),
        any::<u64>().prop_map(|cut| ReplyBody::Cut(CutId(cut))),
        (vec(account(), 0..4), option::of(account_address()))
            .prop_map(|(accounts, next)| ReplyBody::Accounts(AccountsPage { accounts, next })),
        (vec(record(), 0..4), option::of(any::<u64>())).prop_map(|(transfers, next)| {
            ReplyBody::FoundTransfers(FoundTransfers { transfers, next: next.map(Uid) })
        }),
        (vec(any::<u8>(), 0..40), option::of(vec(any::<u8>(), 0..40)), any::<u64>(), any::<u64>())
            .prop_map(|(records, next, upto, log_time)| {
                let (upto, log_time) = (Slot(upto), LogTime(log_time));
                let (records, next) = (records.into(), next.map(Into::into));
                ReplyBody::Records(RecordsPage { records, next, upto, log_time })
            }),
    ]
}

fn cut_range() -> impl Strategy<Value = CutRange> {
    prop_oneof![
        (option::of(account_address()), any::<u32>())
            .prop_map(|(after, limit)| CutRange::Accounts { after, limit }),
        scan().prop_map(CutRange::Rows),
        (transfer_id(), option::of(any::<u64>()))
            .prop_map(|(id, after)| CutRange::Transfers { id, after: after.map(Uid) }),
        (option::of(vec(any::<u8>(), 0..40)), any::<u32>())
            .prop_map(|(after, bytes)| CutRange::Records { after: after.map(Into::into), bytes }),
    ]
}
