package tour

import (
	"context"
	"encoding/json"
	"fmt"
	"time"
)

func scenes() []scene {
	return []scene{
		{title: "A command goes in, events come out", play: commandAndEvent},
		{title: "A refusal is an event, too", play: refusal},
		{title: "The state, and how it came to be", play: stateAndHistory},
		{title: "Sent twice, it happens once", play: repeat},
		{title: "Only if nothing has happened meanwhile", play: expectedVersion},
		{title: "An aggregate with entities inside", play: cards},
		{title: "Events cause commands: a transfer", play: transfer},
		{title: "A transfer that is refused comes back", play: refund},
		{title: "An event from outside", play: interest},
		{title: "A function dies in the middle of a call", drill: true, play: killed},
		{title: "A command that cannot succeed is held, and let go", drill: true, play: held},
	}
}

func commandAndEvent(ctx context.Context, t *Tour) error {
	t.say("A command says what somebody wants. Its handler, one of the bank's functions, is given the account and decides what happens. What has happened is an event, recorded in Kafka before anybody is told.")
	if _, err := t.evento(ctx, []string{"send", t.id("client"), "RegisterClient", "name=Ada", "email=ada@example.org"}, "done, version 1", "ClientRegistered"); err != nil {
		return err
	}
	if _, err := t.evento(ctx, []string{"send", t.id("checking"), "OpenCheckingAccount", "client=" + t.id("client")}, "done, version 1", "CheckingAccountOpened"); err != nil {
		return err
	}
	_, err := t.evento(ctx, []string{"send", t.id("checking"), "ReceiveDeposit", "transaction_id=t-1", "source=atm:2CF24DBA", "amount.minor:=10000"}, "done, version 2", "DepositReceived")
	return err
}

func refusal(ctx context.Context, t *Tour) error {
	t.say("100.00 are there, 999.00 are asked for. The handler refuses, and that is its answer: recorded, with its reason, as any other event.")
	_, err := t.evento(ctx, []string{"send", t.id("checking"), "WithdrawCash", "destination=atm:2CF24DBA", "amount.minor:=99900"}, "refused, version 3", "WithdrawCashFailed", "INSUFFICIENT_FUNDS")
	return err
}

func stateAndHistory(ctx context.Context, t *Tour) error {
	t.say("The state is what the aggregator, another function, makes of the events. It is kept in Redis, and can be thrown away at any time: the events are the truth.")
	if _, err := t.evento(ctx, []string{"get", t.id("checking")}, "version 3", `"minor": 10000`); err != nil {
		return err
	}
	_, err := t.evento(ctx, []string{"events", t.id("checking")}, "CheckingAccountOpened", "DepositReceived", "WithdrawCashFailed")
	return err
}

func repeat(ctx context.Context, t *Tour) error {
	t.say("Whoever does not know whether a command has arrived sends it again with the same id. It happens once, and the answer is the same, also in a year.")
	withdraw := []string{"send", t.id("checking"), "WithdrawCash", "destination=atm:2CF24DBA", "amount.minor:=3000", "--id", "w-1"}
	for range 2 {
		if _, err := t.evento(ctx, withdraw, "done, version 4", "CashWithdrawn"); err != nil {
			return err
		}
	}
	t.say("The same id for something else is a mistake, and is said to be one.")
	return t.refused(ctx, []string{"send", t.id("checking"), "WithdrawCash", "destination=atm:2CF24DBA", "amount.minor:=4000", "--id", "w-1"}, exitRefused, "w-1")
}

// exitRefused is the exit code of a command that the gateway refused.
const exitRefused = 4

// refused is evento for a command line that must fail in this way.
func (t *Tour) refused(ctx context.Context, args []string, code int, words ...string) error {
	t.line(t.paint(blue, "  $ evento "+shellWords(args)))
	got, output := t.Run(ctx, args...)
	t.quote(output)
	if got != code {
		return fmt.Errorf("evento %s: exit code %d, not %d", shellWords(args), got, code)
	}
	return inOrder(output, words)
}

func expectedVersion(ctx context.Context, t *Tour) error {
	t.say("Somebody decided by what he saw at version 3. Meanwhile there is a version 4: his command is rejected, and nothing happens.")
	return t.refused(ctx, []string{"send", t.id("checking"), "WithdrawCash", "destination=atm:2CF24DBA", "amount.minor:=100", "--expect", "3"}, exitRefused, "version")
}

func cards(ctx context.Context, t *Tour) error {
	t.say("A credit account has cards. A card is addressed through its account, which is the unit of order: two cards can never together use more than the account's limit.")
	account := t.id("credit")
	card := account + "/card:7f3a"
	for _, step := range []struct {
		args []string
		word string
	}{
		{[]string{"send", account, "OpenCreditAccount", "client=" + t.id("client"), "credit_limit.minor:=50000"}, "CreditAccountOpened"},
		{[]string{"send", account, "IssueCard", "card_id=7f3a", "holder=Ada", "limit.minor:=20000"}, "CardIssued"},
		{[]string{"send", card, "ActivateCard", "code=7f3a"}, "CardActivated"},
		{[]string{"send", card, "ChargeCard", "purchase_id=p-1", "merchant=books", "amount.minor:=1500"}, "CardCharged"},
		{[]string{"send", card, "ChargeCard", "purchase_id=p-2", "merchant=yachts", "amount.minor:=9900000"}, "CardDeclined"},
		{[]string{"get", card}, "7f3a"},
	} {
		if _, err := t.evento(ctx, step.args, step.word); err != nil {
			return err
		}
	}
	return nil
}

func transfer(ctx context.Context, t *Tour) error {
	t.say("No transaction spans two accounts. The money leaves one, which is an event; a dispatcher sees it and sends a deposit to the other; its event makes another command, which says that the transfer is complete.")
	from, to := t.id("checking"), t.id("savings")
	if _, err := t.evento(ctx, []string{"send", to, "OpenSavingsAccount", "client=" + t.id("client"), "rate_bps:=200"}, "SavingsAccountOpened"); err != nil {
		return err
	}
	if _, err := t.evento(ctx, []string{"send", from, "TransferToSavings", "transaction_id=move-1", "destination=" + to, "amount.minor:=5000"}, "TransferredToSavings"); err != nil {
		return err
	}
	if err := t.until(ctx, []string{"events", from}, "TransferCompleted"); err != nil {
		return err
	}
	if _, err := t.evento(ctx, []string{"events", to}, "SavingsAccountOpened", "DepositReceived", "move-1"); err != nil {
		return err
	}
	t.say("Why is the transfer complete? Each message knows its cause; the chain ends at what came from outside.")
	id, err := t.lastEvent(ctx, from, "TransferCompleted")
	if err != nil {
		return err
	}
	_, err = t.evento(ctx, []string{"cause", from, id}, "TransferToSavings", "TransferredToSavings", "ReceiveDeposit", "DepositReceived", "CompleteTransfer", "TransferCompleted")
	return err
}

func refund(ctx context.Context, t *Tour) error {
	t.say("This one goes to an account that nobody has opened. The deposit is refused, the refusal is an event, and the dispatcher gives the money back.")
	from := t.id("checking")
	if _, err := t.evento(ctx, []string{"send", from, "TransferToSavings", "transaction_id=move-2", "destination=savings:nobody-" + t.run, "amount.minor:=700"}, "TransferredToSavings"); err != nil {
		return err
	}
	if err := t.until(ctx, []string{"events", from}, "TransferReturned"); err != nil {
		return err
	}
	_, err := t.evento(ctx, []string{"events", from, "--after", "6"}, "TransferReturned")
	return err
}

func interest(ctx context.Context, t *Tour) error {
	t.say("Events may come from outside. Whoever keeps the calendar publishes that the month has ended; a dispatcher answers with the command to pay interest.")
	to := t.id("savings")
	if _, err := t.evento(ctx, []string{"send", to, "MonthEnded", "--event", "period=2026-10"}, "MonthEnded"); err != nil {
		return err
	}
	if err := t.until(ctx, []string{"events", to}, "InterestPaid"); err != nil {
		return err
	}
	_, err := t.evento(ctx, []string{"events", to, "--after", "2"}, "MonthEnded", "InterestPaid")
	return err
}

func killed(ctx context.Context, t *Tour) error {
	account := t.id("checking")
	before, err := t.Handler()
	if err != nil {
		return err
	}
	t.say(fmt.Sprintf("The function that handles checking accounts is process %d. It will end in the middle of the next call, with the command in its hands.", before))
	if err := t.drill(account + " exit"); err != nil {
		return err
	}
	began := time.Now()
	if _, err := t.evento(ctx, []string{"send", account, "ReceiveDeposit", "transaction_id=t-2", "source=atm:2CF24DBA", "amount.minor:=100", "--wait", "60s"}, "done", "DepositReceived"); err != nil {
		return err
	}
	after, err := t.Handler()
	if err != nil {
		return err
	}
	if after == before {
		return fmt.Errorf("the function has not died: it is still process %d", before)
	}
	t.say(fmt.Sprintf("It is process %d now. The command was kept and called again, and its client has only waited %s.", after, time.Since(began).Round(100*time.Millisecond)))
	return nil
}

func held(ctx context.Context, t *Tour) error {
	account, other := t.id("checking"), "checking:tour-"+t.run+"-b"
	t.say("Now the function fails each time that it is given a command of one account. Such a command is not lost and not skipped: it is tried again, longer and longer apart, and then held. Its account waits; all others go on.")
	if err := t.drill(account + " error the disk is on fire"); err != nil {
		return err
	}
	if _, err := t.evento(ctx, []string{"send", account, "ReceiveDeposit", "transaction_id=t-3", "source=atm:2CF24DBA", "amount.minor:=200", "--id", "d-3", "--no-wait"}); err != nil {
		return err
	}
	if _, err := t.evento(ctx, []string{"send", other, "OpenCheckingAccount", "client=" + t.id("client")}, "done", "CheckingAccountOpened"); err != nil {
		return err
	}
	if err := t.until(ctx, []string{"parked", "list", "--aggregate", account}, "held"); err != nil {
		return err
	}
	if _, err := t.evento(ctx, []string{"parked", "list", "--aggregate", account}, "held"); err != nil {
		return err
	}
	_, output := t.Run(ctx, "parked", "list", "--aggregate", account, "-o", "json")
	var list struct {
		Parked []struct{ Coordinates string }
	}
	if err := json.Unmarshal([]byte(output), &list); err != nil || len(list.Parked) != 1 {
		return fmt.Errorf("one command is to be held: %s", output)
	}
	t.say("The disk is put out, and the command is tried at once, not only at its next turn.")
	if err := t.drill(""); err != nil {
		return err
	}
	if _, err := t.evento(ctx, []string{"parked", "retry", list.Parked[0].Coordinates}); err != nil {
		return err
	}
	if err := t.until(ctx, []string{"get", account, "--command", "d-3"}, "done", "DepositReceived"); err != nil {
		return err
	}
	_, err := t.evento(ctx, []string{"get", account, "--command", "d-3"}, "done", "DepositReceived")
	return err
}
