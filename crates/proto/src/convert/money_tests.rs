use proptest::prelude::*;
use prost::Message as _;

use super::super::strategies;
use super::*;

proptest! {
    #[test]
    fn transfers_round_trip_in_both_forms(transfer in strategies::transfer()) {
        // Goal: a transfer of a unary call and one of the stream are the same transfer.
        let encoded = transfer_to_wire(&transfer).encode_to_vec();
        let decoded = v1::Transfer::decode(&encoded[..]).expect("we encoded it");
        prop_assert_eq!(transfer_from_wire(decoded), Ok(transfer));
        let bytes = TransferBatch::new(&[transfer]).bytes().clone();
        let body = RequestBody::Transfers(TransferBatch::new(&[transfer]));
        prop_assert_eq!(batch_from_wire(bytes), Ok(body));
    }

    #[test]
    fn bytes_from_the_network_never_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        // Goal: whatever decodes is converted or refused.
        if let Ok(transfer) = v1::Transfer::decode(&bytes[..]) {
            let _no_panic = transfer_from_wire(transfer);
        }
        if let Ok(record) = v1::TransferRecord::decode(&bytes[..]) {
            let _no_panic = record_from_wire(record);
        }
        let _no_panic = batch_from_wire(bytes.into());
    }
}

#[test]
fn mistakes_name_their_field() {
    // Goal: whoever writes a client in another language finds what is wrong.
    let at = |uid| AccountAddress::new(Uid(uid), 840);
    let good = transfer_to_wire(&Transfer::post(TransferId(1), at(1), at(2), 3));
    let cases = [
        (v1::Transfer { id: Bytes::from_static(b"short"), ..good.clone() }, "id"),
        (v1::Transfer { kind: 0, ..good.clone() }, "kind"),
        (v1::Transfer { kind: 9, ..good.clone() }, "kind"),
        (v1::Transfer { kind: 3, ..good.clone() }, "pending_id"),
        (v1::Transfer { pending_id: vec![1; 16].into(), ..good.clone() }, "pending_id"),
        (v1::Transfer { timeout_ms: 1, ..good.clone() }, "timeout_ms"),
        (v1::Transfer { user_data: vec![1; 17].into(), ..good.clone() }, "user_data"),
        (v1::Transfer { debit: None, ..good }, "debit"),
    ];
    for (transfer, field) in cases {
        assert_eq!(transfer_from_wire(transfer).expect_err(field).field(), field);
    }
    let code = v1::AccountAddress { uid: 1, ledger: 1, code: 1 << 16 };
    assert_eq!(address_from_wire(code).expect_err("16 bits").field(), "code");
    let usual = v1::AccountAddress { uid: 1, ledger: 840, code: 0 };
    assert_eq!(address_from_wire(usual), Ok(at(1)));
}

#[test]
fn every_verdict_has_its_number_on_the_wire() {
    // Goal: the enum of the unary calls and the bytes of the stream never drift apart.
    for verdict in Verdict::ALL {
        let wire = v1::TransferVerdict::try_from(i32::from(verdict.number()));
        let name = wire.expect("the enum has it").as_str_name();
        let name = name.strip_prefix("TRANSFER_VERDICT_").expect("the prefix of the enum");
        assert_eq!(name.to_ascii_lowercase(), verdict.name());
    }
}
