package client

import (
	"errors"
	"slices"

	"github.com/evento-oss/evento/examples/bank/client/gen"
	"github.com/evento-oss/evento/runtime"
)

// Aggregator builds a client from its events.
type Aggregator struct{ gen.FailuresIgnored }

// errNotRegistered is an event of a client without the first one: something is wrong with the history.
var errNotRegistered = errors.New("the client has not been registered")

// ClientRegistered is the first event.
func (Aggregator) ClientRegistered(_ runtime.AggregatorContext, client *gen.Client, e *gen.ClientRegistered) (*gen.Client, error) {
	if client != nil {
		return nil, errors.New("the client has been registered before")
	}
	return &gen.Client{Name: e.Name, Email: e.Email, Address: e.Address, Active: true}, nil
}

// AddressChanged replaces the address.
func (Aggregator) AddressChanged(_ runtime.AggregatorContext, client *gen.Client, e *gen.AddressChanged) (*gen.Client, error) {
	if client == nil {
		return nil, errNotRegistered
	}
	client.Address = gen.SomeAddress(e.Address)
	return client, nil
}

// AccountLinked adds an account, unless it is there.
func (Aggregator) AccountLinked(_ runtime.AggregatorContext, client *gen.Client, e *gen.AccountLinked) (*gen.Client, error) {
	if client == nil {
		return nil, errNotRegistered
	}
	if !slices.Contains(client.Accounts, e.Account) {
		client.Accounts = append(client.Accounts, e.Account)
	}
	return client, nil
}

// ClientDeactivated is the last event that changes anything.
func (Aggregator) ClientDeactivated(_ runtime.AggregatorContext, client *gen.Client, _ *gen.ClientDeactivated) (*gen.Client, error) {
	if client == nil {
		return nil, errNotRegistered
	}
	client.Active = false
	return client, nil
}
