// Package holdings keeps clients and their accounts together: a dispatcher.
//
//	an account was opened        -> LinkAccount to its client
//	ClientDeactivated            -> close each linked account
//	LinkAccount refused, because
//	the client is deactivated    -> close the account that came too late
//
// An account refers to its client; nothing finds the accounts of a client by
// that, and a dispatcher has no memory. So the client is told of each account,
// and the event of its deactivation names them.
//
// An account that holds or owes money refuses to be closed, as it does when
// anybody else asks. The refusal is recorded with it, and the account stays
// usable: a person gives the money to its owner and closes it then.
package holdings

import (
	checking "github.com/evento-oss/evento/examples/bank/checking/gen"
	client "github.com/evento-oss/evento/examples/bank/client/gen"
	credit "github.com/evento-oss/evento/examples/bank/credit/gen"
	savings "github.com/evento-oss/evento/examples/bank/savings/gen"
	"github.com/evento-oss/evento/runtime"
)

// Reactions are what the dispatcher does, and the commands that it may send.
func Reactions() []runtime.Reaction {
	return []runtime.Reaction{
		checking.OnCheckingAccountOpened(func(ctx runtime.DispatcherContext, e *checking.CheckingAccountOpened) ([]runtime.Command, error) {
			return link(ctx.Entity(), e.Client), nil
		}),
		savings.OnSavingsAccountOpened(func(ctx runtime.DispatcherContext, e *savings.SavingsAccountOpened) ([]runtime.Command, error) {
			return link(ctx.Entity(), e.Client), nil
		}),
		credit.OnCreditAccountOpened(func(ctx runtime.DispatcherContext, e *credit.CreditAccountOpened) ([]runtime.Command, error) {
			return link(ctx.Entity(), e.Client), nil
		}),
		client.OnClientDeactivated(deactivated),
		client.OnLinkAccountFailed(linkRefused),
		runtime.Sends(client.Definition()),
		runtime.Sends(checking.Definition()),
		runtime.Sends(savings.Definition()),
		runtime.Sends(credit.Definition()),
	}
}

// link tells a client of its account. What an account says of its client was
// never checked: it may be no reference at all.
func link(account runtime.Entity, of string) []runtime.Command {
	to, err := runtime.ParseEntity(of)
	if err != nil || to.Prefix() != "client" || !to.IsRoot() {
		return nil
	}
	return []runtime.Command{client.Send(to, &client.LinkAccount{Account: string(account)})}
}

func deactivated(_ runtime.DispatcherContext, e *client.ClientDeactivated) ([]runtime.Command, error) {
	var commands []runtime.Command
	for _, account := range e.Accounts {
		commands = append(commands, closing(account, "the client was deactivated: "+e.Reason)...)
	}
	return commands, nil
}

// linkRefused closes an account that was opened for a client who had been
// deactivated. One for a client who is not registered stays: the bank may know
// him later.
func linkRefused(_ runtime.DispatcherContext, e *client.LinkAccountFailed) ([]runtime.Command, error) {
	if e.Code != client.FailureCodeNOT_ACTIVE {
		return nil, nil
	}
	return closing(e.Account, e.Message), nil
}

// closing closes an account of any kind; what is none is let be.
func closing(account, reason string) []runtime.Command {
	to, err := runtime.ParseEntity(account)
	if err != nil || !to.IsRoot() {
		return nil
	}
	var c runtime.Command
	switch to.Prefix() {
	case "checking":
		c = checking.Send(to, &checking.CloseCheckingAccount{Reason: checking.SomeString(reason)})
	case "savings":
		c = savings.Send(to, &savings.CloseSavingsAccount{Reason: savings.SomeString(reason)})
	case "credit":
		c = credit.Send(to, &credit.CloseCreditAccount{Reason: credit.SomeString(reason)})
	default:
		return nil
	}
	return []runtime.Command{c}
}
