// Package transfers moves money between checking and savings accounts: a
// dispatcher, which sees what happened to one account and tells the other.
//
//	TransferredTo... at the source      -> ReceiveDeposit to the destination
//	DepositReceived at the destination  -> CompleteTransfer to the source
//	refused deposit                     -> ReturnTransfer to the source
//
// It remembers nothing. What it needs is in the events: the transaction id, and
// both accounts. Each command is recorded before it is sent and has exactly one
// outcome, so each transfer ends in exactly one of the two ways, whatever crashes.
// Until then the source shows it as under way. So money is never in no place: it
// is in a balance, or under way.
//
// ReturnTransfer is not refused for a transfer that is under way, see there: a
// refund cannot be lost. It is refused for all others, which happens when a
// deposit was sent by somebody who only says that he is an account. Nothing has
// left that account, so nothing comes back: no money is made.
package transfers

import (
	checking "github.com/evento-oss/evento/examples/bank/checking/gen"
	savings "github.com/evento-oss/evento/examples/bank/savings/gen"
	"github.com/evento-oss/evento/runtime"
)

// Reactions are what the dispatcher does, and the commands that it may send.
func Reactions() []runtime.Reaction {
	return []runtime.Reaction{
		checking.OnTransferredToSavings(fromChecking),
		checking.OnDepositReceived(arrivedAtChecking),
		checking.OnReceiveDepositFailed(refusedByChecking),
		savings.OnTransferredToChecking(fromSavings),
		savings.OnDepositReceived(arrivedAtSavings),
		savings.OnSavingsCommandFailed(refusedBySavings),
		runtime.Sends(checking.Definition()),
		runtime.Sends(savings.Definition()),
	}
}

func fromChecking(ctx runtime.DispatcherContext, e *checking.TransferredToSavings) ([]runtime.Command, error) {
	return one(savings.Send(runtime.Entity(e.Destination), &savings.ReceiveDeposit{
		Transaction_id: e.Transaction_id,
		Source:         string(ctx.Entity()),
		Amount:         savings.Money(e.Amount),
	}))
}

func fromSavings(ctx runtime.DispatcherContext, e *savings.TransferredToChecking) ([]runtime.Command, error) {
	return one(checking.Send(runtime.Entity(e.Destination), &checking.ReceiveDeposit{
		Transaction_id: e.Transaction_id,
		Source:         string(ctx.Entity()),
		Amount:         checking.Money(e.Amount),
	}))
}

func arrivedAtChecking(ctx runtime.DispatcherContext, e *checking.DepositReceived) ([]runtime.Command, error) {
	return complete(ctx, e.Source, e.Transaction_id)
}

func arrivedAtSavings(ctx runtime.DispatcherContext, e *savings.DepositReceived) ([]runtime.Command, error) {
	return complete(ctx, e.Source, e.Transaction_id)
}

func refusedByChecking(ctx runtime.DispatcherContext, e *checking.ReceiveDepositFailed) ([]runtime.Command, error) {
	return giveBack(ctx, e.Source, e.Transaction_id, e.Message)
}

// Savings accounts have one failure for all commands; that of a deposit alone has a source.
func refusedBySavings(ctx runtime.DispatcherContext, e *savings.SavingsCommandFailed) ([]runtime.Command, error) {
	return giveBack(ctx, e.Source, e.Transaction_id, e.Message)
}

// complete tells the source that its money has arrived at the event's account.
// Money can come from elsewhere, too; nobody is told then.
func complete(ctx runtime.DispatcherContext, source, transactionID string) ([]runtime.Command, error) {
	from, destination := runtime.Entity(source), string(ctx.Entity())
	switch accountType(source) {
	case "checking":
		return one(checking.Send(from, &checking.CompleteTransfer{Transaction_id: transactionID, Destination: destination}))
	case "savings":
		return one(savings.Send(from, &savings.CompleteTransfer{Transaction_id: transactionID, Destination: destination}))
	}
	return nil, nil
}

// giveBack tells the source that the event's account has refused its money.
func giveBack(ctx runtime.DispatcherContext, source, transactionID, why string) ([]runtime.Command, error) {
	from, destination := runtime.Entity(source), string(ctx.Entity())
	switch accountType(source) {
	case "checking":
		return one(checking.Send(from, &checking.ReturnTransfer{Transaction_id: transactionID, Destination: destination, Reason: why}))
	case "savings":
		return one(savings.Send(from, &savings.ReturnTransfer{Transaction_id: transactionID, Destination: destination, Reason: why}))
	}
	return nil, nil
}

// accountType returns the prefix of an account's reference. A source may be any
// text, such as "atm:1" or "cash"; it is "" for what is no reference.
func accountType(source string) string {
	account, err := runtime.ParseEntity(source)
	if err != nil || !account.IsRoot() {
		return ""
	}
	return account.Prefix()
}

func one(c runtime.Command) ([]runtime.Command, error) { return []runtime.Command{c}, nil }
