"""Checks of what spans units: transactions, transfers, cuts. `clients` are those of each group by its number."""

from harness import Failed, expect, refused

CUTS_MAX = 5


def far_transactions(clients):
    """A transaction over rows of two units is all or nothing, and takes effect once under its id."""
    from quorate.v1 import common_pb2, kv_pb2
    here, there = (common_pb2.RowAddress(table="purchases", uid=uid, key=b"far") for uid in (7, 4257))
    # The group of the session coordinates; it must own one of the rows.
    session = clients[1].call("OpenSession", kv_pb2.OpenSessionRequest(table="purchases", uid=7)).session

    def move(delta, sequence, lowest, conditions=()):
        mutations = [kv_pb2.Mutation(add=kv_pb2.AddMutation(at=here, delta=-delta, floor=-100)),
                     kv_pb2.Mutation(add=kv_pb2.AddMutation(at=there, delta=delta))]
        transaction = kv_pb2.Transaction(mutations=mutations, reads=[there, here], conditions=conditions)
        context = None
        if sequence:
            request_id = common_pb2.RequestId(session=session, sequence=sequence, lowest_unanswered=lowest)
            context = kv_pb2.RequestContext(request_id=request_id)
        return kv_pb2.TransactRequest(context=context, transaction=transaction)

    def sums():
        def read(group, at):
            return clients[group].call("Get", kv_pb2.GetRequest(table=at.table, uid=at.uid, key=at.key)).value.integer
        return read(1, here), read(2, there)

    first = clients[1].call("Transact", move(60, 1, 1))
    expect("the first answer is not a replay", first.header.replayed, False)
    expect("the sums of both units", list(first.committed.sums), [-60, 60])
    expect("the rows before", [read.HasField("value") for read in first.committed.reads], [False, False])
    again = clients[1].call("Transact", move(60, 1, 1))
    expect("the second answer is a replay", again.header.replayed, True)
    expect("of the first result", again.committed, first.committed)
    expect("the rows of both units", sums(), (-60, 60))
    refused(clients[1], "Transact", move(41, 2, 2), "GUARD_FAILED")
    absent = kv_pb2.Condition(absent=there)
    detail = refused(clients[1], "Transact", move(1, 3, 2, [absent]), "CONDITION_FAILED")
    expect("the condition of the other unit", detail.facts["condition"], "0")
    expect("the rows after two refusals", sums(), (-60, 60))
    second = clients[1].call("Transact", move(40, 4, 4))
    expect("the rows before", [read.value.integer for read in second.committed.reads], [60, -60])
    expect("the sums of both units", list(second.committed.sums), [-100, 100])
    refused(clients[1], "Transact", move(1, 0, 0), "SEVERAL_GROUPS")
    clients[1].call("CloseSession", kv_pb2.CloseSessionRequest(session=session))


FAR_ID = (0xFA << 120 | 1).to_bytes(16, "big")


def far_money(clients):
    """Transfers between units take effect once, on both sides or on neither."""
    from quorate.v1 import bank_pb2, money_pb2
    here, there = (money_pb2.AccountAddress(uid=uid, ledger=978) for uid in (7, 4257))
    for group, at, no_floor in ((1, here, True), (2, there, False)):
        account = money_pb2.NewAccount(address=at, settings=money_pb2.AccountSettings(no_floor=no_floor))
        clients[group].call("CreateAccount", bank_pb2.CreateAccountRequest(account=account))

    def post(number, debit, credit, amount):
        return money_pb2.Transfer(id=number, kind=money_pb2.TRANSFER_KIND_POST, debit=debit, credit=credit, amount=amount)

    def carry_out(group, *transfers):
        request = bank_pb2.CreateTransfersRequest(transfers=transfers)
        results = clients[group].call("CreateTransfers", request).results
        return [(result.verdict, result.amount) for result in results], results

    created, again = money_pb2.TRANSFER_VERDICT_CREATED, money_pb2.TRANSFER_VERDICT_ALREADY_APPLIED
    floor, missing = money_pb2.TRANSFER_VERDICT_FLOOR_REACHED, money_pb2.TRANSFER_VERDICT_CREDIT_ACCOUNT_MISSING
    nobody = money_pb2.AccountAddress(uid=4257, ledger=978, code=9)
    # Goes to the group of the account that is debited; credits may all be in another one.
    batch = [post(FAR_ID, here, there, 50), post(b"\1" * 16, here, nobody, 1)]
    told, first = carry_out(1, *batch)
    expect("transfers to the other unit", told, [(created, 50), (missing, 0)])
    told, second = carry_out(1, *batch)
    expect("the same again", told, [(again, 50), (missing, 0)])
    expect("the slot of the first time", second[0].slot, first[0].slot)
    told, _ = carry_out(2, post(FAR_ID, there, here, 20), post(b"\2" * 16, there, here, 31))
    expect("and back, under an id that another user has", told, [(created, 20), (floor, 0)])

    def balance(group, at):
        return clients[group].call("GetAccount", bank_pb2.GetAccountRequest(address=at)).account.balance
    expect("the balances of both units", (balance(1, here), balance(2, there)), (-30, 30))
    mixed = bank_pb2.CreateTransfersRequest(transfers=[
        post(b"\3" * 16, here, there, 1),
        post(b"\4" * 16, here, money_pb2.AccountAddress(uid=42, ledger=978), 1)])
    refused(clients[1], "CreateTransfers", mixed, "SEVERAL_GROUPS")


def new_cut(clients):
    """Makes a cut and has every group keep a view at it; returns what each is asked with."""
    from quorate.v1 import cut_pb2, kv_pb2
    for _ in range(CUTS_MAX):
        number = clients[1].call("NewCut", cut_pb2.NewCutRequest()).cut
        at = {group: {"context": kv_pb2.RequestContext(group=group), "cut": number} for group in clients}
        try:
            # At once: a view that nobody asks for goes after some seconds.
            for group, client in clients.items():
                client.call("PinCut", cut_pb2.PinCutRequest(**at[group]))
            return at
        except Failed as failed:
            if failed.code != "CUT_LOST":
                raise
    raise SystemExit(f"{CUTS_MAX} cuts were lost")


def cut(clients):
    """All groups as of one moment: what was acknowledged before is there, what comes after is not."""
    from quorate.v1 import bank_pb2, cut_pb2, kv_pb2, money_pb2
    at = new_cut(clients)
    here, there = (money_pb2.AccountAddress(uid=uid, ledger=978) for uid in (7, 4257))
    late = money_pb2.Transfer(id=b"\5" * 16, kind=money_pb2.TRANSFER_KIND_POST, debit=here, credit=there, amount=7)
    clients[1].call("CreateTransfers", bank_pb2.CreateTransfersRequest(transfers=[late]))

    accounts, pages = {}, 0
    for group, client in clients.items():
        after = None
        while True:
            wanted = kv_pb2.CutAccounts(after=after, limit=2)
            page = client.call("ReadCutAccounts", cut_pb2.ReadCutAccountsRequest(**at[group], accounts=wanted)).page
            pages += 1
            for account in page.accounts:
                accounts[(account.address.uid, account.address.ledger, account.address.code)] = account.balance
            if not page.HasField("next"):
                break
            after = page.next
    expect("there were several pages", 3 < pages, True)
    for ledger in (840, 978):
        expect(f"the sum of ledger {ledger}", sum(b for (_, at_ledger, _), b in accounts.items() if at_ledger == ledger), 0)
    expect("the balances of the moment", (accounts[7, 978, 1], accounts[4257, 978, 1]), (-30, 30))

    found = []
    for group, client in clients.items():
        after = None
        while True:
            wanted = kv_pb2.CutTransfers(id=FAR_ID, after_uid=after)
            page = client.call("ReadCutTransfers", cut_pb2.ReadCutTransfersRequest(**at[group], transfers=wanted)).page
            found += [(record.transfer.debit.uid, record.amount) for record in page.transfers]
            if not page.HasField("next_uid"):
                break
            after = page.next_uid
    expect("the transfers with one id", found, [(7, 50), (4257, 20)])

    sums = []
    for group, uid in ((1, 7), (2, 4257)):
        rows = kv_pb2.ScanRange(table="purchases", uid=uid, prefix=b"far")
        page = clients[group].call("ReadCutRows", cut_pb2.ReadCutRowsRequest(**at[group], range=rows)).page
        sums += [row.value.integer for row in page.rows]
    expect("the rows of the moment", sums, [-100, 100])
    for group, client in clients.items():
        client.call("UnpinCut", cut_pb2.UnpinCutRequest(**at[group]))
    released = cut_pb2.ReadCutAccountsRequest(**at[2], accounts=kv_pb2.CutAccounts())
    refused(clients[2], "ReadCutAccounts", released, "CUT_LOST")
