// Package client is the aggregate Client: a person who has accounts. The accounts
// are aggregates of their own; they and the client know each other by reference.
package client

//go:generate go run github.com/evento-oss/evento/cmd/evento generate --schema ../schemas/Client.avsc --out gen

import (
	"fmt"
	"slices"

	"github.com/evento-oss/evento/examples/bank/client/gen"
	"github.com/evento-oss/evento/runtime"
)

// maxAccounts bounds the state: so many accounts a client may have.
const maxAccounts = 100

// Handler decides what may be done with a client.
type Handler struct{}

// RegisterClient registers a client, once.
func (Handler) RegisterClient(_ runtime.HandlerContext, client *gen.Client, c *gen.RegisterClient) ([]gen.Event, error) {
	switch {
	case client != nil:
		return refuse(c, gen.FailureCodeALREADY_REGISTERED, "the client is registered")
	case c.Name == "":
		return refuse(c, gen.FailureCodeOTHER, "the name is empty")
	case c.Address != nil:
		if why := badAddress(c.Address.Address); why != "" {
			return refuse(c, gen.FailureCodeINVALID_ADDRESS, why)
		}
	}
	return gen.Emit(&gen.ClientRegistered{Name: c.Name, Email: c.Email, Address: c.Address})
}

// ChangeAddress replaces the address.
func (Handler) ChangeAddress(_ runtime.HandlerContext, client *gen.Client, c *gen.ChangeAddress) ([]gen.Event, error) {
	if code, why := usable(client); why != "" {
		return refuse(c, code, why)
	}
	if why := badAddress(c.Address); why != "" {
		return refuse(c, gen.FailureCodeINVALID_ADDRESS, why)
	}
	return gen.Emit(&gen.AddressChanged{Address: c.Address})
}

// LinkAccount takes note of an account that refers to this client. Told again,
// it says so again.
func (Handler) LinkAccount(_ runtime.HandlerContext, client *gen.Client, c *gen.LinkAccount) ([]gen.Event, error) {
	refuse := func(code gen.FailureCode, why string) ([]gen.Event, error) {
		return gen.Refuse(&gen.LinkAccountFailed{Account: c.Account, Code: code, Message: why})
	}
	if code, why := usable(client); why != "" {
		return refuse(code, why)
	}
	if account, err := runtime.ParseEntity(c.Account); err != nil || !account.IsRoot() {
		return refuse(gen.FailureCodeOTHER, fmt.Sprintf("%q is no account", c.Account))
	}
	if len(client.Accounts) >= maxAccounts && !slices.Contains(client.Accounts, c.Account) {
		return refuse(gen.FailureCodeOTHER, fmt.Sprintf("the client has %d accounts", maxAccounts))
	}
	return gen.Emit(&gen.AccountLinked{Account: c.Account})
}

// DeactivateClient ends the business with a client. The event names the accounts,
// because a dispatcher that closes them sees nothing else.
func (Handler) DeactivateClient(_ runtime.HandlerContext, client *gen.Client, c *gen.DeactivateClient) ([]gen.Event, error) {
	if code, why := usable(client); why != "" {
		return refuse(c, code, why)
	}
	return gen.Emit(&gen.ClientDeactivated{Reason: c.Reason, Accounts: client.Accounts})
}

// usable says why nothing can be done; why is empty when something can.
func usable(client *gen.Client) (code gen.FailureCode, why string) {
	switch {
	case client == nil:
		return gen.FailureCodeNOT_REGISTERED, "the client is not registered"
	case !client.Active:
		return gen.FailureCodeNOT_ACTIVE, "the client is deactivated"
	}
	return 0, ""
}

// badAddress says what is wrong with an address; empty when nothing is.
func badAddress(a gen.Address) string {
	if a.Street == "" || a.City == "" || a.Postal_code == "" {
		return "an address has a street, a city and a postal code"
	}
	return ""
}

// refuse answers any command but LinkAccount, whose refusal names the account.
func refuse(c gen.Command, code gen.FailureCode, why string) ([]gen.Event, error) {
	return gen.Refuse(&gen.ClientCommandFailed{Command_type: c.SchemaName(), Code: code, Message: why})
}
